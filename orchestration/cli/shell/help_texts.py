"""Lay out the text of each `--help` for any width: paragraphs that a terminal wraps, and examples below the options.

A command's docstring is its help. The paragraph that follows a line with `\\b` holds its examples, a command a line.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import typer
from rich.markup import escape

_EXAMPLES = "\b\n"


def lay_out(app: typer.Typer) -> None:
    """Set the help and the examples of all commands; a group shows the first example of its first three commands."""
    for command in app.registered_commands:
        command.help, examples = parts_of(inspect.getdoc(command.callback) or "")
        command.epilog = _shown(examples)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            lay_out(group.typer_instance)
    app.info.epilog = _shown(list(_first_examples(app))[:3])


def parts_of(docstring: str) -> tuple[str, list[str]]:
    """Return the paragraphs of a docstring without their line breaks, and its examples."""
    paragraphs = docstring.split("\n\n")
    texts = [" ".join(text.split()) for text in paragraphs if not text.startswith(_EXAMPLES)]
    examples = [line for text in paragraphs if text.startswith(_EXAMPLES) for line in text.splitlines()[1:]]
    return "\n\n".join(texts), examples


def _first_examples(app: typer.Typer) -> Iterator[str]:
    for command in app.registered_commands:
        yield from parts_of(inspect.getdoc(command.callback) or "")[1][:1]
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _first_examples(group.typer_instance)


def _shown(examples: list[str]) -> str | None:
    """Return the examples as Typer prints them: it keeps line breaks, and takes brackets for markup."""
    return "\n".join(["Examples:", *map(escape, examples)]) if examples else None
