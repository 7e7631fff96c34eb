"""Encode partitions with the frozen stages of a backbone, once by Ray actors, and cache the grids for all runs."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hcl.assembly.backbones import backbone_of, frozen_stages, weights_identity
from hcl.assembly.inputs import frame_store, make_dataset, test_draws
from hcl.clips.dataset import Draw
from hcl.clips.grids import GridDataset, GridStore
from hcl.config import Experiment
from hcl.datasets.splits import Partition
from hcl.errors import HCLError
from hcl.frames.stored_dataset import StoredDataset
from hcl.models.backbone import Backbone
from hcl.models.inference import fast_backbone
from hcl.models.precision import autocast, set_convolutions
from orchestration.runtime.actors import map_actors
from orchestration.runtime.connect import actor_of, connect, device_of_actor, n_workers_available
from orchestration.runtime.progress import progress

REVISION = 3  # raise it when code changes the grids of the same settings, so that old caches are not used


@dataclass(frozen=True)
class GridJob:
    """Describe the grids of one partition, for training (random views) or for testing.

    Args:
        random_backbone: use no pretrained weights, for the untrained baseline.
        test_views: number of views that an evaluation averages over; see `hcl.assembly.inputs.test_draws`.
    """

    experiment: Experiment
    stored: StoredDataset
    partition: Partition
    training: bool
    random_backbone: bool = False
    test_views: int = 1

    @property
    def views(self) -> int:
        return self.experiment.model.cached_views if self.training else self.test_views

    def backbone(self) -> Backbone:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.experiment.seed)
            return backbone_of(self.experiment, random_weights=self.random_backbone)

    def clip_shape(self) -> tuple[int, ...]:
        """Return (frame, channel, row, column), without computing anything."""
        clips = self.experiment.clips
        frame = torch.empty(1, 3, clips.size, clips.size, device="meta")
        backbone = backbone_of(self.experiment, random_weights=True).eval().to("meta")
        return (clips.n_frames, *backbone.below(frame, frozen_stages(self.experiment)).shape[1:])

    def draws(self, clip: int) -> list[Draw]:
        """Return the views of a clip: random ones for training, or those that testing averages over."""
        if not self.training:
            return test_draws(clip, self.test_views)
        return [Draw(clip, (self.experiment.seed, view)) for view in range(self.views)]

    def store(self, runs: Path) -> GridStore:
        """Return the store of these grids; its folder's name is a digest of everything that they depend on."""
        key = hashlib.sha256(json.dumps(self.meaning(), sort_keys=True).encode()).hexdigest()[:16]
        return GridStore(Path(runs) / "cache" / "grids" / key, len(self.partition.videos))

    def dataset(self, runs: Path, *, by_number: bool = False) -> GridDataset:
        """Return the cached grids as a dataset; the reader of a damaged block encodes it again on its CPU.

        Args:
            by_number: see `GridDataset`.
        """
        store = self.store(runs)
        store_with_repair = GridStore(store.folder, store.n_clips, functools.partial(_write_block, self, store))
        return GridDataset(store_with_repair, by_number=by_number)

    def meaning(self) -> dict[str, Any]:
        experiment = self.experiment
        weights = "none" if self.random_backbone else weights_identity(experiment)
        model = experiment.identity_of("model")
        backbone: dict[str, Any] = {name: model[name] for name in ("backbone", "backbone_settings") if name in model}
        return {
            "revision": REVISION,
            **backbone,
            "weights": weights,
            "stages": frozen_stages(experiment),
            "clips": experiment.identity_of("clips"),
            "precision": experiment.train.precision,
            "views": self.views,
            "training": self.training,
            "seed": experiment.seed if self.training or weights == "none" else 0,
            "dataset": self.partition.dataset,
            "partition": self.partition.name,
            "videos": self.partition.digest(),
            "frames": self.stored.frames_identity(self.partition),
        }


def ensure_grids(jobs: Sequence[GridJob], runs: Path, *, address: str | None = None) -> None:
    """Encode grids that are not cached yet; a repeated or interrupted call continues with the missing blocks."""
    missing = {store.folder: (job, store) for job in jobs if not (store := job.store(runs)).is_whole()}
    if missing:
        with connect(address):
            _encode(list(missing.values()))


def _encode(missing: Sequence[tuple[GridJob, GridStore]]) -> None:
    blocks = []
    for job, store in missing:
        store.check_room((job.views, *job.clip_shape()))
        blocks += [(job, store, start, stop) for start, stop in store.missing()]
    use_gpu = missing[0][0].experiment.train.use_gpu
    names = ", ".join(dict.fromkeys(f"{job.partition.dataset} {job.partition.name}" for job, _ in missing))
    encoder = actor_of(_GridEncoder, "encode", f"encode {names}", use_gpu=use_gpu)
    n_clips = sum(stop - start for *_, start, stop in blocks)
    with progress(n_clips, f"encode {names}", "clips") as advance:
        results = map_actors(
            encoder,
            blocks,
            lambda actor, block: actor.write.remote(*block),
            n_actors=lambda: n_workers_available("encode", use_gpu=use_gpu),
        )
        with closing(results):
            for (*_, start, stop), outcome in results:
                if isinstance(outcome, Exception):
                    raise outcome if isinstance(outcome, HCLError) else RuntimeError("encoding failed") from outcome
                advance(stop - start)
    for job, store in missing:
        store.finish(job.meaning())


class _GridEncoder:
    """Read clips, run the frozen stages and write half-precision grids, as a Ray actor."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.device = device_of_actor()
        self.folder: Path | None = None

    def write(self, job: GridJob, store: GridStore, start: int, stop: int) -> None:
        """Write the grids of one block of clips, with all views."""
        if self.folder != store.folder:
            self.folder, self.reader = store.folder, _Reader(job, self.device)
        store.write(start, self.reader.grids(start, stop))


class _Reader:
    """Hold the frozen stages of a backbone, and the clips that they read."""

    def __init__(self, job: GridJob, device: torch.device | str):
        self.job, self.device = job, device
        self.backbone = fast_backbone(job.backbone()).to(device)
        frames = frame_store(job.experiment, job.stored)
        self.clips = make_dataset(
            job.experiment, frames, job.partition, training=job.training, random_views=job.views > 1
        )

    def grids(self, start: int, stop: int) -> np.ndarray:
        """Return (view, clip, frame, channel, row, column) in half precision."""
        stages, precision = frozen_stages(self.job.experiment), self.job.experiment.train.precision
        set_convolutions(precision)
        with torch.no_grad(), autocast(self.device, precision):
            grids = [
                torch.stack([self._grid(draw, stages) for draw in self.job.draws(clip)]) for clip in range(start, stop)
            ]
        return torch.stack(grids, dim=1).half().cpu().numpy()

    def _grid(self, draw: Draw, stages: int) -> Tensor:
        return self.backbone.below(self.clips[draw].to(self.device), stages)


def _write_block(job: GridJob, store: GridStore, start: int, stop: int) -> None:
    """Write one block of a cache again."""
    store.write(start, _Reader(job, "cpu").grids(start, stop))
