"""Collect warnings of processes whose output nobody sees, as small files under the runs, and print them.

`hcl` and this package warn through `logging`. Ray's workers and their loader processes do not write to the terminal,
and only files reach the command from every node.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hcl.errors import StorageError
from hcl.files.atomic import write_atomically
from orchestration.console import notes

_WARNING = ".txt"


def keep_notices(runs: Path) -> None:
    """Write warnings of this process, and of those that it forks, to files under `runs`."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        for handler in [handler for handler in logger.handlers if isinstance(handler, _Keeping)]:
            logger.removeHandler(handler)
        logger.addHandler(_Keeping(_folder(runs)))


def tell_notices(runs: Path) -> None:
    """Print the warnings that have arrived, and remove their files."""
    for path in sorted(_folder(runs).glob(f"*{_WARNING}")):
        with suppress(OSError):  # another command may print it at the same moment
            text = path.read_text(encoding="utf-8", errors="replace")
            path.unlink()
            notes.print(f"note: {text}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def telling_notices(runs: Path) -> Iterator[None]:
    """Print the warnings of all processes that work under `runs` when the block ends, however it ends."""
    keep_notices(runs)
    try:
        yield
    finally:
        tell_notices(runs)


class _Keeping(logging.Handler):
    def __init__(self, folder: Path):
        super().__init__(logging.WARNING)
        self.folder = folder

    def emit(self, record: logging.LogRecord) -> None:
        path = self.folder / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}{_WARNING}"
        with suppress(StorageError):  # nothing depends on a notice
            write_atomically(path, record.getMessage().encode("utf-8", "backslashreplace"))


def _folder(runs: Path) -> Path:
    return Path(runs) / "cache" / "notices"


_LOGGERS = ("hcl", "orchestration")
