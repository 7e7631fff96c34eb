"""Test that every command, option and argument has a text in its --help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from orchestration.cli import app


def _walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    if isinstance(command, TyperGroup):
        for name, one in command.commands.items():
            yield from _walk(one, f"{path} {name}")


COMMANDS = dict(_walk(typer.main.get_command(app), "hcl"))
PARAMETERS = {
    f"{path} {parameter.opts[-1]}": parameter
    for path, command in COMMANDS.items()
    for parameter in command.params
    if parameter.name not in ("help", "install_completion", "show_completion")
}


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_says_what_it_does(path: str) -> None:
    text = (COMMANDS[path].help or "").strip()
    assert len(text) > 15 and text.split("\n\n")[0].rstrip().endswith((".", ")"))


@pytest.mark.parametrize("path", PARAMETERS)
def test_every_option_and_argument_says_what_it_means(path: str) -> None:
    text = (getattr(PARAMETERS[path], "help", None) or "").strip()
    assert len(text) > 5, f"{path}: {text!r}"
