"""A command takes a group of options as one value; its command line does not show that there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from orchestration.cli.option_groups import with_groups


@dataclass(frozen=True)
class Paint:
    colour: Annotated[str, typer.Option(help="Of the wall.", rich_help_panel="Paint")] = "white"
    coats: Annotated[int, typer.Option(min=1, help="One upon the other.")] = 2
    matt: Annotated[bool, typer.Option("--matt", help="Without gloss.")] = False


def run(*words: str) -> tuple[int, list[object]]:
    """Run a command with a group; its exit status, and what it got."""
    got: list[object] = []
    app = typer.Typer()

    @app.command()
    @with_groups
    def paint(room: str, paint: Paint, height: float = 2.5) -> None:
        """Paint a room."""
        got.extend([room, paint, height])

    return CliRunner().invoke(app, list(words)).exit_code, got


def test_a_group_is_filled_from_options_and_defaults() -> None:
    assert run("hall") == (0, ["hall", Paint(), 2.5])
    words = ("hall", "--coats", "3", "--matt", "--height", "2")
    assert run(*words) == (0, ["hall", Paint(coats=3, matt=True), 2.0])


def test_the_checks_of_an_option_hold() -> None:
    assert run("hall", "--coats", "0") == (2, [])
    assert run("hall", "--paint", "x") == (2, [])


def test_options_stand_in_the_place_of_their_group() -> None:
    @with_groups
    def paint(room: str, group: Paint, height: float = 2.5) -> None:
        """Paint a room."""

    app = typer.Typer()
    app.command()(paint)
    command = typer.main.get_command(app)
    assert [parameter.name for parameter in command.params][:5] == ["room", "colour", "coats", "matt", "height"]
    assert command.params[1].rich_help_panel == "Paint" and command.help == "Paint a room."


def test_an_option_cannot_be_in_two_places() -> None:
    def paint(colour: str, group: Paint) -> None: ...

    with pytest.raises(ValueError, match="duplicate parameter name: 'colour'"):
        with_groups(paint)
