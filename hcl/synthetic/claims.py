"""Mark the folders of a generated data set with the options that made it, so that no other videos are mixed in."""

from __future__ import annotations

import shutil
from pathlib import Path

from hcl.errors import DataError
from hcl.files.atomic import write_atomically

_STAMP = "synthetic.json"


def is_claimed(data_root: Path, dataset: str, stamp: str, *, overwrite: bool) -> bool:
    """Return true if the data set's folders have this stamp. Raises DataError if they hold anything else."""
    videos, splits = _folders(data_root, dataset)
    existing = (splits / _STAMP).read_bytes() if (splits / _STAMP).is_file() else b""
    if existing == stamp.encode():
        return True
    taken = next((folder for folder in (videos, splits) if folder.exists() and any(folder.iterdir())), None)
    if taken and not overwrite:
        made_with = existing.decode(errors="replace").strip() or "another program"
        raise DataError(
            f"holds a data set made with {made_with}; requested: {stamp.strip()}",
            where=str(taken),
            remedy="choose another data root, use the same options, or overwrite it (frames extracted from it too)",
        )
    return False


def claim(data_root: Path, dataset: str, stamp: str) -> None:
    """Empty the data set's folders, and write the stamp before any video. Raises OSError and StorageError."""
    for folder in _folders(data_root, dataset):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    write_atomically(_folders(data_root, dataset)[1] / _STAMP, stamp.encode())


def _folders(data_root: Path, dataset: str) -> tuple[Path, Path]:
    return data_root / "videos" / dataset, data_root / "splits" / dataset
