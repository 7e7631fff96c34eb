"""One step and one epoch of contrastive training.

Device, gathering and data are passed in: the same code runs in one process and in every DDP worker.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hcl.clips import Draw
from hcl.episodes import pair_batch
from hcl.errors import TrainingError
from hcl.gather import Gather, OneProcess
from hcl.losses import classification_loss, contrastive_terms, neighbouring_pairs, weighted_total
from hcl.model import ClipFeatures, autocast


class Batch(NamedTuple):
    """This worker's share of a pair batch."""

    clips: Tensor
    labels: Tensor
    indices: Int[np.ndarray, "clip"]


def pair_batches(
    dataset: Dataset,
    labels: Int[np.ndarray, "clip"],
    *,
    classes_per_batch: int,
    batches: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    processes: int = 0,
    class_names: Sequence[str] | None = None,
) -> Iterator[Batch]:
    """One epoch of pair batches; worker `rank` gets its share of each, the same clips whatever `world` is."""
    shares = []
    for step in range(batches):
        indices = pair_batch(
            labels, classes_per_batch=classes_per_batch, seed=seed, epoch=epoch, step=step, class_names=class_names
        )
        shares.append([Draw(int(i), (seed, epoch, step)) for i in np.split(indices, world)[rank]])
    loader = DataLoader(
        dataset,
        batch_sampler=shares,
        num_workers=processes,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=2 if processes else None,
    )
    for share, clips in zip(shares, loader, strict=True):
        indices = np.array([draw.clip for draw in share])
        yield Batch(clips, torch.from_numpy(labels[indices]), indices)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    sigmas: Mapping[str, float],
    matching: Mapping[str, Any],
    clip_norm: float,
    gather: Gather | None = None,
    device: torch.device | str = "cpu",
    precision: str = "float32",
) -> dict[str, float]:
    """Forward, backward and one update; returns the unweighted terms, their total and the accuracy of the logits.

    Args:
        model: `HCL`, or DDP around it.
        sigmas: weight of each term by its name in `hcl.losses.TERMS`.
        matching: the keyword arguments of `hcl.losses.contrastive_terms`.

    Raises:
        TrainingError: a term is not finite.
    """
    gather = gather or OneProcess()
    clips, labels = batch.clips.to(device, non_blocking=True), batch.labels.to(device, non_blocking=True)
    with autocast(device, precision):
        features, logits = model(clips)
    features, logits = _float32(features), logits.float()
    pairs = neighbouring_pairs(gather.rank * len(labels), len(labels), logits.device)
    terms = {"ce": classification_loss(logits, labels)}
    terms |= contrastive_terms(features, gather.features(features), pairs, **matching)
    total = weighted_total(terms, sigmas)
    if not torch.isfinite(total):
        wrong = [name for name, value in terms.items() if not torch.isfinite(value)] or ["total"]
        raise TrainingError(
            f"the loss is not finite: {', '.join(wrong)} (clips {batch.indices.tolist()} of this worker)",
            where="training",
            remedy="lower optim.lr, raise loss.temperature, or train in float32 (train.precision)",
        )
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm or float("inf"))
    optimizer.step()
    accuracy = (logits.argmax(dim=-1) == labels).float().mean()
    values = {**terms, "total": total, "train_accuracy": accuracy, "gradient_norm": norm}
    return {name: float(value.detach()) for name, value in values.items()}


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    *,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    **step: Any,
) -> dict[str, float]:
    """All steps of an epoch; means over them, with the clips a second and the share of time spent waiting for data."""
    model.train()
    sums: dict[str, float] = defaultdict(float)
    count, clips, waited = 0, 0, 0.0
    start = ready = time.perf_counter()
    for batch in batches:
        waited += time.perf_counter() - ready
        for name, value in (values := train_step(model, optimizer, batch, **step)).items():
            sums[name] += value
        count, clips = count + 1, clips + len(batch.indices)
        if on_step is not None:
            on_step(count, values)
        ready = time.perf_counter()
    seconds = time.perf_counter() - start
    clips *= (step.get("gather") or OneProcess()).world  # equal shares: what all workers did
    means = {name: value / count for name, value in sums.items()}
    return means | {"clips_per_second": clips / seconds, "data_wait": waited / seconds, "train_seconds": seconds}


def _float32(features: ClipFeatures) -> ClipFeatures:
    return ClipFeatures(
        tuple(p.float() for p in features.patches),
        tuple(u.float() for u in features.tuples),
        features.clip.float(),
        None if features.semantics is None else tuple(e.float() for e in features.semantics),
    )
