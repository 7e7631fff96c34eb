"""Hold locks that end with their process: one command for a run, one writer of its checkpoints."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TextIO

from hcl.errors import StorageError
from hcl.files.disk_errors import remedy_for, storing
from orchestration.runtime.mounts import is_in_bucket, lock_here
from orchestration.storage.claims import claimed, details, is_free, signature

_LOOK_S = 0.5
"""How long `held` tries at least, because `holder` has the lock for a moment while it looks at it."""


class Holder(NamedTuple):
    """Describe the process that holds a lock.

    Attributes:
        process: process and host, such as `process 12 on node7`.
        user: the name of its user; empty if an earlier version wrote the file.
        since: the time from which it holds the lock, UTC, ISO 8601; empty likewise.
    """

    process: str
    user: str = ""
    since: str = ""

    def __str__(self) -> str:
        return self.process


def lock_of(folder: Path) -> Path:
    """Return the lock file of a run or a study: a hidden file beside its folder, which --restart may delete."""
    folder = folder.absolute()
    return folder.parent / f".{folder.name}.lock"


@contextmanager
def held(path: Path, *, what: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock of a file for the duration of a block; the file is removed afterwards.

    The system releases it when the process ends, however it ends, and child processes do not inherit it. On a network
    file system it holds among hosts if that file system supports POSIX locks; in a bucket, by a claim. The file names
    the holder.

    Args:
        what: the purpose of the lock, for messages.
        wait_s: how long to wait for another holder to release it.

    Raises:
        StorageError: if another process holds it, which is named, or it cannot be written.
    """
    deadline = time.monotonic() + max(wait_s, _LOOK_S)
    if is_in_bucket(path):
        with _held(lock_here(path), what, deadline), _claim(path, what, deadline):
            yield
    else:
        with _held(path, what, deadline):
            yield


def holder(path: Path) -> Holder | None:
    """Return the holder of a file's lock; None if there is none. Not for the process that holds it.

    Nothing is written: the file may be in a folder of another user, or on storage of another machine.
    """
    if is_in_bucket(path):
        return holder(lock_here(path)) or (None if is_free(path, time.monotonic()) else last_holder(path))
    return last_holder(path) if _is_locked(path) else None


def last_holder(path: Path) -> Holder | None:
    """Return the process that a lock's file names, even if that was killed; None if there is no such file."""
    with suppress(OSError, UnicodeError):
        process, _, rest = path.read_text().partition("\n")
        named = _DETAILS.search(rest)
        return Holder(process or "another process", *(named.groups() if named else ()))
    return None


@contextmanager
def _held(path: Path, what: str, deadline: float) -> Iterator[None]:
    while (file := _try(path)) is None:
        if time.monotonic() >= deadline:
            raise _under_way(path, what)
        time.sleep(0.1)
    with file:
        try:
            with storing(path):
                file.truncate(0)
                os.write(file.fileno(), f"{signature()}\n{details()}\n".encode())
            yield
        finally:
            path.unlink(missing_ok=True)  # before closing, which releases the lock


@contextmanager
def _claim(path: Path, what: str, deadline: float) -> Iterator[None]:
    """Claim the file among hosts; on this host it is locked already."""
    if not is_free(path, deadline):
        raise _under_way(path, what)
    with claimed(path) as is_ours:
        if not is_ours:
            raise _under_way(path, what)
        yield


def _under_way(path: Path, what: str) -> StorageError:
    return StorageError(
        f"{what} is already running, by {last_holder(path) or 'a process that has just ended'}",
        where=str(path.parent),
        remedy="wait until it has ended, or stop it",
    )


def _is_locked(path: Path) -> bool:
    """Return whether another process has the lock of a file, which is read only."""
    try:
        file = path.open()
    except OSError:
        return False
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EAGAIN, errno.EACCES)
    return False


def _try(path: Path) -> TextIO | None:
    """Return the file with its lock; None if another process has it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise StorageError(
            f"cannot be written: {error.strerror}", where=str(path), remedy=f"{remedy_for(error)} (--runs, --data)"
        ) from error
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise StorageError(
            f"cannot be locked: {error.strerror}",
            where=str(path),
            remedy="mount its file system with locks (NFS: lockd or version 4; Lustre: -o flock)",
        ) from error
    with suppress(FileNotFoundError):
        if path.stat().st_ino == os.fstat(file.fileno()).st_ino:  # the last holder may have just removed this file
            return file
    file.close()
    return None


_DETAILS = re.compile(r"^user (.+) since (\S+)$", re.MULTILINE)
