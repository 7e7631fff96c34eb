"""Batches of clips for training: the same ones for any number of workers, from any step of an epoch on.

A sampler says which clips a step is made of, as a function of (seed, epoch, step), and how workers share them.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hcl.clips.dataset import Draw
from hcl.clips.episodes import pair_batch, training_episode
from hcl.errors import ConfigError

Labels = Int[np.ndarray, "clip"]
Part = Int[np.ndarray, "_part"]
"""Indices of the clips of which one loss is computed."""


def draw_key(*names: int) -> int:
    """Return the key of what some numbers name, such as (seed, epoch, step, place in the batch): 64 bits, signed."""
    return int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:8], "big", signed=True)


class Batch(NamedTuple):
    """The clips of which a worker computes one loss: its share of a pair batch, or a whole episode.

    Attributes:
        draws: a key for each clip: what drops out of it in the model (`hcl.models.dropout`).
    """

    clips: Tensor
    labels: Tensor
    indices: Int[np.ndarray, "clip"]
    draws: Int[Tensor, "clip"]


@runtime_checkable
class Sampler(Protocol):
    """Which clips a step is made of; `seed` is that of the draws and of the clips' augmentation."""

    @property
    def seed(self) -> int: ...

    def draw(self, labels: Labels, *, epoch: int, step: int, class_names: Sequence[str] | None = None) -> list[Part]:
        """The whole step's clips, in the parts whose gradients are added up. Raises EpisodeError."""
        ...

    def share(self, parts: list[Part], rank: int, world_size: int) -> list[Part]:
        """One worker's part of them; the workers' shares are equal."""
        ...

    def batches_per_step(self, world_size: int) -> int:
        """How many batches a worker's share is. Raises ConfigError where equal shares are impossible."""
        ...


@dataclass(frozen=True)
class PairSampler:
    """Two clips of each class; every worker takes a part of one batch."""

    classes_per_batch: int
    seed: int

    def draw(self, labels: Labels, *, epoch: int, step: int, class_names: Sequence[str] | None = None) -> list[Part]:
        where = {"seed": self.seed, "epoch": epoch, "step": step}
        return [pair_batch(labels, classes_per_batch=self.classes_per_batch, class_names=class_names, **where)]

    def share(self, parts: list[Part], rank: int, world_size: int) -> list[Part]:
        return [np.split(part, world_size)[rank] for part in parts]

    def batches_per_step(self, world_size: int) -> int:
        if 2 * self.classes_per_batch % world_size:
            raise ConfigError(
                f"2 clips of each of {self.classes_per_batch} classes cannot be shared evenly by {world_size} workers",
                where="train.classes_per_batch",
                remedy="make it a multiple of train.workers: with unequal shares the mean of the workers' losses is "
                "not the loss of the batch",
            )
        return 1


@dataclass(frozen=True)
class EpisodeSampler:
    """Whole episodes, each with its own loss; every worker takes some of them."""

    way: int
    shot: int
    queries: int
    episodes: int
    seed: int

    def draw(self, labels: Labels, *, epoch: int, step: int, class_names: Sequence[str] | None = None) -> list[Part]:
        one = partial(training_episode, labels, way=self.way, shot=self.shot, queries=self.queries)
        where = {"seed": self.seed, "epoch": epoch, "step": step}
        return [one(number=number, class_names=class_names, **where) for number in range(self.episodes)]

    def share(self, parts: list[Part], rank: int, world_size: int) -> list[Part]:
        each = self.batches_per_step(world_size)
        return parts[rank * each : (rank + 1) * each]

    def batches_per_step(self, world_size: int) -> int:
        if self.episodes % world_size:
            raise ConfigError(
                f"{self.episodes} episodes cannot be shared evenly by {world_size} workers",
                where="train.episodes_per_step",
                remedy="make it a multiple of train.workers",
            )
        return self.episodes // world_size


def sampled_batches(
    sampler: Sampler,
    dataset: Dataset,
    labels: Labels,
    *,
    steps: int,
    epoch: int,
    first_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    processes: int = 0,
    prefetch: int = 2,
    pin_memory: bool = False,
    class_names: Sequence[str] | None = None,
) -> Iterator[Batch]:
    """One epoch of worker `rank`: its batches of every step, one step after another.

    Args:
        first_step: steps that were done before.
        processes: that read clips, this many beside the worker; none: the worker reads them itself.
        prefetch: batches that each of them reads ahead.
        pin_memory: put clips where a GPU can fetch them while it computes.

    Raises:
        ConfigError: the workers cannot take equal shares.
        EpisodeError: the partition cannot provide a step.
    """
    sampler.batches_per_step(world_size)

    def shares() -> Iterator[tuple[list[Draw], list[int]]]:
        for step in range(first_step, steps):
            names = (sampler.seed, epoch, step)
            parts = sampler.draw(labels, epoch=epoch, step=step, class_names=class_names)
            numbered = sampler.share(_numbered(parts), rank, world_size)
            for part, places in zip(sampler.share(parts, rank, world_size), numbered, strict=True):
                yield [Draw(int(clip), names) for clip in part], [draw_key(*names, int(place)) for place in places]

    ahead, here = itertools.tee(shares())  # the loader asks for batches before they are due
    loader = DataLoader(
        dataset,
        batch_sampler=(draws for draws, _ in ahead),  # type: ignore[arg-type]  # an iterator does: nobody asks for its length
        num_workers=processes,
        pin_memory=pin_memory,
        prefetch_factor=prefetch if processes else None,
        generator=torch.Generator().manual_seed(0),  # its own: it would draw from the process's
    )
    for clips, (draws, keys) in zip(loader, here, strict=True):
        indices = np.array([draw.clip for draw in draws])
        yield Batch(clips, torch.from_numpy(labels[indices]), indices, torch.tensor(keys))


def _numbered(parts: list[Part]) -> list[Part]:
    """The place of each clip among all clips of the step: a clip may stand in several episodes of it."""
    ends = itertools.accumulate(len(part) for part in parts)
    return [np.arange(end - len(part), end) for part, end in zip(parts, ends, strict=True)]
