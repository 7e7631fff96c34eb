"""One step and one epoch of training.

Process group, loss and data are passed in: the same code runs in one process and in every DDP worker. All that is
random about a step comes with its batches and nothing is drawn here, so that an epoch that is resumed in its middle
ends as one that was not interrupted.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel

from hcl.clips.batches import Batch
from hcl.errors import NonFiniteLossError
from hcl.training.process_group import ProcessGroup, SingleProcess


class BatchLoss(NamedTuple):
    """The loss of a batch.

    Attributes:
        terms: the unweighted terms, by name.
        total: the value that is minimised.
        accuracy: of this worker's clips, as the loss classifies them.
    """

    terms: dict[str, Tensor]
    total: Tensor
    accuracy: Tensor


Loss = Callable[[Batch], BatchLoss]


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    *,
    loss: Loss,
    clip_norm: float,
    group: ProcessGroup | None = None,
    scaler: GradScaler | None = None,
) -> dict[str, float]:
    """Run forward and backward of each batch and one update; return the means of terms, total and accuracy.

    All workers know the terms of all before anything is updated: they stop together, none waits for another.

    Args:
        batches: their gradients are added up, so that the step minimises the mean of their losses and only one of
            them is in memory.
        clip_norm: largest norm of the gradient; 0 does not clip.
        scaler: for float16: scales the loss, and leaves out a step whose gradients overflow. Such a step has no
            `gradient_norm`.

    Raises:
        NonFiniteLossError: a term is not finite, at any worker.
    """
    group, scaler = group or SingleProcess(), scaler or GradScaler(enabled=False)
    optimizer.zero_grad(set_to_none=True)
    per_batch = []
    for number, batch in enumerate(batches, start=1):
        with _gradients_shared(model, number == len(batches)):
            result = loss(batch)
            scaler.scale(result.total / len(batches)).backward()
        named = {**result.terms, "total": result.total, "train_accuracy": result.accuracy}
        per_batch.append(torch.stack([value.detach() for value in named.values()]))
    numbers = torch.stack(per_batch).mean(dim=0).tolist()  # one wait for the device
    values = group.mean(dict(zip(named, numbers, strict=True)))
    if broken := [name for name, value in values.items() if not np.isfinite(value)]:
        # Every worker comes here, with the same terms: the mean of a NaN and anything is NaN.
        clips = [int(index) for batch in batches for index in batch.indices]
        terms = [name for name in broken if name != "total"] or broken
        raise NonFiniteLossError(terms, group.all_gather_numbers(clips))
    scaler.unscale_(optimizer)
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), clip_norm or float("inf")))
    scaler.step(optimizer)
    scaler.update()
    return values if scaler.is_enabled() and not np.isfinite(norm) else {**values, "gradient_norm": norm}


def _gradients_shared(model: nn.Module, is_last: bool) -> AbstractContextManager[None]:
    """Let data parallelism share the sum of the workers' gradients once, with the last batch of a step."""
    return nullcontext() if is_last or not isinstance(model, DistributedDataParallel) else model.no_sync()


@dataclass
class EpochSums:
    """The sums of an epoch so far, from which it can be resumed in its middle. A checkpoint keeps `state`."""

    steps: int = 0
    clips: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    totals: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def state(self) -> dict[str, Any]:
        return asdict(self)

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.totals[name] = self.totals.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Return the means of the values, with the clips a second and the share of time spent waiting for data."""
        means = {name: total / self.counts[name] for name, total in self.totals.items()}
        seconds = max(self.seconds, 1e-9)
        speed = {"clips_per_second": self.clips / seconds, "data_wait": self.waited / seconds}
        return means | speed | {"train_seconds": self.seconds}


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    *,
    loss: Loss,
    clip_norm: float,
    batches_per_step: int = 1,
    group: ProcessGroup | None = None,
    scaler: GradScaler | None = None,
    sums: EpochSums | None = None,
    on_step: Callable[[EpochSums, dict[str, float]], None] | None = None,
) -> dict[str, float]:
    """Run all steps of an epoch; return the means over them, as `EpochSums.means` gives them.

    Args:
        batches: those that are still to do.
        loss, clip_norm, group, scaler: as in `train_step`.
        batches_per_step: so many consecutive ones make a step.
        sums: of the steps that were done before; they are added to.
        on_step: called after each step with the sums and the step's own values.
    """
    model.train()
    group, sums = group or SingleProcess(), sums or EpochSums()
    before, began = sums.seconds, time.perf_counter()
    ready = began
    batches = iter(batches)
    while step_batches := list(itertools.islice(batches, batches_per_step)):
        sums.waited += time.perf_counter() - ready
        values = train_step(model, optimizer, step_batches, loss=loss, clip_norm=clip_norm, group=group, scaler=scaler)
        sums.add(values)
        sums.steps += 1
        sums.clips += group.world_size * sum(len(batch.indices) for batch in step_batches)  # the shares are equal
        sums.seconds = before + time.perf_counter() - began
        if on_step is not None:
            on_step(sums, values)
        ready = time.perf_counter()
    return sums.means()
