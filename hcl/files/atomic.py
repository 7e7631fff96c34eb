"""Write files and folders that are whole or absent at any moment: the one writer of `hcl` and `orchestration`.

`results`, which may not import this package, has its own for its records (`results.records.files`).
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hcl.errors import StorageError
from hcl.files.disk_errors import storing

PARTIAL = ".partial"
"""Ends the name of a file that is being written."""


@contextmanager
def whole_file(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a file to write: it has a hidden name beside `path` until the block ends, and is removed where that fails.

    Args:
        sync: bring the content to the disk before the file gets its name, so that a machine that goes down leaves the
            old file or the new.

    Raises:
        StorageError: the disk is full, or may not be written.
    """
    partial = partial_of(path)
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                yield file
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Make a folder to fill: it has a hidden name beside `path` until the block ends, and is removed where that fails.

    Raises:
        StorageError: the disk is full, or may not be written; it names `path`, whatever file in it was refused.
    """
    partial = partial_of(path)
    try:
        with storing(path):
            partial.mkdir(parents=True)
            yield partial
            os.rename(partial, path)
    except StorageError as error:
        if not str(error.where).startswith(str(partial)):
            raise
        raise StorageError(error.problem, where=str(path), remedy=error.remedy) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_atomically(path: Path, content: bytes, *, sync: bool = True) -> Path:
    """Write `content` as a whole file. Raises StorageError, as `whole_file`."""
    with whole_file(path, sync=sync) as file:
        file.write(content)
    return path


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    """Write one line each, with a last newline. Raises StorageError."""
    return write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, before something is removed that they replace. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of file systems that know it for files alone
            raise
    finally:
        os.close(descriptor)


def publish_folder(partial: Path, destination: Path) -> None:
    """Move a finished folder to its place and remove the one that stands there. Raises OSError."""
    for attempt in range(10):
        discard_folder(destination)
        try:
            return os.rename(partial, destination)
        except OSError:
            # A process of a killed run may have put its own folder there in between.
            if attempt == 9 or not (destination.exists() and partial.exists()):
                raise
    return None


def discard_folder(folder: Path) -> None:
    """Remove a folder; the first step is a rename, so that no half of it is ever seen, or renamed back."""
    doomed = partial_of(folder)
    try:
        os.rename(folder, doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def partial_of(path: Path) -> Path:
    """Return a hidden sibling's path, on the same file system; file systems bound a name's length, so it is cut."""
    return path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}{PARTIAL}")
