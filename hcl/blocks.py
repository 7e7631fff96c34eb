"""Arrays made of a partition's clips, on disk: computed once, read by memory map from any number of processes.

A store is a folder with a folder for each block of clips. In it each array is a file of its own, (view, clip, ...), so
that a process that compares two blocks holds those two and nothing else. A block counts once its last file is there:
single files come into being at once on all storage that several hosts share; folders in a bucket do not, nor does a
file into which several of them write.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hcl.atomic import whole_file, write_atomically
from hcl.errors import StorageError

_WHOLE = "whole"  # a block's last file


@dataclass(frozen=True)
class BlockStore:
    """Arrays of `n_clips` clips, `size` of them a block.

    Attributes:
        folder: named by a digest of everything that the arrays depend on.
    """

    folder: Path
    n_clips: int
    size: int = 16

    def missing(self) -> list[tuple[int, int]]:
        """First and last (exclusive) clip of the blocks that have not been written."""
        bounds = [(start, min(start + self.size, self.n_clips)) for start in range(0, self.n_clips, self.size)]
        return [(start, stop) for start, stop in bounds if not (self._folder(start) / _WHOLE).exists()]

    def write(self, start: int, arrays: Mapping[str, np.ndarray]) -> None:
        """The arrays (view, clip, ...) of the block that begins with clip `start`, unless another process was faster.

        Raises StorageError where the disk cannot take it.
        """
        block = self._folder(start)
        if (block / _WHOLE).exists():
            return
        for name, values in arrays.items():
            with whole_file(block / f"{name}.npy", sync=False) as file:
                np.save(file, values)
        write_atomically(block / _WHOLE, b"")

    def read(self, start: int, stop: int, view: int = 0) -> dict[str, Tensor]:
        """One view of clips that follow each other. Raises StorageError where a block is missing or damaged."""
        firsts = range(self.first(start), stop, self.size)
        parts = [self.block(first, view) for first in firsts]
        rows = [slice(max(start - first, 0), stop - first) for first in firsts]
        return {
            name: _joined([part[name][view][rows] for part, rows in zip(parts, rows, strict=True)]) for name in parts[0]
        }

    def take(self, clips: Sequence[int] | np.ndarray, view: int = 0) -> dict[str, Tensor]:
        """One view of any clips, in the order asked for, repeats allowed; a copy. Raises StorageError."""
        places = [(self.first(int(clip)), int(clip) % self.size) for clip in clips]
        blocks = {first: self.block(first, view) for first, _ in places}
        names = blocks[places[0][0]]
        return {
            name: torch.from_numpy(np.stack([blocks[first][name][view][row] for first, row in places]))
            for name in names
        }

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def first(self, clip: int) -> int:
        """Clip of the block that a clip is in."""
        return clip - clip % self.size

    def _folder(self, start: int) -> Path:
        return self.folder / f"clips-{start}"

    def block(self, start: int, view: int = 0) -> dict[str, np.ndarray]:
        """The arrays of a block, (view, clip, ...), of whose views `view` is one. Raises StorageError."""
        folder, n_clips = self._folder(start), min(self.size, self.n_clips - start)
        try:
            arrays = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in _files(folder)}
            for name, array in arrays.items():
                if array.ndim < 2 or len(array) <= view or array.shape[1] != n_clips:
                    raise ValueError(f"{name} is {array.shape}, not view {view} of {n_clips} clips")
            return arrays
        except Exception as error:  # NumPy has several for damage
            raise StorageError(
                f"cannot be read: {error}", where=str(folder), remedy="delete it and repeat the command"
            ) from error


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.npy"))
    if not files:
        raise FileNotFoundError("the block is missing")
    return files


def _joined(parts: Sequence[np.ndarray]) -> Tensor:
    """One block is read where it lies on disk, more are copied."""
    if len(parts) > 1:
        return torch.from_numpy(np.concatenate(parts))
    with warnings.catch_warnings():  # torch warns that a memory map is read-only; nothing here writes into it
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(parts[0])
