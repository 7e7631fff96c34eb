"""Describe a training run: its experiment, its data, its folder, and the names of the files there."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

import results
from hcl.assembly import backbones, inputs
from hcl.config import Experiment
from hcl.config.paths import nest
from hcl.config.strict_yaml import dump_yaml
from hcl.datasets.splits import Partition, merge
from hcl.errors import CheckpointError
from hcl.files.atomic import write_atomically
from hcl.frames.stored_dataset import DataRoot, StoredDataset
from hcl.models.checkpoint import load_checkpoint
from orchestration.training.grids import GridJob
from orchestration.training.run_files import BEST, FUSED_WEIGHTS, FUSION, LAST, PREVIOUS


def resources_of(experiment: Experiment) -> dict[str, float]:
    """Return the resources of a run of this experiment: CPUs for each worker, and a GPU for each if it uses GPUs."""
    workers = float(experiment.train.workers)
    return {
        "workers": workers,
        "cpus": workers * experiment.train.cpus_per_worker,
        "gpus": workers if experiment.train.use_gpu else 0.0,
    }


def gpus_here() -> dict[str, list[str]]:
    """Return the names of this machine's GPUs for the provenance; empty if there are none."""
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"gpus": names} if names else {}


@dataclass(frozen=True)
class Run:
    """Describe a training run: its experiment, its data and its folders.

    Attributes:
        runs: the folder of runs, which also holds the cache of grids.
        until: the epoch to stop after; None: the experiment's last.
    """

    experiment: Experiment
    data: DataRoot
    runs: Path
    folder: Path
    until: int | None = None

    @property
    def last_epoch(self) -> int:
        """Return the epoch after which it ends; the learning-rate schedule spans all the experiment's epochs."""
        return self.until or self.experiment.train.epochs

    @property
    def stored(self) -> StoredDataset:
        """The data set that it learns from."""
        return self.data.dataset(self.experiment.data.dataset)

    def partitions(self) -> tuple[Partition, Partition]:
        """Return the partitions of training (merged) and of selection, each as `StoredDataset.effective` gives it.

        Raises:
            SplitError, DataError: as `StoredDataset.check_lists` and `StoredDataset.effective`.
        """
        settings, stored, keep = self.experiment.data, self.stored, self.experiment.learns_from_copies
        stored.check_lists()
        train = [stored.effective(name, keep_copies=keep) for name in settings.train_partitions]
        merged = train[0] if len(train) == 1 else merge(train, "+".join(settings.train_partitions))
        return merged, stored.effective(settings.selection_partition, keep_copies=keep)

    def grid_jobs(self) -> list[GridJob]:
        """Return the grids that frozen stages encode before the run."""
        if not backbones.caches_grids(self.experiment):
            return []
        train, selection = self.partitions()
        return [
            GridJob(self.experiment, self.stored, train, training=True),
            GridJob(self.experiment, self.stored, selection, training=False),
        ]

    def datasets(self, train: Partition, selection: Partition) -> tuple[Dataset, Dataset]:
        """Return the clips of both partitions, or their grids if frozen stages are cached."""
        jobs = self.grid_jobs()
        if jobs:
            train_grids, selection_grids = (job.dataset(self.runs) for job in jobs)
            return train_grids, selection_grids
        frames = inputs.frame_store(self.experiment, self.stored)
        return (
            inputs.make_dataset(self.experiment, frames, train, training=True),
            inputs.make_dataset(self.experiment, frames, selection, training=False),
        )

    def has_last(self) -> bool:
        """Return whether there is a checkpoint to resume from."""
        return any((self.folder / name).exists() for name in (LAST, PREVIOUS))

    def epochs_done(self) -> int:
        """Return the number of epochs whose checkpoint is on disk. Raises CheckpointError as `resumption`."""
        return self.resumption(holding=["epoch"]).state.get("epoch", 0)

    def resumption(self, *, holding: Collection[str], device: str | torch.device = "cpu") -> Resumption:
        """Read the checkpoint that training resumes from: the last or, if it is damaged or gone, the one before it.

        Args:
            holding: the parts of the state that are needed.

        Raises:
            CheckpointError: if the run has trained, but neither of the two can be read. Nothing is deleted.
        """
        problems = []
        for name in (LAST, PREVIOUS):
            try:
                state = load_checkpoint(self.folder / name, map_location=device, holding=holding)
            except CheckpointError as error:
                problems.append(error.problem)
            else:
                return Resumption(name, state, problems[0] if problems else "")
        n_epochs = self._epochs_shown()
        if not self.has_last() and not n_epochs:
            return Resumption("", {}, "")
        best = self.folder / BEST
        others = (
            f"; its best weights can be evaluated: hcl evaluate {shlex.quote(self.folder.name)}"
            if best.exists()
            else ""
        )
        raise CheckpointError(
            f"{problems[0]}, though the run has trained {n_epochs} epochs; {PREVIOUS}: {problems[1]}",
            where=str(self.folder / LAST),
            remedy=f"restore one of the two from a backup, or start over with --restart{others}",
        )

    def _epochs_shown(self) -> int:
        """Return the number of epochs that have certainly ended, as shown by other files than the two checkpoints.

        The first epoch's metrics are written before its checkpoint, and `best.pt` gets its name after that.
        """
        rows: list[dict[str, Any]] = []
        with suppress(results.RecordError):
            rows = results.read_epochs(self.folder)
        n_epochs = max((row["epoch"] for row in rows), default=0)
        return max(n_epochs, 1) if (self.folder / BEST).exists() or n_epochs > 1 else 0


class Resumption(NamedTuple):
    """Hold the checkpoint that training resumes from.

    Attributes:
        file: `LAST` or `PREVIOUS`; empty if training starts from the beginning.
        state: the content of the file.
        problem: the problem of the last checkpoint, if `file` is not `LAST`.
    """

    file: str
    state: dict[str, Any]
    problem: str


def write_fusion(
    folder: Path, settings: Mapping[str, Any], how: str, *, partition: str = "val", weights: str = ""
) -> None:
    """Write a fusion, by dotted path.

    Args:
        partition: the partition on which it was chosen.
        weights: digest of the checkpoint with which it was chosen.
    """
    content = {**({FUSED_WEIGHTS: weights} if weights else {}), **nest(settings)}
    header = f"# Chosen on {partition} {how}; `hcl evaluate RUN --fused` reads it.\n"
    write_atomically(folder / FUSION, f"{header}{dump_yaml(content)}".encode())
