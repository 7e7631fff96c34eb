"""Run one training worker: open the data, build the model, train the epochs.

The same code runs inside Ray Train's workers and inside a Tune trial of one worker, and does not depend on Ray. Writing
and resuming are in `orchestration.training.checkpointing`.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.utils.data import Dataset

import results
from hcl.assembly import inputs, models
from hcl.assembly.models import Model
from hcl.clips.batches import Batch, sampled_batches
from hcl.clips.episodes import Episodes
from hcl.config import Experiment
from hcl.datasets.splits import Partition
from hcl.errors import NonFiniteLossError, StorageError
from hcl.models.precision import set_convolutions
from hcl.training.epoch import train_epoch
from hcl.training.losses import TERMS
from hcl.training.optimisation import set_learning_rates
from hcl.training.process_group import ProcessGroup, SingleProcess
from hcl.training.regimes import Regime
from hcl.training.validation import Validation
from orchestration.runtime.notices import keep_notices
from orchestration.training.checkpointing import Keeper, Position, Trained
from orchestration.training.resumption import FUSED_ACCURACY, FUSED_SIGMAS
from orchestration.training.run import Run


def run_epochs(
    run: Run,
    *,
    group: ProcessGroup | None = None,
    device: torch.device | str = "cpu",
    wrap: Callable[[Model], nn.Module] = lambda model: model,
    on_epoch: Callable[[dict[str, Any]], bool | None] | None = None,
) -> dict[str, Any]:
    """Train from the last checkpoint, or from the start, to the last epoch; return the best epoch's metrics.

    Args:
        wrap: moves the model to its device and wraps it for data parallelism.
        on_epoch: called with each epoch's metrics by every worker, once they are on disk; training ends if it returns
            True, which must be the same in all workers.
    """
    keep_notices(run.runs)
    experiment, group, device = run.experiment, group or SingleProcess(), torch.device(device)
    set_convolutions(experiment.train.precision)
    partition, val_partition = run.partitions()
    train_clips, val_clips = run.datasets(partition, val_partition)
    episodes = inputs.val_episodes(experiment, val_partition)
    model = models.make_model(
        experiment, len(partition.classes), random_weights=run.has_last() and not experiment.model.is_adapted
    )
    optimizer = models.optimizer_of(experiment, model)
    models.prepare_training(experiment, model)
    wrapped = wrap(model)
    regime = models.make_regime(
        experiment,
        class_embeddings=inputs.class_embeddings(experiment, run.stored, partition),
        val_embeddings=inputs.clip_embeddings(experiment, run.stored, val_partition),
    )
    trained = Trained(model, optimizer, _scaler(experiment, device))
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    loss = regime.loss(wrapped, group=group, device=device, precision=experiment.train.precision)
    keeper = Keeper(run, trained, partition, is_writer=group.rank == 0, n_workers=group.world_size)
    with keeper.writing():
        position = _restored(keeper, group, device)
        keeper.begin(position, device)
        while position.epoch < run.last_epoch:
            set_learning_rates(trained.optimizer, models.rate_factor(experiment, position.epoch))
            try:
                metrics = train_epoch(
                    wrapped,
                    trained.optimizer,
                    _batches(experiment, regime, train_clips, partition, position, group, device),
                    batches_per_step=regime.sampler.batches_per_step(group.world_size),
                    sums=position.sums,
                    on_step=lambda _, values: keeper.after_step(position, values),
                    loss=loss,
                    clip_norm=experiment.optim.clip_norm,
                    group=group,
                    scaler=trained.scaler,
                )
            except NonFiniteLossError as error:
                raise keeper.non_finite(error, position) from error
            began = time.perf_counter()
            found = _validate(experiment, regime, model, val_clips, episodes, group, device)
            seconds = time.perf_counter() - began
            metrics = group.mean({**metrics, "memory_gb": _peak_memory(device) / 1e9, "parameters": n_parameters})
            position.finish(_row(position.epoch + 1, regime, metrics, found, experiment, trained.optimizer, seconds))
            keeper.after_epoch(position)
            if on_epoch is not None and on_epoch(position.row):
                break
    return position.best


def _restored(keeper: Keeper, group: ProcessGroup, device: torch.device) -> Position:
    """Restore all workers from one and the same checkpoint, though a network file system may show it late.

    Raises StorageError if they see different checkpoints.
    """
    group.barrier()  # until rank 0 has the right to write: what another process wrote before that counts
    for attempt in range(_N_LOOKS):
        position = keeper.restore(device)
        seen = group.all_gather_numbers([position.epoch, position.sums.steps])
        if seen == seen[:2] * group.world_size:
            return position
        time.sleep(_LOOK_S if attempt < _N_LOOKS - 1 else 0.0)
    raise StorageError(
        f"its workers see different checkpoints: (epoch, step) {list(zip(seen[::2], seen[1::2], strict=True))}",
        where=str(keeper.run.folder),
        remedy="put --runs on storage that shows every node the same files",
    )


_N_LOOKS, _LOOK_S = 5, 3.0


def _batches(
    experiment: Experiment,
    regime: Regime,
    clips: Dataset,
    partition: Partition,
    position: Position,
    group: ProcessGroup,
    device: torch.device,
) -> Iterator[Batch]:
    """Return this worker's share of the remaining batches of the epoch."""
    train = experiment.train
    return sampled_batches(
        regime.sampler,
        clips,
        partition.labels,
        steps=train.batches_per_epoch,
        epoch=position.epoch,
        first_step=position.sums.steps,
        rank=group.rank,
        world_size=group.world_size,
        processes=train.loader_processes,
        prefetch=train.prefetch,
        pin_memory=device.type == "cuda",
        class_names=partition.classes,
    )


