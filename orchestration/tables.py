"""Score tables: a partition's clips encoded once, its pairs scored once, kept under a digest.

Work is cut into blocks of clips and blocks of rows; a block is one file, written whole, so that whatever dies costs one
block. `orchestration.scoring` has Ray actors do it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from hcl import build
from hcl.checkpoint import file_digest
from hcl.config import Experiment
from hcl.errors import CheckpointError
from hcl.splits import Partition
from orchestration.grids import GridJob

REVISION = 1  # raise it when the same settings give other scores than before: tables of old code are left alone then
CLIPS = 16  # a block of encoding
PAIRS = 4096  # a block of scoring: about so many pairs


@dataclass(frozen=True, eq=False)
class Cell:
    """One method on one partition: what a score table is about.

    Attributes:
        method: a key of `orchestration.evaluate.METHODS`.
        checkpoint: of the trained method; None for the others.
    """

    method: str
    experiment: Experiment
    data_root: Path
    partition: Partition
    checkpoint: Path | None = None

    @cached_property
    def checkpoint_digest(self) -> str:
        if self.checkpoint is None:
            return ""
        if not self.checkpoint.exists():
            raise CheckpointError("no such file", where=str(self.checkpoint), remedy="train the run first: hcl train")
        return file_digest(self.checkpoint)

    @cached_property
    def key(self) -> str:
        """A digest of all that the table depends on."""
        experiment = self.experiment
        manifest = self.data_root / "images" / self.partition.dataset / "manifest.parquet"
        meaning = {
            "revision": REVISION,
            "method": self.method,
            "checkpoint": self.checkpoint_digest,
            "seed": experiment.seed,
            "clips": experiment.clips.model_dump(mode="json"),
            "model": experiment.model.model_dump(mode="json"),
            "weights": build.weights_identity(experiment.model.weights),
            "matching": experiment.matching.model_dump(mode="json", exclude={"chunk_size", "metric"}),
            "precision": experiment.train.precision,
            "regime": experiment.train.regime,
            "videos": self.partition.digest(),
            "frames": file_digest(manifest) if manifest.exists() else "no manifest",
            "embeddings": build.embeddings_identity(experiment, self.data_root, self.partition.dataset),
        }
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and other.key == self.key

    def grid_job(self) -> GridJob | None:
        """The cached grids that are read instead of frames, where stages of the backbone are frozen."""
        if not build.caches_grids(self.experiment):
            return None
        is_random = self.method == "random"
        return GridJob(self.experiment, self.data_root, self.partition, training=False, random_backbone=is_random)

    @property
    def is_pooled(self) -> bool:
        """Whether a regime's head compares pooled features, episode by episode, in place of HCL's matching."""
        return self.method != "prototype" and self.experiment.train.regime != "hcl"

    def embeddings(self) -> Tensor | None:
        """The class-name embedding of each clip, where the method reads them. Raises DataError."""
        if self.method == "prototype":
            return None
        return build.clip_embeddings(self.experiment, self.data_root, self.partition)

    def table(self, runs: Path) -> Table:
        return Table(Path(runs) / "cache" / "scores" / self.key, len(self.partition.videos))


@dataclass(frozen=True)
class Table:
    """The files of one score table: blocks while it is made, one archive once it is whole."""

    folder: Path
    n_clips: int

    @property
    def whole(self) -> Path:
        return self.folder.with_suffix(".npz")

    def read(self) -> dict[str, np.ndarray]:
        with np.load(self.whole, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays}

    def tokens(self) -> list[Path]:
        return [self.folder / f"tokens-{start}.npy" for start in range(0, self.n_clips, CLIPS)]

    def rows(self) -> list[tuple[int, int]]:
        step = max(1, min(self.n_clips, PAIRS // max(self.n_clips, 1)))
        return [(start, min(start + step, self.n_clips)) for start in range(0, self.n_clips, step)]

    def block(self, start: int) -> Path:
        return self.folder / f"rows-{start}.npz"

    def assemble(self) -> None:
        """One archive of all blocks, then the blocks go; tokens stay until `discard`."""
        parts = []
        for start, _ in self.rows():
            with np.load(self.block(start), allow_pickle=False) as arrays:
                parts.append({name: arrays[name] for name in arrays})
        save_arrays(self.whole, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An archive, whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    with partial.open("wb") as file:
        np.savez(file, **dict(arrays))  # type: ignore[arg-type]
    os.replace(partial, path)
