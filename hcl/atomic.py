"""Files that are whole or absent at any moment."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from hcl.errors import StorageError


def write_atomically(path: Path, content: bytes) -> Path:
    """Write under a hidden name beside `path`, then rename. Raises StorageError."""
    partial = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise
    except OSError as error:
        raise StorageError(
            f"cannot be written: {error.strerror or error}", where=str(path), remedy="check permissions and space"
        ) from error
    return path


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    """One line each, with a last newline. Raises StorageError."""
    return write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
