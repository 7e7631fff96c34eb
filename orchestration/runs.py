"""A training run: what, from where, to where, and the names of the files in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from hcl import build, inputs
from hcl.checkpoint import load_checkpoint
from hcl.config import Experiment
from hcl.effective import effective_partition
from hcl.grids import GridDataset
from hcl.settings import nest
from hcl.splits import Partition, merge, read_split
from hcl.strict_yaml import dump_yaml
from orchestration.training.grids import GridJob
from results.files import write_atomically

LAST, BEST = "checkpoints/last.pt", "checkpoints/best.pt"
NEXT_BEST = "checkpoints/next_best.pt"
"""The best weights until the last checkpoint, too, is that of their epoch."""
PROGRESS = "progress.json"
LOG, ERROR_LOG, HUNG_LOG = "log.txt", "error.log", "hung.log"
"""In the run's folder: its diary; of a trial, the traceback of what it failed of, and of where it was when its time was
over."""
FAILED = "failed.json"
NON_FINITE = "non_finite.json"
FUSION = "fusion.yaml"
"""In the run's folder: the weights of the levels that were chosen on val, as `hcl evaluate RUN --fused` takes them."""


def resources_of(experiment: Experiment) -> dict[str, float]:
    """What a run of this experiment holds: each worker its CPUs, and a GPU where it asks for them."""
    workers = float(experiment.train.workers)
    return {
        "workers": workers,
        "cpus": workers * experiment.train.cpus_per_worker,
        "gpus": workers if experiment.train.use_gpu else 0.0,
    }


def gpus_here() -> dict[str, list[str]]:
    """The names of this machine's GPUs, for its provenance; nothing where there are none."""
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"gpus": names} if names else {}


@dataclass(frozen=True)
class Run:
    """A training run: what, from where, to where.

    Attributes:
        runs: also holds the cache of grids.
        until: the epoch to stop after; None: the experiment's last.
    """

    experiment: Experiment
    data_root: Path
    runs: Path
    folder: Path
    until: int | None = None

    @property
    def last_epoch(self) -> int:
        """The epoch that it ends with; the schedule of the learning rate is that of all the experiment's epochs."""
        return self.until or self.experiment.train.epochs

    def partitions(self) -> tuple[Partition, Partition]:
        """Those of training (merged) and of selection, without videos that could not be decoded and without copies."""
        data = self.experiment.data
        split, keep = read_split(self.data_root, data.dataset).partitions, self.experiment.learns_from_copies
        train = [effective_partition(self.data_root, split[name], keep_copies=keep) for name in data.train_partitions]
        merged = train[0] if len(train) == 1 else merge(train, "+".join(data.train_partitions))
        return merged, effective_partition(self.data_root, split[data.selection_partition], keep_copies=keep)

    def grid_jobs(self) -> list[GridJob]:
        """What frozen stages encode before the run."""
        if not build.caches_grids(self.experiment):
            return []
        train, selection = self.partitions()
        return [
            GridJob(self.experiment, self.data_root, train, training=True),
            GridJob(self.experiment, self.data_root, selection, training=False),
        ]

    def datasets(self, train: Partition, selection: Partition) -> tuple[Dataset, Dataset]:
        """The clips of both partitions, or what the frozen stages have made of them."""
        jobs = self.grid_jobs()
        if jobs:
            train_grids, selection_grids = (GridDataset(job.store(self.runs)) for job in jobs)
            return train_grids, selection_grids
        frames = inputs.frame_store(self.experiment, self.data_root, self.experiment.data.dataset)
        return (
            inputs.make_dataset(self.experiment, frames, train, training=True),
            inputs.make_dataset(self.experiment, frames, selection, training=False),
        )

    def has_last(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return (self.folder / LAST).exists()

    def epochs_done(self) -> int:
        """Whole epochs whose checkpoint is on disk."""
        return load_checkpoint(self.folder / LAST, holding=["epoch"])["epoch"] if self.has_last() else 0


def write_fusion(folder: Path, settings: Mapping[str, Any], how: str, *, partition: str = "val") -> None:
    """Keep a fusion, by dotted path.

    Args:
        partition: that it was chosen on.
    """
    header = f"# Chosen on {partition} {how}; `hcl evaluate RUN --fused` reads it.\n"
    write_atomically(folder / FUSION, f"{header}{dump_yaml(nest(settings))}".encode())
