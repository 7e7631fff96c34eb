"""Lock the frames of a data set, so that one command at a time changes them."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hcl.errors import StorageError
from hcl.files.disk_errors import remedy_for


@contextmanager
def exclusive(images_root: Path) -> Iterator[None]:
    """Create the images folder, verify that it is writable, and lock it against other commands on this machine.

    The lock ends with the process, even if it is killed.

    Raises:
        StorageError: the folder is not writable, or another command holds the lock.
    """
    try:
        images_root.mkdir(parents=True, exist_ok=True)
        probe = images_root / f".{uuid.uuid4().hex}.partial"
        probe.mkdir()
        probe.rmdir()
        folder = os.open(images_root, os.O_RDONLY)
    except OSError as error:
        raise StorageError(
            f"frames cannot be written: {error.strerror or error}", where=str(images_root), remedy=remedy_for(error)
        ) from error
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                "another command extracts, packs or unpacks this dataset",
                where=str(images_root),
                remedy="wait until it ends",
            ) from error
        yield
    finally:
        os.close(folder)
