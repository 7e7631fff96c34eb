"""What one training worker does: open the data, build the model, run the epochs, keep checkpoints.

The same code runs inside Ray Train's workers and inside a Tune trial of one worker; nothing here knows Ray.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import Dataset
from torch.utils.tensorboard import SummaryWriter

import results
from hcl import build
from hcl.checkpoint import load_checkpoint, load_model, save_checkpoint
from hcl.config import Experiment
from hcl.effective import effective_partition
from hcl.evaluation import validate
from hcl.frames import FrameStore
from hcl.gather import Gather, OneProcess
from hcl.grids import GridDataset
from hcl.losses import TERMS
from hcl.model import HCL
from hcl.optimisation import learning_rate_factor, make_optimizer, parameter_groups, set_learning_rates
from hcl.resolve import to_yaml
from hcl.splits import Partition, merge, read_split
from hcl.training import pair_batches, train_epoch
from orchestration.grids import GridJob

LAST, BEST = "checkpoints/last.pt", "checkpoints/best.pt"
PROGRESS = "progress.json"


@dataclass(frozen=True)
class Run:
    """A training run: what, from where, to where. `runs` also holds the cache of grids."""

    experiment: Experiment
    data_root: Path
    runs: Path
    folder: Path

    def partitions(self) -> tuple[Partition, Partition]:
        """Those of training (merged) and of selection, without videos that could not be decoded."""
        data = self.experiment.data
        split = read_split(self.data_root, data.dataset).partitions
        train = [effective_partition(self.data_root, split[name]) for name in data.train_partitions]
        merged = train[0] if len(train) == 1 else merge(train, "+".join(data.train_partitions))
        return merged, effective_partition(self.data_root, split[data.selection_partition])

    def grid_jobs(self) -> list[GridJob]:
        """What frozen stages encode before the run."""
        if not build.caches_grids(self.experiment):
            return []
        train, selection = self.partitions()
        return [
            GridJob(self.experiment, self.data_root, train, training=True),
            GridJob(self.experiment, self.data_root, selection, training=False),
        ]

    def epochs_done(self) -> int:
        """Epochs whose checkpoint is on disk."""
        return load_checkpoint(self.folder / LAST)["epoch"] if _has_last(self) else 0


def run_epochs(
    run: Run,
    *,
    gather: Gather | None = None,
    device: torch.device | str = "cpu",
    wrap: Callable[[HCL], nn.Module] = lambda model: model,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train from the last checkpoint, or from the beginning, to the last epoch; returns the best epoch's metrics.

    Args:
        wrap: puts the model under data parallelism and on its device.
        on_epoch: called with each epoch's metrics by every worker, once they are on disk.
    """
    experiment, gather = run.experiment, gather or OneProcess()
    train_partition, val_partition = run.partitions()
    train_clips, val_clips = _datasets(run, train_partition, val_partition)
    episodes = build.val_episodes(experiment, val_partition)
    model = build.make_model(experiment, len(train_partition.classes), random_weights=_has_last(run))
    wrapped = wrap(model)
    optim = experiment.optim
    groups = parameter_groups(
        model, lr=optim.lr, backbone_lr_factor=optim.backbone_lr_factor, weight_decay=optim.weight_decay
    )
    optimizer = make_optimizer(groups, name=optim.optimizer, momentum=optim.momentum)
    done, best = _restore(run, model, optimizer, device)
    for epoch in range(done, experiment.train.epochs):
        set_learning_rates(optimizer, _factor(experiment, epoch))
        torch.manual_seed(_seed(experiment.seed, epoch, gather.rank))  # dropout: a resumed run draws the same
        metrics = train_epoch(
            wrapped,
            optimizer,
            pair_batches(
                train_clips,
                train_partition.labels,
                classes_per_batch=experiment.train.classes_per_batch,
                batches=experiment.train.batches_per_epoch,
                seed=experiment.seed,
                epoch=epoch,
                rank=gather.rank,
                world=gather.world,
                processes=experiment.train.loader_processes,
                class_names=train_partition.classes,
            ),
            sigmas=build.sigmas_of_loss(experiment),
            matching=build.training_matching(experiment),
            clip_norm=optim.clip_norm,
            gather=gather,
            device=device,
            precision=experiment.train.precision,
            on_step=_Progress(run, epoch) if gather.rank == 0 else None,
        )
        began = time.perf_counter()
        gather.share_buffers(model)
        accuracies = validate(
            model,
            val_clips,
            episodes,
            metric=experiment.matching.metric,
            project=experiment.matching.project_at_test,
            sigmas=build.sigmas_of_fusion(experiment),
            matching=build.test_matching(experiment),
            defects=build.defects(experiment),
            gather=gather,
            device=device,
            processes=experiment.train.loader_processes,
            precision=experiment.train.precision,
        )
        row = _row(epoch, gather.mean(metrics), accuracies, optimizer, time.perf_counter() - began)
        best = max(best, row, key=lambda one: one["val_accuracy"]) if best else row  # of equals the earlier
        if gather.rank == 0:
            _keep(run, model, optimizer, train_partition, row, best)
        if on_epoch is not None:
            on_epoch(row)
    return best


