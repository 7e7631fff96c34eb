"""Cache arrays computed from a partition's clips on disk, for reading by memory map from any number of processes.

A store is a folder with a subfolder for each block of clips, in which each array (view, clip, ...) is a file, so that a
process that compares two blocks maps only these two. A block is complete once its last file exists: single files appear
atomically on all storage that several hosts share, but folders in a bucket do not, nor does a file into which several
hosts write. The last file holds a checksum of each clip's part of each array, so that verifying a clip reads only its
own bytes.
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
    """Hold a block's memory-mapped arrays (view, clip, ...), and a checksum for each array, view and clip.

    Blocks of older versions have no checksums.
    """

    arrays: dict[str, np.ndarray]
    sums: dict[str, list[list[int]]]

    def check(self, view: int, clips: Sequence[int]) -> None:
        """Raise ValueError if the checksum of one view of any of these clips is wrong."""
        for name, of_array in self.sums.items():
            for clip in clips:
                if _crc(self.arrays[name], view, clip) != of_array[view][clip]:
                    raise ValueError(f"{name}.npy is not what was written: the checksum of clip {clip} differs")


@dataclass(frozen=True)
class BlockStore:
    """Cache the arrays of `n_clips` clips in blocks of `size` clips.

    Attributes:
        folder: a folder named by a digest of everything that the arrays depend on.
        mend: recomputes a damaged or missing block (first clip, last exclusive); with None an error is raised.
    """

    folder: Path
    n_clips: int
    size: int = 16
    mend: Callable[[int, int], None] | None = field(default=None, compare=False, repr=False)
    _checked: set[tuple[int, int]] = field(default_factory=set, init=False, compare=False, repr=False)

    def missing(self) -> list[tuple[int, int]]:
        """Return the first and last (exclusive) clip of each block that has not been written."""
        bounds = [(start, min(start + self.size, self.n_clips)) for start in range(0, self.n_clips, self.size)]
        return [(start, stop) for start, stop in bounds if not (self._folder(start) / _WHOLE).exists()]

    def write(self, start: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the arrays (view, clip, ...) of the block that begins with clip `start`, unless it already exists.

        Raises StorageError if they cannot be written.
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
        """Return one view of consecutive clips. Raises StorageError if a block is missing or damaged."""
        firsts = range(self.first(start), stop, self.size)
        parts = [self._checked_block(first, view) for first in firsts]
        rows = [slice(max(start - first, 0), stop - first) for first in firsts]
        return {
            name: _joined([part[name][view][rows] for part, rows in zip(parts, rows, strict=True)]) for name in parts[0]
        }

    def take(self, clips: Sequence[int] | np.ndarray, view: int = 0) -> dict[str, Tensor]:
        """Return a copy of one view of any clips, in the given order, repeats allowed. Raises StorageError.

        One block is open at a time, because the clips of an episode may be in more blocks than a process may open.
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
        """Return the first clip of the block that contains `clip`."""
        return clip - clip % self.size

    def block(self, start: int, view: int = 0, clips: Sequence[int] = ()) -> Block:
        """Open a block that has view `view`; if it cannot be read, recompute it with `mend`.

        Args:
            clips: indices in the block of the clips whose checksums are verified, for this view.

        Raises:
            StorageError: the block is missing or damaged, and there is no `mend`.
        """
        try:
            return self._opened(start, view, clips)
        except StorageError as error:
            if self.mend is None:
                raise
            (self._folder(start) / _WHOLE).unlink(missing_ok=True)
            self.mend(start, min(start + self.size, self.n_clips))
            _LOG.warning("%s %s: the block was computed again", error.where, error.problem)
            return self._opened(start, view, clips)

    def _checked_block(self, first: int, view: int) -> dict[str, np.ndarray]:
        """Return a block's arrays, and verify their checksums at this process's first access to the view."""
        is_verified = (first, view) in self._checked
        block = self.block(first, view, () if is_verified else range(min(self.size, self.n_clips - first)))
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
        except Exception as error:  # NumPy and JSON raise several types for damage
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
    """Return the checksum of a clip's bytes with their type and shape, which are only in the file's header."""
    row = values[view, clip]
    return zlib.crc32(np.ascontiguousarray(row).data, zlib.crc32(f"{row.dtype.str}{row.shape}".encode()))


def _read_sums(folder: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, list[list[int]]]:
    """Return the checksums of a block, empty for older versions. Raises ValueError if they do not fit the arrays."""
    content = (folder / _WHOLE).read_bytes()
    if not content:
        return {}
    sums = json.loads(content)[_SUMS]
    shapes = {name: [len(of_view) for of_view in of_array] for name, of_array in sums.items()}
    if shapes != {name: [array.shape[1]] * len(array) for name, array in arrays.items()}:
        raise ValueError("its checksums are of other arrays")
    return sums


def _joined(parts: Sequence[np.ndarray]) -> Tensor:
    """Return a single block as a memory map, and several blocks as a copy."""
    if len(parts) > 1:
        return torch.from_numpy(np.concatenate(parts))
    with warnings.catch_warnings():  # torch warns that a memory map is read-only; nothing here writes into it
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(parts[0])
