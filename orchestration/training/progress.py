"""Watch a run's files from the driver while workers write them: new epochs, and the progress of the current one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import results
from orchestration.runtime.notices import tell_notices
from orchestration.training.run import Run
from orchestration.training.run_files import PROGRESS


@contextmanager
def watching(
    run: Run,
    on_epoch: Callable[[dict[str, Any]], None] | None,
    on_progress: Callable[[dict[str, Any]], None] | None,
) -> Iterator[None]:
    """Pass each new row of the run's metrics, and the progress of the epoch, to the callbacks while workers write them.

    A row also counts as new if its epoch has been trained again.
    """
    stop = threading.Event()
    seen: dict[int, str] = {row["epoch"]: _values(row) for row in _rows(run)}

    def look() -> None:
        for row in _rows(run):
            if seen.get(row["epoch"]) != _values(row):
                seen[row["epoch"]] = _values(row)
                if on_epoch is not None:
                    on_epoch(row)

    def watch() -> None:
        while not stop.wait(1.0):
            look()
            tell_notices(run.runs)
            if on_progress is not None:
                with suppress(OSError, ValueError):
                    on_progress(json.loads((run.folder / PROGRESS).read_text()))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        look()
        (run.folder / PROGRESS).unlink(missing_ok=True)


def _rows(run: Run) -> list[dict[str, Any]]:
    with suppress(results.RecordError):
        return results.read_epochs(run.folder)
    return []


def _values(row: dict[str, Any]) -> str:
    """Return a row as text for comparison: columns of later epochs change nothing, and NaN equals NaN."""
    return repr({name: value for name, value in row.items() if value is not None})
