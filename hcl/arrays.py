"""Archives of named arrays: whole or absent, checksummed, without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hcl.atomic import whole_file
from hcl.errors import StorageError


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], *, compress: bool = False) -> None:
    """Write whole or not at all; what a machine that goes down has lost is made again. Raises StorageError."""
    save = np.savez_compressed if compress else np.savez
    with whole_file(path, sync=False) as file:
        save(file, **dict(arrays))  # type: ignore[arg-type]


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
