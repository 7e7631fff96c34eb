"""Store Optuna's journal in a file of whole lines, and name the line where the file is damaged.

Studies may share a journal. Lines are in the order of writing. A line is written under a lock among processes and
reaches the disk completely or not at all, so that neither a full disk nor a process that was killed while writing
damages later lines.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileOpenLock

from hcl.errors import ConfigError, StorageError
from hcl.files.disk_errors import storing

_LONGEST_LINE = 1 << 24
_STALE_LOCK_S = 5  # a line takes milliseconds to write
_SQLITE = b"SQLite format 3\0"


class Journal(BaseJournalBackend):
    """Read and append the lines of a journal.

    Attributes:
        line: the number of the last line read.
    """

    def __init__(self, path: Path):
        self.path, self.line = path, 0
        self._lock = JournalFileOpenLock(str(path), grace_period=_STALE_LOCK_S)
        self._offsets = [0]  # start of each line that was read, and of the next one

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield the lines from a number on; an incomplete last line is left for later.

        Raises StorageError, which names a line that Optuna has not written.
        """
        with _reading(self.path), self.path.open("rb") as file:
            file.seek(self._offsets[log_number_from])
            for number, line in enumerate(file, start=log_number_from + 1):
                if not line.endswith(b"\n"):
                    return
                log = _parsed(line, number, self.path)
                if number == len(self._offsets):
                    self._offsets.append(self._offsets[-1] + len(line))
                self.line = number
                yield log

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines. Raises StorageError, and leaves nothing of them behind."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with storing(self.path), self._locked(), open(self.path, "ab+", opener=_open_existing) as file:
            end = _drop_half_a_line(file)
            try:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    os.ftruncate(file.fileno(), end)
                raise

    def create(self) -> None:
        """Create the file if it is missing. Raises StorageError."""
        with storing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("ab").close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock.acquire()
        try:
            yield
        finally:
            with suppress(RuntimeError):  # another process took the lock, because it held this process for dead
                self._lock.release()


def replayed(journal: Journal) -> JournalStorage:
    """Return the storage that results from a journal's lines. Raises StorageError, which names a wrong line."""
    try:
        return JournalStorage(journal)
    except StorageError:
        raise
    except Exception as error:  # a replay fails in as many ways as a line can be wrong
        raise _damaged(journal.path, journal.line, f"does not follow from those before it ({error!r:.100})") from error


def check_journal(path: Path) -> None:
    """Check a file that should be a journal; a missing file is accepted.

    Raises:
        ConfigError: if it is a folder or a database.
        StorageError: if a line is damaged, or the file cannot be read.
    """
    if path.is_dir():
        raise ConfigError(
            "is a folder, not a journal", where=str(path), remedy=f"name a file in it: {path / 'studies.journal'}"
        )
    if not path.exists():
        return
    with _reading(path), path.open("rb") as file:
        is_database = file.read(len(_SQLITE)) == _SQLITE
    if is_database:
        raise ConfigError(
            "is a database, not a journal", where=str(path), remedy=f"use its URL: sqlite:///{path.absolute()}"
        )
    replayed(Journal(path))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise StorageError for an OSError of the block."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot be read: {error.strerror}", where=str(path), remedy="check its permissions and its disk"
        ) from error


def _open_existing(path: str, flags: int) -> int:
    """Open a file to append to it; a removed file is not created again."""
    return os.open(path, flags & ~os.O_CREAT)


def _drop_half_a_line(file: BinaryIO) -> int:
    """Cut off an incomplete line that a killed process has left, and return where the next line starts."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _LONGEST_LINE)
    file.seek(start)
    whole, newline, _ = file.read().rpartition(b"\n")
    end = start + len(whole) + len(newline)
    if end < size:
        file.truncate(end)
    return end


def _parsed(line: bytes, number: int, path: Path) -> dict[str, Any]:
    if not line.strip():
        raise StorageError(
            f"is not a study's journal: line {number} is blank, which Optuna never writes",
            where=str(path),
            remedy="an editor or a copy may have added it; remove that line: "
            f"sed -i {number}d {shlex.quote(str(path))}",
        )
    try:
        log = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, number, f"is not JSON ({error!s:.100})") from error
    if not isinstance(log, dict) or "op_code" not in log:
        raise _damaged(path, number, "is not one of Optuna's")
    return log


def _damaged(path: Path, number: int, what: str) -> StorageError:
    return StorageError(
        f"is not a study's journal: line {number} {what}",
        where=str(path),
        remedy="restore the file from a backup, or look at that line and remove it if Optuna did not write it "
        f"(sed -n {number}p); a study whose journal lies in its folder may start over with --restart",
    )
