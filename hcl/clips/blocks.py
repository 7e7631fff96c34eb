"""Arrays made of a partition's clips, on disk: computed once, read by memory map from any number of processes.

A store is a folder with a folder for each block of clips. In it each array is a file of its own, (view, clip, ...), so
that a process that compares two blocks holds those two and nothing else. A block counts once its last file is there:
single files come into being at once on all storage that several hosts share; folders in a bucket do not, nor does a
file into which several of them write. That last file holds a checksum of each clip's share of each array, so that a
clip is checked by reading its own bytes and no others.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hcl.errors import StorageError
from hcl.files.atomic import whole_file, write_atomically

_WHOLE = "whole"  # a block's last file
_SUMS = "crc32"
_LOG = logging.getLogger(__name__)


class Block(NamedTuple):
    """A block's arrays (view, clip, ...) as they lie on disk, and the checksum of each view's part of each clip.

    Blocks of older versions have no checksums.
    """

    arrays: dict[str, np.ndarray]
    sums: dict[str, list[list[int]]]

    def check(self, view: int, clips: Sequence[int]) -> None:
        """Raise ValueError where one view of some of the block's clips is not what was written."""
        for name, of_array in self.sums.items():
            for clip in clips:
                if _crc(self.arrays[name], view, clip) != of_array[view][clip]:
                    raise ValueError(f"{name}.npy is not what was written: the checksum of clip {clip} differs")


@dataclass(frozen=True)
class BlockStore:
    """Arrays of `n_clips` clips, `size` of them a block.

    Attributes:
        folder: named by a digest of everything that the arrays depend on.
        mend: makes a block again, (first clip, last exclusive), where it is damaged or missing; None: an error then.
    """

    folder: Path
    n_clips: int
    size: int = 16
    mend: Callable[[int, int], None] | None = field(default=None, compare=False, repr=False)
    _checked: set[tuple[int, int]] = field(default_factory=set, init=False, compare=False, repr=False)

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
        sums = {name: _sums(values) for name, values in arrays.items()}
        write_atomically(block / _WHOLE, json.dumps({_SUMS: sums}).encode())

    def read(self, start: int, stop: int, view: int = 0) -> dict[str, Tensor]:
        """One view of clips that follow each other. Raises StorageError where a block is missing or damaged."""
        firsts = range(self.first(start), stop, self.size)
        parts = [self._checked_block(first, view) for first in firsts]
        rows = [slice(max(start - first, 0), stop - first) for first in firsts]
        return {
            name: _joined([part[name][view][rows] for part, rows in zip(parts, rows, strict=True)]) for name in parts[0]
        }

    def take(self, clips: Sequence[int] | np.ndarray, view: int = 0) -> dict[str, Tensor]:
        """One view of any clips, in the order asked for, repeats allowed; a copy. Raises StorageError.

        One block is open at a time: the clips of an episode may lie in more of them than a process may open files.
        """
        firsts = np.array([self.first(int(clip)) for clip in clips])
        taken: dict[str, np.ndarray] = {}
        for first in dict.fromkeys(firsts.tolist()):
            places = np.flatnonzero(firsts == first)
            for name, values in self._checked_block(first, view).items():
                rows = values[view][np.asarray(clips)[places] - first]
                taken.setdefault(name, np.empty((len(firsts), *rows.shape[1:]), rows.dtype))[places] = rows
        return {name: torch.from_numpy(values) for name, values in taken.items()}

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def first(self, clip: int) -> int:
        """Clip of the block that a clip is in."""
        return clip - clip % self.size

    def block(self, start: int, view: int = 0, clips: Sequence[int] = ()) -> Block:
        """A block, of whose views `view` is one, made again where it cannot be read and something can make it.

        Args:
            clips: of the block, from 0, whose part of the view is compared with its checksums.

        Raises:
            StorageError: it is missing or damaged.
        """
        try:
            return self._opened(start, view, clips)
        except StorageError as error:
            if self.mend is None:
                raise
            (self._folder(start) / _WHOLE).unlink(missing_ok=True)
            self.mend(start, min(start + self.size, self.n_clips))
            _LOG.warning("%s %s: the block has been made again", error.where, error.problem)
            return self._opened(start, view, clips)

    def _checked_block(self, first: int, view: int) -> dict[str, np.ndarray]:
        """A block's arrays; what this process reads of it again is not compared with its checksums again."""
        is_known = (first, view) in self._checked
        block = self.block(first, view, () if is_known else range(min(self.size, self.n_clips - first)))
        self._checked.add((first, view))
        return block.arrays

    def _folder(self, start: int) -> Path:
        return self.folder / f"clips-{start}"

    def _opened(self, start: int, view: int, clips: Sequence[int]) -> Block:
        folder, n_clips = self._folder(start), min(self.size, self.n_clips - start)
        try:
            arrays = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in _files(folder)}
            for name, array in arrays.items():
                if array.ndim < 2 or len(array) <= view or array.shape[1] != n_clips:
                    raise ValueError(f"{name} is {array.shape}, not view {view} of {n_clips} clips")
            block = Block(arrays, _read_sums(folder, arrays))
            block.check(view, clips)
            return block
        except Exception as error:  # NumPy and JSON have several for damage
            raise StorageError(
                f"cannot be read: {error}", where=str(folder), remedy=f"delete {self.folder} and repeat the command"
            ) from error


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.npy"))
    if not files or not (folder / _WHOLE).exists():
        raise FileNotFoundError("the block is missing")
    return files


def _sums(values: np.ndarray) -> list[list[int]]:
    values = np.ascontiguousarray(values)
    n_views, n_clips = values.shape[:2]
    return [[_crc(values, view, clip) for clip in range(n_clips)] for view in range(n_views)]


def _crc(values: np.ndarray, view: int, clip: int) -> int:
    """Return the checksum of a clip's bytes and of how they are to be read, which stands in the file's header only."""
    row = values[view, clip]
    return zlib.crc32(np.ascontiguousarray(row).data, zlib.crc32(f"{row.dtype.str}{row.shape}".encode()))


def _read_sums(folder: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, list[list[int]]]:
    """The checksums of a block; none of what older versions wrote. Raises ValueError for those of other arrays."""
    content = (folder / _WHOLE).read_bytes()
    if not content:
        return {}
    sums = json.loads(content)[_SUMS]
    shapes = {name: [len(of_view) for of_view in of_array] for name, of_array in sums.items()}
    if shapes != {name: [array.shape[1]] * len(array) for name, array in arrays.items()}:
        raise ValueError("its checksums are of other arrays")
    return sums


def _joined(parts: Sequence[np.ndarray]) -> Tensor:
    """One block is read where it lies on disk, more are copied."""
    if len(parts) > 1:
        return torch.from_numpy(np.concatenate(parts))
    with warnings.catch_warnings():  # torch warns that a memory map is read-only; nothing here writes into it
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(parts[0])
