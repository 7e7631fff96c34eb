"""Show the states of runs and studies: once, or until Ctrl-C as a table that changes or a line for each change."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.box import SIMPLE_HEAD
from rich.live import Live
from rich.markup import escape
from rich.table import Table

import results
from orchestration.console import out
from orchestration.state.study_state import State

_COLOURS = {"running": "green", "failed": "red", "stopped": "yellow"}


def show(states: Sequence[State]) -> None:
    """Print a line for each run and study."""
    for state in states:
        out.print(_line(state), soft_wrap=True, highlight=False)


def watch(look: Callable[[], Sequence[State]], every: float) -> None:
    """Show the states until the command is interrupted.

    A terminal gets a table that is drawn again where something has changed. Elsewhere, such as in a file, each state is
    printed once, and again when it has changed; steps within an epoch are no change there.

    Args:
        look: reads the present states.
        every: seconds between two looks.
    """
    if out.is_terminal:
        _watch_in_terminal(look, every)
    else:
        _watch_as_lines(look, every)


def states_table(states: Sequence[State]) -> Table:
    """Return a table with a row for each run and study."""
    table = Table("name", "state", box=SIMPLE_HEAD)
    for state in states:
        table.add_row(escape(state.name), _coloured(state, state.text()))
    return table


def _watch_in_terminal(look: Callable[[], Sequence[State]], every: float) -> None:
    shown: list[State] | None = None
    with Live(console=out, auto_refresh=False) as live:
        while True:
            states = list(look())
            if states != shown:
                live.update(states_table(states), refresh=True)
                shown = states
            time.sleep(every)


def _watch_as_lines(look: Callable[[], Sequence[State]], every: float) -> None:
    shown: dict[str, str] = {}
    while True:
        texts = {state.name: state.text(steps=False) for state in look()}
        for name in [name for name in shown if name not in texts]:
            _tell_change(name, "gone")
        for name, text in texts.items():
            if shown.get(name) != text:
                _tell_change(name, text)
        shown = texts
        time.sleep(every)


def _tell_change(name: str, text: str) -> None:
    out.print(f"{results.now()} {name}: {text}", soft_wrap=True, highlight=False, markup=False)
    out.file.flush()  # a pipe's reader sees each change at once


def _line(state: State) -> str:
    return f"{escape(state.name)}: {_coloured(state, state.text())}"


def _coloured(state: State, text: str) -> str:
    """Return the text for rich, whose first occurrence of the status has its colour."""
    colour = _COLOURS.get(state.status, "")
    before, status, after = text.partition(state.status)
    return f"{escape(before)}[{colour}]{status}[/]{escape(after)}" if colour else escape(text)
