"""Test the text of every --help: each command, option and argument is explained, and each command has examples.

A terminal of 80 columns shows all of it. An example is a command that exists, with names that exist.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.core import TyperArgument, TyperGroup
from typer.testing import CliRunner

from hcl.config.overrides import parse_overrides
from hcl.config.resolve import shipped_experiments
from hcl.config.values import check_value
from orchestration.cli import app
from orchestration.cli.shell.help_texts import parts_of
from orchestration.evaluation.methods import METHODS
from orchestration.storage.places import ELSEWHERE
from search_spaces import shipped_spaces


def _walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    if isinstance(command, TyperGroup):
        for name, one in command.commands.items():
            yield from _walk(one, f"{path} {name}")


PROGRAM: Any = typer.main.get_command(app)
COMMANDS = dict(_walk(PROGRAM, "hcl"))
PARAMETERS = {
    f"{path} {parameter.opts[-1]}": parameter
    for path, command in COMMANDS.items()
    for parameter in command.params
    if parameter.name not in ("help", "install_completion", "show_completion")
}
RUNNABLE = [path for path, command in COMMANDS.items() if not isinstance(command, TyperGroup)]


def examples_of(path: str) -> list[str]:
    """Return the examples of a command as it shows them."""
    return (COMMANDS[path].epilog or "").replace("\\[", "[").splitlines()[1:]


def parsed(words: list[str]) -> typer.Context:
    """Return the context of a command line without running it. Raises Typer's errors, as in a shell."""
    command, context = PROGRAM, typer.Context(PROGRAM, info_name="hcl", obj=ELSEWHERE)
    while isinstance(command, TyperGroup):
        name, command, words = command.resolve_command(context, words)
        if isinstance(command, TyperGroup):
            context = typer.Context(command, info_name=name, parent=context)
    return command.make_context(name, words, parent=context)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_says_what_it_does(path: str) -> None:
    text = (COMMANDS[path].help or "").strip()
    assert len(text) > 15 and text.split("\n\n")[0].rstrip().endswith((".", ")"))


@pytest.mark.parametrize("path", PARAMETERS)
def test_every_option_and_argument_says_what_it_means(path: str) -> None:
    text = (getattr(PARAMETERS[path], "help", None) or "").strip()
    assert len(text) > 5, f"{path}: {text!r}"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_help_ends_with_examples_and_fits_80_columns(path: str) -> None:
    shown = CliRunner().invoke(app, [*path.split()[1:], "--help"], env={"COLUMNS": "80"}).output
    lines = [line.rstrip() for line in shown.rstrip().splitlines()]
    assert max(map(len, lines)) <= 80
    examples = examples_of(path)
    assert 1 <= len(examples) <= 3
    assert lines[-len(examples) - 1 :] == [" Examples:", *(f" {example}" for example in examples)]
    for parameter in COMMANDS[path].params:
        if not isinstance(parameter, TyperArgument):
            for name in (*parameter.opts, *parameter.secondary_opts):
                assert any(name in line.replace("│", " ").split() for line in lines), f"{name} is cut off"
    assert "…" not in shown


@pytest.mark.parametrize("path", RUNNABLE)
def test_every_example_is_a_command_that_can_be_typed(path: str) -> None:
    for example in examples_of(path):
        words = shlex.split(example)
        assert example.startswith(path), f"an example of another command: {example}"
        check_names(parsed(words[1:]).params)


def check_names(parameters: dict[str, Any]) -> None:
    """Assert that the names of a command line exist: experiments, spaces, methods, settings and their values."""
    for experiment in filter(None, (parameters.get("experiment"), parameters.get("fits"))):
        is_own = str(experiment).endswith(".yaml") or parameters.get("status")
        assert is_own or str(experiment) in shipped_experiments(), experiment
    assert parameters.get("space") in (None, *shipped_spaces())
    assert set(parameters.get("method") or ()) <= set(METHODS)
    for setting, value in parse_overrides(parameters.get("settings") or ()).items():
        check_value(setting, value, "--set")


@pytest.mark.parametrize(
    ("example", "problem"),
    [
        ("hcl trian hcl", "No such command"),
        ("hcl train hcl --epoch 3", "No such option"),
        ("hcl data splits make mine", "Missing parameter: source"),
    ],
)
def test_a_wrong_example_is_found(example: str, problem: str) -> None:
    with pytest.raises(Exception, match=problem):
        parsed(shlex.split(example)[1:])


@pytest.mark.parametrize("parameters", [{"experiment": "hclx"}, {"space": "simga"}, {"method": ["hlc"]}])
def test_a_wrong_name_in_an_example_is_found(parameters: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        check_names(parameters)


def test_paragraphs_lose_their_line_breaks_and_examples_keep_theirs() -> None:
    text, examples = parts_of("Do this.\n\nIt takes\nlong.\n\n\b\nhcl a\nhcl b --set x=[1]")
    assert text == "Do this.\n\nIt takes long."
    assert examples == ["hcl a", "hcl b --set x=[1]"]
