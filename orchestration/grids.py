"""With a frozen backbone: the grids of whole partitions, encoded once by Ray actors and shared by every run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from hcl.backbone import make_backbone
from hcl.build import make_dataset
from hcl.checkpoint import file_digest
from hcl.clips import Draw
from hcl.config import Experiment
from hcl.errors import HCLError
from hcl.frames import FrameStore
from hcl.grids import GridStore
from hcl.splits import Partition
from orchestration.runtime import connect, map_actors, n_workers_available, progress

_BLOCK = 8  # clips of a call: small enough to balance, large enough to fill a batch


@dataclass(frozen=True)
class GridJob:
    """The grids of one partition, as training (several random views) or as test (one view) sees it.

    Args:
        random_backbone: without the pretrained weights, for the baseline that has learnt nothing.
    """

    experiment: Experiment
    data_root: Path
    partition: Partition
    training: bool
    random_backbone: bool = False

    @property
    def views(self) -> int:
        return self.experiment.model.cached_views if self.training else 1

    def store(self, runs: Path) -> GridStore:
        """Where these grids lie: the folder's name is a digest of all that they depend on."""
        key = hashlib.sha256(json.dumps(self.meaning(), sort_keys=True).encode()).hexdigest()[:16]
        return GridStore(Path(runs) / "cache" / "grids" / key)

    def meaning(self) -> dict[str, Any]:
        experiment = self.experiment
        manifest = self.data_root / "images" / self.partition.dataset / "manifest.parquet"
        weights = "none" if self.random_backbone else experiment.model.weights
        return {
            "backbone": experiment.model.backbone,
            "weights": file_digest(Path(weights)) if weights not in ("none", "imagenet") else weights,
            "clips": experiment.clips.model_dump(mode="json"),
            "views": self.views,
            "training": self.training,
            "seed": experiment.seed if self.training or weights == "none" else 0,
            "dataset": self.partition.dataset,
            "partition": self.partition.name,
            "videos": self.partition.digest(),
            "frames": file_digest(manifest) if manifest.exists() else "no manifest",
        }


def ensure_grids(jobs: Sequence[GridJob], runs: Path, *, address: str | None = None) -> None:
    """Encode what is not cached yet; repeated or interrupted, it goes on with the blocks that are missing."""
    for job in jobs:
        store = job.store(runs)
        if not store.is_whole():
            with connect(address):
                _encode(job, store)


def _encode(job: GridJob, store: GridStore) -> None:
    actors = n_workers_available()
    n_clips = len(job.partition.videos)
    encoder: Any = ray.remote(num_cpus=1)(_GridEncoder)
    first = ray.get(encoder.remote(job, None).shape.remote())
    store.create((n_clips, job.views, *first))
    blocks = [start for start in range(0, n_clips, _BLOCK) if start not in store.done()]
    description = f"encode {job.partition.dataset} {job.partition.name}"
    with progress(len(blocks) * _BLOCK, description, "clips") as advance:
        results = map_actors(
            lambda: encoder.remote(job, store),
            blocks,
            lambda actor, start: actor.write.remote(start),
            n_actors=min(actors, max(len(blocks), 1)),
        )
        for _, outcome in results:
            if isinstance(outcome, Exception):
                raise outcome if isinstance(outcome, HCLError) else RuntimeError("encoding failed") from outcome
            advance(_BLOCK)
    store.finish(job.meaning())


class _GridEncoder:
    """An actor: reads clips, runs the frozen backbone, writes half-precision grids."""

    def __init__(self, job: GridJob, store: GridStore | None):
        torch.set_num_threads(1)
        self.job, self.store = job, store
        frames = FrameStore(job.data_root / "images" / job.partition.dataset)
        self.clips = make_dataset(job.experiment, frames, job.partition, training=job.training)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.experiment.seed)
            weights = "none" if job.random_backbone else job.experiment.model.weights
            self.backbone = make_backbone(job.experiment.model.backbone, weights).eval()

    def shape(self) -> tuple[int, ...]:
        return self._grids(0, 0).shape

    def write(self, start: int) -> None:
        assert self.store is not None
        stop = min(start + _BLOCK, len(self.clips))
        grids = [np.stack([self._grids(i, view) for view in range(self.job.views)]) for i in range(start, stop)]
        self.store.write(start, np.stack(grids))

    @torch.no_grad()
    def _grids(self, index: int, view: int) -> np.ndarray:
        clip = self.clips[Draw(index, (self.job.experiment.seed, view))]
        return self.backbone(clip).half().numpy()
