"""Cache a frozen backbone's features of a whole partition on disk, so that every frame is encoded only once.

A store holds blocks of half-precision grids (view, clip, frame, channel, row, column), and a JSON file that is written
last: a store without it is incomplete.
"""

from __future__ import annotations

import json
import math
import resource
import shutil
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hcl.clips.blocks import Block, BlockStore
from hcl.clips.dataset import Draw
from hcl.errors import DataError
from hcl.files.atomic import write_atomically

_GRIDS = "grids"


class GridStore:
    """Cache the grids of one partition in one folder.

    Args:
        folder: a folder named by a digest of everything that the grids depend on.
        n_clips: number of clips in the partition.
        mend: recomputes a damaged block (first clip, last exclusive); with None an error is raised.
    """

    def __init__(self, folder: Path, n_clips: int, mend: Callable[[int, int], None] | None = None):
        self.folder, self.n_clips = folder, n_clips
        # The size balances the workers' loads and fills a batch.
        self._blocks = BlockStore(folder, n_clips, size=8, mend=mend)
        self._open: OrderedDict[int, Block] = OrderedDict()

    def is_whole(self) -> bool:
        return self._meaning.exists()

    def missing(self) -> list[tuple[int, int]]:
        """Return the first and last (exclusive) clip of each block that has not been written."""
        return self._blocks.missing()

    def check_room(self, shape: Sequence[int]) -> None:
        """Raise DataError if the disk has too little space for the missing blocks.

        Args:
            shape: (view, frame, channel, row, column) of one clip.
        """
        need = sum(stop - start for start, stop in self.missing()) * math.prod(shape) * 2
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if need > free:
            raise DataError(
                f"caching the backbone's grids takes {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
                where=str(self.folder),
                remedy="lower clips.size or model.cached_views, or give --runs a larger disk",
            )

    def write(self, start: int, grids: np.ndarray) -> None:
        """Write the block (view, clip, ...) that begins with clip `start`. Raises StorageError."""
        self._blocks.write(start, {_GRIDS: grids})

    def finish(self, meaning: Mapping[str, Any]) -> None:
        """Mark the store as complete. `meaning` describes its content for people."""
        write_atomically(self._meaning, json.dumps(meaning, indent=1).encode())

    @property
    def n_views(self) -> int:
        """Return the number of views. Raises StorageError."""
        return len(self._block(0).arrays[_GRIDS])

    def read(self, index: int, view: int = 0) -> Tensor:
        """Return a verified copy (frame, channel, row, column) in half precision. Raises StorageError."""
        first = self._blocks.first(index)
        try:
            grids = self._read(self._block(first), view, index - first)
        except (ValueError, LookupError):  # damaged: the store raises, or recomputes it
            self._open.pop(first, None)
            grids = self._read(self._blocks.block(first, view, [index - first]), view, index - first)
        return torch.from_numpy(grids)

    def _read(self, block: Block, view: int, clip: int) -> np.ndarray:
        block.check(view, [clip])
        return np.array(block.arrays[_GRIDS][view, clip])

    def _block(self, first: int) -> Block:
        """Return a block; the most recently read ones stay open, because every epoch reads all, but maps need files."""
        if first not in self._open:
            self._open[first] = self._blocks.block(first)
            while len(self._open) > _most_open():
                self._open.popitem(last=False)
        self._open.move_to_end(first)
        return self._open[first]

    @property
    def _meaning(self) -> Path:
        return self.folder / "grids.json"

    def __getstate__(self) -> dict:  # memory maps cannot be pickled; another process opens its own
        return {**self.__dict__, "_open": OrderedDict()}


def _most_open() -> int:
    """Return the number of blocks that a store keeps open: an eighth of the process's file limit, for two stores."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4096 if allowed == resource.RLIM_INFINITY else max(8, min(4096, allowed // 8))


class GridDataset(Dataset):
    """Read cached grids in place of the frames of `hcl.clips.dataset.ClipDataset`; a draw's seeds choose the view.

    Args:
        by_number: take the last seed as the view's number, as in `hcl.assembly.inputs.test_draws`; otherwise the seeds
            draw the view.
    """

    def __init__(self, store: GridStore, *, by_number: bool = False):
        self.store, self.by_number = store, by_number

    def __len__(self) -> int:
        return self.store.n_clips

    def __getitem__(self, draw: Draw | int) -> Tensor:
        draw = Draw(draw) if isinstance(draw, int) else draw
        if draw.seeds and self.by_number:
            return self.store.read(draw.clip, draw.seeds[-1])
        generator = np.random.default_rng([*draw.seeds, draw.clip])
        view = int(generator.integers(self.store.n_views)) if draw.seeds else 0
        return self.store.read(draw.clip, view)
