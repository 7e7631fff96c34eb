"""Backbone features of a whole partition on disk: with a frozen backbone every frame is encoded once, ever.

A store is one half-precision array (clip, view, frame, channel, row, column), memory-mapped, beside a JSON file that is
written last: a store without it is not whole.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hcl.clips import Draw
from hcl.errors import DataError, StorageError


class GridStore:
    """Grids of one partition under one folder.

    Args:
        folder: named by a digest of everything that the grids depend on.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._array: np.ndarray | None = None

    @property
    def _data(self) -> Path:
        return self.folder / "grids.npy"

    @property
    def _whole(self) -> Path:
        return self.folder / "grids.json"

    def is_whole(self) -> bool:
        return self._whole.exists()

    def create(self, shape: Sequence[int]) -> None:
        """Reserve the array; an unfinished one of the same shape is kept, with what it holds.

        Raises DataError where the disk cannot take it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._data.exists() and self._mapped("r").shape == tuple(shape):
            return
        for mark in self.folder.glob("*.done"):
            mark.unlink()
        need, free = int(np.prod(shape)) * 2, _free_bytes(self.folder)
        if need > free:
            raise DataError(
                f"caching the backbone's grids takes {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
                where=str(self.folder),
                remedy="lower clips.size or model.cached_views, or give --runs a larger disk",
            )
        self._whole.unlink(missing_ok=True)
        self._array = None
        partial = self.folder / f".{uuid.uuid4().hex}.partial.npy"
        np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=tuple(shape)).flush()
        os.replace(partial, self._data)

    def done(self) -> set[int]:
        """First clip of every block that has been written whole."""
        return {int(mark.stem) for mark in self.folder.glob("*.done")}

    def write(self, start: int, grids: np.ndarray) -> None:
        """One block of clips from `start`; marked as done once it is on disk."""
        array = self._mapped("r+")
        array[start : start + len(grids)] = grids
        array.flush()  # type: ignore[attr-defined]  # a memory map
        (self.folder / f"{start}.done").touch()

    def finish(self, meaning: dict) -> None:
        """Declare the store whole. `meaning` says what it holds, for people."""
        partial = self._whole.with_suffix(".partial")
        partial.write_text(json.dumps(meaning, indent=1))
        os.replace(partial, self._whole)
        for mark in self.folder.glob("*.done"):
            mark.unlink()

    @property
    def shape(self) -> tuple[int, ...]:
        return self._open().shape

    def read(self, index: int, view: int = 0) -> Tensor:
        """(frame, channel, row, column) in half precision, a copy."""
        return torch.from_numpy(np.array(self._open()[index, view]))

    def _open(self) -> np.ndarray:
        if self._array is None:
            self._array = self._mapped("r")
        return self._array

    def _mapped(self, mode: Literal["r", "r+"]) -> np.ndarray:
        try:
            return np.load(self._data, mmap_mode=mode, allow_pickle=False)
        except Exception as error:  # NumPy has several for damage
            raise StorageError(
                f"cached grids cannot be read: {error}",
                where=str(self._data),
                remedy=f"delete {self.folder} and repeat the command",
            ) from error

    def __getstate__(self) -> dict:  # a memory map does not travel to other processes; the path does
        return {"folder": self.folder, "_array": None}


class GridDataset(Dataset):
    """Cached grids where `hcl.clips.ClipDataset` gives frames; a draw's seeds choose the view.

    Args:
        by_number: the last of the seeds is the view, as `hcl.inputs.test_draws` has it; otherwise they draw one.
    """

    def __init__(self, store: GridStore, *, by_number: bool = False):
        self.store, self.by_number = store, by_number
        self.views = store.shape[1]

    def __len__(self) -> int:
        return self.store.shape[0]

    def __getitem__(self, draw: Draw | int) -> Tensor:
        draw = Draw(draw) if isinstance(draw, int) else draw
        if draw.seeds and self.by_number:
            return self.store.read(draw.clip, draw.seeds[-1])
        view = int(np.random.default_rng([*draw.seeds, draw.clip]).integers(self.views)) if draw.seeds else 0
        return self.store.read(draw.clip, view)


def _free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