def _validate(
    experiment: Experiment,
    regime: Regime,
    model: Model,
    clips: Dataset,
    episodes: Sequence[Episodes],
    group: ProcessGroup,
    device: torch.device,
) -> Validation:
    """Validate with the weights and batch-norm statistics that a checkpoint keeps."""
    group.broadcast_buffers(model)
    return regime.validate(
        model,
        clips,
        episodes,
        group=group,
        device=device,
        processes=experiment.train.loader_processes,
        precision=experiment.train.precision,
    )


def _scaler(experiment: Experiment, device: torch.device) -> GradScaler:
    return GradScaler(device.type, enabled=experiment.train.precision == "float16")


def _row(
    epoch: int,
    regime: Regime,
    metrics: dict[str, float],
    validation: Validation,
    experiment: Experiment,
    optimizer: Optimizer,
    seconds: float,
) -> dict[str, Any]:
    of_shot = dict(zip(experiment.train.val_shots, map(results.mean_and_ci95, validation.accuracies), strict=True))
    accuracy = sum(accuracy_of_shot.mean for accuracy_of_shot in of_shot.values()) / len(of_shot)
    validated = {
        "val_accuracy": accuracy,
        # shots share classes and queries, so their mean is taken in each episode
        "val_ci95": results.mean_and_ci95(np.mean(validation.accuracies, axis=0)).ci95,
    }
    if len(of_shot) > 1:
        validated |= {f"val_accuracy_{shot}_shot": one.mean for shot, one in of_shot.items()}
    if validation.sigmas is not None and validation.fused_accuracy is not None:
        validated[FUSED_ACCURACY] = validation.fused_accuracy
        validated |= {FUSED_SIGMAS[level]: sigma for level, sigma in validation.sigmas.items()}
    losses = {*regime.terms, "total"}
    terms = {f"loss_{name}" if name in losses else name: value for name, value in metrics.items()}
    lr = optimizer.param_groups[0]["lr"]
    return {"epoch": epoch, **validated, **terms, "lr": lr, "val_seconds": seconds}


METRICS = (
    "val_accuracy",
    FUSED_ACCURACY,
    "train_accuracy",
    *(f"loss_{term}" for term in (*TERMS, "total")),
    "gradient_norm",
    "clips_per_second",
    "memory_gb",
    "parameters",
)
"""Metrics that a study may optimise."""


def _peak_memory(device: torch.device) -> int:
    """Return the largest number of bytes that this worker has used, on its GPU or, without one, in its process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
