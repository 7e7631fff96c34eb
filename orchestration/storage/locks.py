"""Locks that die with their process: one command a run, one writer of its checkpoints."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from hcl.errors import StorageError
from hcl.files.disk_errors import remedy_for, storing
from orchestration.runtime.mounts import is_in_bucket, lock_here
from orchestration.storage.claims import claimed, is_free, signature


def lock_of(folder: Path) -> Path:
    """The lock of a run or a study: beside its folder, which --restart deletes, and hidden."""
    folder = folder.absolute()
    return folder.parent / f".{folder.name}.lock"


@contextmanager
def held(path: Path, *, what: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock of a file for the duration of a block; the file is gone afterwards.

    The system lets go of it when the process ends, however it ends, and child processes do not inherit it. On a network
    file system it holds among hosts where that file system passes POSIX locks on; in a bucket, by a claim. The file
    says who holds it.

    Args:
        what: what the lock is for, for the message.
        wait_s: how long another holder may take to let go.

    Raises:
        StorageError: another process holds it, which is named, or it cannot be written.
    """
    deadline = time.monotonic() + wait_s
    if is_in_bucket(path):
        with _held(lock_here(path), what, deadline), _claim(path, what, deadline):
            yield
    else:
        with _held(path, what, deadline):
            yield


def holder(path: Path) -> str | None:
    """Who holds the lock of a file, in words; None where nobody does. Not for the process that holds it."""
    if is_in_bucket(path):
        return holder(lock_here(path)) or (None if is_free(path, time.monotonic()) else _holder(path))
    if not path.exists():
        return None
    file = _try(path)
    if file is None:
        return _holder(path)
    file.close()
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
                os.write(file.fileno(), signature().encode())
            yield
        finally:
            path.unlink(missing_ok=True)  # before closing, which lets go


@contextmanager
def _claim(path: Path, what: str, deadline: float) -> Iterator[None]:
    """Among hosts; on this one it is locked already."""
    if not is_free(path, deadline):
        raise _under_way(path, what)
    with claimed(path) as is_ours:
        if not is_ours:
            raise _under_way(path, what)
        yield


def _under_way(path: Path, what: str) -> StorageError:
    return StorageError(
        f"{what} is under way already, by {_holder(path)}",
        where=str(path.parent),
        remedy="wait until it has ended, or end it",
    )


def _holder(path: Path) -> str:
    with suppress(OSError):
        return path.read_text().partition("\n")[0] or "another process"
    return "a process that has just ended"


def _try(path: Path) -> TextIO | None:
    """The file with its lock; None where another process has it."""
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
        if path.stat().st_ino == os.fstat(file.fileno()).st_ino:  # not one that its last holder has just removed
            return file
    file.close()
    return None
