"""What a model made of a partition's clips, on disk: encoded once, read by memory map from any number of processes.

A store is a folder with one folder a block of clips, whole or absent. In it each array is a file of its own, (view,
clip, ...), so that a process that compares two blocks holds those two and nothing else.
"""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hcl.errors import StorageError
from hcl.model import ClipFeatures

BLOCK = 16  # clips


@dataclass(frozen=True)
class FeatureStore:
    """The features of `n_clips` clips.

    Attributes:
        folder: named by a digest of everything that the features depend on.
    """

    folder: Path
    n_clips: int

    def missing(self) -> list[tuple[int, int]]:
        """First and last (exclusive) clip of the blocks that have not been written."""
        bounds = [(start, min(start + BLOCK, self.n_clips)) for start in range(0, self.n_clips, BLOCK)]
        return [(start, stop) for start, stop in bounds if not self._block(start).exists()]

    def write(self, start: int, arrays: Mapping[str, np.ndarray]) -> None:
        """The arrays (view, clip, ...) of the block that begins with clip `start`; nobody ever sees half of it.

        Raises StorageError where the disk cannot take it.
        """
        block = self._block(start)
        partial = self.folder / f".{block.name}.{uuid.uuid4().hex}.partial"
        try:
            partial.mkdir(parents=True)
            for name, values in arrays.items():
                np.save(partial / f"{name}.npy", values)
            if not block.exists():
                os.rename(partial, block)
        except OSError as error:
            if not block.exists():  # otherwise another process was faster: its content is the same
                raise StorageError(
                    f"features cannot be written: {error.strerror or error}",
                    where=str(block),
                    remedy="free space or give --runs a larger disk, then repeat the command",
                ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def read(self, start: int, stop: int, view: int = 0) -> dict[str, Tensor]:
        """One view of clips that follow each other. Raises StorageError where a block is missing or damaged."""
        firsts = range(start - start % BLOCK, stop, BLOCK)
        parts = [self._arrays(first, view) for first in firsts]
        rows = [slice(max(start - first, 0), stop - first) for first in firsts]
        return {name: _joined([part[name][rows] for part, rows in zip(parts, rows, strict=True)]) for name in parts[0]}

    def take(self, clips: Sequence[int] | np.ndarray, view: int = 0) -> dict[str, Tensor]:
        """One view of any clips, in the order asked for, repeats allowed; a copy."""
        blocks = {first: self._arrays(first, view) for first in {int(clip) - int(clip) % BLOCK for clip in clips}}
        each = [(blocks[int(clip) - int(clip) % BLOCK], int(clip) % BLOCK) for clip in clips]
        return {name: torch.from_numpy(np.stack([arrays[name][row] for arrays, row in each])) for name in each[0][0]}

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _block(self, start: int) -> Path:
        return self.folder / f"clips-{start}"

    def _arrays(self, start: int, view: int) -> dict[str, np.ndarray]:
        block = self._block(start)
        try:
            return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False)[view] for path in _files(block)}
        except Exception as error:  # NumPy has several for damage
            raise StorageError(
                f"features cannot be read: {error}", where=str(block), remedy="delete it and repeat the command"
            ) from error


def pack(features: ClipFeatures, *, half: bool = False) -> dict[str, Tensor]:
    """Features as named tensors; one that serves several tuple sizes is kept once.

    Args:
        half: patches in half precision: they are all but a few hundredths of the bytes.
    """
    named = {"clip": features.clip}
    for level, patches in enumerate(features.patches):
        if level == 0 or patches is not features.patches[0]:
            named[f"patches-{level}"] = patches.half() if half else patches
    named |= {f"tuples-{level}": tuples for level, tuples in enumerate(features.tuples)}
    return named | {f"semantics-{level}": one for level, one in enumerate(features.semantics or ())}


def unpack(named: Mapping[str, Tensor]) -> ClipFeatures:
    """The features that `pack` named."""
    levels = range(sum(name.startswith("tuples-") for name in named))
    semantics = tuple(named[f"semantics-{level}"] for level in levels if f"semantics-{level}" in named)
    patches = tuple(named.get(f"patches-{level}", named["patches-0"]) for level in levels)
    tuples = tuple(named[f"tuples-{level}"] for level in levels)
    return ClipFeatures(patches, tuples, named["clip"], semantics or None)


def _files(block: Path) -> list[Path]:
    files = sorted(block.glob("*.npy"))
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
