"""One step and one epoch of contrastive training; one validation by episodes.

Device, gathering and data are passed in: the same code runs in one process and in every DDP worker.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hcl.clips import Draw
from hcl.episodes import Episodes, pair_batch
from hcl.errors import TrainingError
from hcl.gather import Gather, OneProcess
from hcl.losses import classification_loss, contrastive_terms, neighbouring_pairs, weighted_total
from hcl.model import HCL, ClipFeatures
from hcl.scores import Levels, accuracies, fused, look_up, score_episode, score_pairs


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
        indices = np.array([draw.index for draw in share])
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
    with _autocast(device, precision):
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
    return {name: float(value) for name, value in values.items()}


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
    means = {name: value / count for name, value in sums.items()}
    return means | {"clips_per_second": clips / seconds, "data_wait": waited / seconds, "train_seconds": seconds}


@torch.no_grad()
def encode(
    model: HCL,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    processes: int = 0,
    precision: str = "float32",
) -> tuple[Shaped[Tensor, "clip frame patch dim"], int]:
    """Tokens of some clips (test view), and the rows of their patch grid."""
    model.eval()
    loader = DataLoader(dataset, sampler=list(indices), batch_size=batch_size, num_workers=processes)
    tokens, rows = [], 0
    for clips in loader:
        with _autocast(device, precision):
            hidden, rows = model.tokens(clips.to(device))
        tokens.append(hidden.float())
    return torch.cat(tokens), rows


def validate(
    model: HCL,
    dataset: Dataset,
    episodes: Episodes,
    *,
    metric: str,
    sigmas: Mapping[str, float],
    matching: Mapping[str, Any],
    project: bool = True,
    gather: Gather | None = None,
    **encoding: Any,
) -> np.ndarray:
    """Accuracy of each episode; every worker encodes its share of the clips that the episodes need.

    Args:
        matching: the keyword arguments of `hcl.scores.score_pairs` with tuple_sizes.
    """
    gather = gather or OneProcess()
    needed = np.unique(np.concatenate([episodes.support.ravel(), episodes.query.ravel()]))
    share = np.array_split(needed, gather.world)[gather.rank]
    tokens, rows = encode(model, dataset, share.tolist(), **encoding)
    features = model.heads(gather.rows(tokens), rows, project=project)
    local = Episodes(
        episodes.classes, np.searchsorted(needed, episodes.support), np.searchsorted(needed, episodes.query)
    )
    levels = episode_levels(features, local, metric=metric, **matching)
    return accuracies(fused(levels, sigmas), episodes.query.shape[2])


@torch.no_grad()
def episode_levels(features: ClipFeatures, episodes: Episodes, *, metric: str, tuple_sizes, **matching: Any) -> Levels:
    """Levels of all episodes by the cheaper of two equal ways: all pairs once, or episode by episode."""
    pairs_of_episodes = episodes.query[0].size * episodes.support[0].size * len(episodes)
    if len(features) ** 2 <= pairs_of_episodes:
        table = score_pairs(features, features, tuple_sizes=tuple_sizes, **matching)
        arrays = {name: values.cpu().numpy() for name, values in table.items()}
        return look_up(arrays, episodes, metric=metric, tuple_sizes=tuple_sizes)
    each = []
    for support, query in zip(episodes.support, episodes.query, strict=True):
        clips = torch.from_numpy(np.concatenate([support.ravel(), query.ravel()]))
        levels = score_episode(
            features[clips], way=episodes.way, shot=episodes.shot, metric=metric, tuple_sizes=tuple_sizes, **matching
        )
        each.append(levels)
    return Levels(*(np.stack(level) for level in zip(*each, strict=True)))


def _autocast(device: torch.device | str, precision: str):
    if precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


def _float32(features: ClipFeatures) -> ClipFeatures:
    return ClipFeatures(
        tuple(p.float() for p in features.patches),
        tuple(u.float() for u in features.tuples),
        features.clip.float(),
        None if features.semantics is None else tuple(e.float() for e in features.semantics),
    )
