"""Save and load archives of named arrays: atomic, with checksums, without pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hcl.errors import StorageError
from hcl.files.archives import opened_archive
from hcl.files.atomic import whole_file


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], *, compress: bool = False) -> None:
    """Write arrays atomically, without fsync because they can be recomputed after a crash. Raises StorageError."""
    save = np.savez_compressed if compress else np.savez
    with whole_file(path, sync=False) as file:
        save(file, **dict(arrays))  # type: ignore[arg-type]


def load_arrays(path: Path, *, remedy: str) -> dict[str, np.ndarray]:
    """Read a file of `save_arrays`. Raises StorageError if it is missing, damaged or holds objects."""
    try:
        with opened_archive(path) as archive:
            return {member.removesuffix(".npy"): _array(archive, member) for member in archive.namelist()}
    except Exception as error:  # zipfile, zlib, struct and NumPy raise different types for damage
        reason = getattr(error, "strerror", None) or str(error) or "it is empty"
        raise StorageError(f"cannot be read: {reason}", where=str(path), remedy=remedy) from error


def _array(archive: zipfile.ZipFile, member: str) -> np.ndarray:
    """Read a member to its end, because zipfile verifies the checksum only there and NumPy may stop before."""
    with archive.open(member) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)  # type: ignore[arg-type]
        if stream.read(1):
            raise ValueError(f"{member!r} is longer than its array")
    return array
