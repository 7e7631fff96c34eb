"""Files and folders that are whole or absent at any moment."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hcl.files.disk_errors import storing

PARTIAL = ".partial"
"""Ends the name of a file that is being written."""


@contextmanager
def whole_file(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """A file to write: under a hidden name beside `path` until the block ends, and gone where it fails.

    Args:
        sync: the content reaches the disk before the name does, so that a machine that goes down leaves the old file
            or the new.
    Raises:
        StorageError: the disk is full, or may not be written.
    """
    partial = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}{PARTIAL}")
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


def write_atomically(path: Path, content: bytes) -> Path:
    """`content` as a whole file. Raises StorageError."""
    with whole_file(path) as file:
        file.write(content)
    return path


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    """One line each, with a last newline. Raises StorageError."""
    return write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, for what is to be removed only after that. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of file systems that know it for files alone
            raise
    finally:
        os.close(descriptor)


def publish_folder(partial: Path, destination: Path) -> None:
    """Put a finished folder in its place; one that stands there goes. Raises OSError."""
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
    """A hidden sibling, on the same file system; the name is cut because file systems bound its length."""
    return path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}.partial")
