"""Show the progress of long work: bars on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orchestration.runtime import meters

_LINE_S = 5.0


@contextmanager
def progress(total: int, description: str, unit: str) -> Iterator[Callable[..., None]]:
    """Yield a function to call for each finished `unit` (or with their number), which shows rate and remaining time."""
    with phases({description: (total, unit)}) as advance:
        yield lambda n=1: advance(description, n)


@contextmanager
def phases(work: Mapping[str, tuple[int, str]]) -> Iterator[Callable[[str, int], None]]:
    """Show work in several phases; yield a function to call with a phase's name and the number of finished units.

    A terminal shows a bar for each phase; a job's log gets a line every few seconds. Both go to standard error.

    Args:
        work: total and unit of each phase; phases without work are not shown.
    """
    console = Console(stderr=True)
    began, n_done = dict.fromkeys(work, 0.0), dict.fromkeys(work, 0)
    last = last_line = time.monotonic()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )

    def advance(phase: str, n: int = 1) -> None:
        nonlocal last, last_line
        total, unit = work[phase]
        now = time.monotonic()
        began[phase] = began[phase] or last  # when the phase before it ended
        last = now
        n_done[phase] += n
        meters.items(phase, unit, n)
        done, took = n_done[phase], max(now - began[phase], 1e-9)
        rate = done / took
        bar.update(tasks[phase], advance=n, rate=f"{rate:.1f} {unit}/s")
        if not console.is_terminal and (now - last_line >= _LINE_S or done >= total):
            left = f", {max(0, total - done) / rate:.0f} s left" if done < total else f" in {took:.0f} s"
            print(f"{phase}: {done} of {total} {unit}, {rate:.1f} {unit}/s{left}", file=sys.stderr, flush=True)
            last_line = now

    with bar:
        tasks = {
            phase: bar.add_task(escape(phase), total=total, rate="", visible=total > 0)
            for phase, (total, _) in work.items()
        }
        yield advance
