"""Archives of named arrays: whole or absent, checksummed, without pickle."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from hcl.errors import StorageError


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], *, compress: bool = False) -> None:
    """Write under another name, then rename. Raises StorageError."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    save = np.savez_compressed if compress else np.savez
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            save(file, **dict(arrays))  # type: ignore[arg-type]
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise StorageError(
            f"cannot be written: {error.strerror or error}",
            where=str(path),
            remedy="free space or choose another place, then repeat the command",
        ) from error


def load_arrays(path: Path, *, remedy: str) -> dict[str, np.ndarray]:
    """What `save_arrays` wrote. Raises StorageError for a file that is missing, damaged or holds objects."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive}
            if other := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
                raise ValueError(f"{other[0]!r} is no array")
            return arrays
    except Exception as error:  # zipfile, zlib, struct and NumPy have each their own for damage
        reason = getattr(error, "strerror", None) or str(error) or "it is empty"
        raise StorageError(f"cannot be read: {reason}", where=str(path), remedy=remedy) from error
