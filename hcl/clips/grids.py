"""Backbone features of a whole partition on disk: with a frozen backbone every frame is encoded once, ever.

Blocks of half-precision grids (view, clip, frame, channel, row, column), beside a JSON file that is written last: a
store without it is not whole.
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
    """Grids of one partition under one folder.

    Args:
        folder: named by a digest of everything that the grids depend on.
        n_clips: of the partition.
        mend: makes a block again, (first clip, last exclusive), where it is damaged; None: an error then.
    """

    def __init__(self, folder: Path, n_clips: int, mend: Callable[[int, int], None] | None = None):
        self.folder, self.n_clips = folder, n_clips
        # Small enough to balance, large enough to fill a batch.
        self._blocks = BlockStore(folder, n_clips, size=8, mend=mend)
        self._open: OrderedDict[int, Block] = OrderedDict()

    def is_whole(self) -> bool:
        return self._meaning.exists()

    def missing(self) -> list[tuple[int, int]]:
        """First and last (exclusive) clip of the blocks that have not been written."""
        return self._blocks.missing()

    def check_room(self, shape: Sequence[int]) -> None:
        """Raise DataError where the disk cannot take what is missing.

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
        """One block (view, clip, ...) of clips from `start`. Raises StorageError."""
        self._blocks.write(start, {_GRIDS: grids})

    def finish(self, meaning: Mapping[str, Any]) -> None:
        """Declare the store whole. `meaning` says what it holds, for people."""
        write_atomically(self._meaning, json.dumps(meaning, indent=1).encode())

    @property
    def n_views(self) -> int:
        """Raises StorageError."""
        return len(self._block(0).arrays[_GRIDS])

    def read(self, index: int, view: int = 0) -> Tensor:
        """(frame, channel, row, column) in half precision, a copy whose checksum was compared. Raises StorageError."""
        first = self._blocks.first(index)
        try:
            grids = self._read(self._block(first), view, index - first)
        except (ValueError, LookupError):  # damaged: the store names it, or makes it again
            self._open.pop(first, None)
            grids = self._read(self._blocks.block(first, view, [index - first]), view, index - first)
        return torch.from_numpy(grids)

    def _read(self, block: Block, view: int, clip: int) -> np.ndarray:
        block.check(view, [clip])
        return np.array(block.arrays[_GRIDS][view, clip])

    def _block(self, first: int) -> Block:
        """Blocks stay open as memory maps, those read last: every epoch reads every clip, and each map takes a file."""
        if first not in self._open:
            self._open[first] = self._blocks.block(first)
            while len(self._open) > _most_open():
                self._open.popitem(last=False)
        self._open.move_to_end(first)
        return self._open[first]

    @property
    def _meaning(self) -> Path:
        return self.folder / "grids.json"

    def __getstate__(self) -> dict:  # memory maps do not travel to other processes; the path does
        return {**self.__dict__, "_open": OrderedDict()}


def _most_open() -> int:
    """Blocks that one store keeps open: an eighth of the files that this process may open. A run reads two stores."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4096 if allowed == resource.RLIM_INFINITY else max(8, min(4096, allowed // 8))


class GridDataset(Dataset):
    """Cached grids where `hcl.clips.dataset.ClipDataset` gives frames; a draw's seeds choose the view.

    Args:
        by_number: the last of the seeds is the view, as in `hcl.assembly.inputs.test_draws`; otherwise they draw one.
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