def _datasets(run: Run, train: Partition, val: Partition) -> tuple[Dataset, Dataset]:
    jobs = run.grid_jobs()
    if jobs:
        train_grids, val_grids = (GridDataset(job.store(run.runs)) for job in jobs)
        return train_grids, val_grids
    frames = FrameStore(run.data_root / "images" / run.experiment.data.dataset)
    return (
        build.make_dataset(run.experiment, frames, train, training=True),
        build.make_dataset(run.experiment, frames, val, training=False),
    )


def _row(
    epoch: int, metrics: dict[str, float], accuracies: np.ndarray, optimizer: Optimizer, seconds: float
) -> dict[str, Any]:
    accuracy, ci95 = results.mean_and_ci95(accuracies)
    terms = {f"loss_{name}" if name in _TERMS else name: value for name, value in metrics.items()}
    return {
        "epoch": epoch + 1,
        "val_accuracy": accuracy,
        "val_ci95": ci95,
        **terms,
        "lr": optimizer.param_groups[0]["lr"],
        "val_seconds": seconds,
    }


_TERMS = frozenset((*TERMS, "total"))
METRICS = ("val_accuracy", "train_accuracy", *(f"loss_{term}" for term in (*TERMS, "total")), "gradient_norm")
"""What a study may optimise."""


def _keep(
    run: Run, model: HCL, optimizer: Optimizer, partition: Partition, row: dict[str, Any], best: dict[str, Any]
) -> None:
    state = {
        "epoch": row["epoch"],
        "metrics": row,
        "best": best,
        "experiment": to_yaml(run.experiment),
        "experiment_digest": run.experiment.digest(),
        "classes": list(partition.classes),
    }
    (run.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    if best["epoch"] == row["epoch"]:
        save_checkpoint(run.folder / BEST, model=model, state=state)
    results.append_epoch(run.folder, row)
    with SummaryWriter(run.folder / "tensorboard", purge_step=row["epoch"]) as events:
        for name, value in row.items():
            events.add_scalar(name, value, row["epoch"])
    save_checkpoint(run.folder / LAST, model=model, state={**state, "optimizer": optimizer.state_dict()})


def _has_last(run: Run) -> bool:
    return (run.folder / LAST).exists()


def _restore(run: Run, model: HCL, optimizer: Optimizer, device: torch.device | str) -> tuple[int, dict[str, Any]]:
    """Epochs done and the best so far."""
    if not _has_last(run):
        return 0, {}
    path = run.folder / LAST
    state = load_checkpoint(path, map_location=device)
    load_model(model, state["model"], source=str(path))
    optimizer.load_state_dict(state["optimizer"])
    return state["epoch"], state["best"]


def _factor(experiment: Experiment, epoch: int) -> float:
    optim = experiment.optim
    return learning_rate_factor(
        optim.schedule,
        epoch,
        step_size=optim.step_size,
        milestones=optim.milestones,
        gamma=optim.gamma,
        warmup_epochs=optim.warmup_epochs,
        epochs=experiment.train.epochs,
    )


def _seed(*names: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:7], "big")


class _Progress:
    """Writes how far an epoch is, at most once a second, for whoever watches the run's folder."""

    def __init__(self, run: Run, epoch: int):
        self.run, self.epoch, self.written = run, epoch, 0.0

    def __call__(self, step: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        if now - self.written < 1.0:
            return
        self.written = now
        train = self.run.experiment.train
        content = {"epoch": self.epoch + 1, "epochs": train.epochs, "step": step, "steps": train.batches_per_epoch}
        partial = self.run.folder / f".{PROGRESS}.partial"
        partial.write_text(json.dumps(content | {"total": values["total"]}))
        os.replace(partial, self.run.folder / PROGRESS)
