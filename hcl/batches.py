"""Batches of clips for training: the same ones for any number of workers, from any step of an epoch on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hcl.clips import Draw
from hcl.episodes import pair_batch
from hcl.errors import ConfigError


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
    first_step: int = 0,
    rank: int = 0,
    world: int = 1,
    processes: int = 0,
    prefetch: int = 2,
    pin_memory: bool = False,
    class_names: Sequence[str] | None = None,
) -> Iterator[Batch]:
    """One epoch of pair batches; worker `rank` gets its share of each, the same clips whatever `world` is.

    Args:
        first_step: steps that were done before.
        processes: that read clips, this many beside the worker; none: the worker reads them itself.
        prefetch: batches that each of them reads ahead.
        pin_memory: put clips where a GPU can fetch them while it computes.

    Raises:
        ConfigError: the workers cannot take equal shares.
        EpisodeError: see `pair_batch`.
    """
    if 2 * classes_per_batch % world:
        raise ConfigError(
            f"2 clips of each of {classes_per_batch} classes cannot be shared evenly by {world} workers",
            where="train.classes_per_batch",
            remedy="make it a multiple of train.workers: with unequal shares the mean of the workers' losses is not "
            "the loss of the batch",
        )

    def shares() -> Iterator[list[Draw]]:
        for step in range(first_step, batches):
            indices = pair_batch(
                labels, classes_per_batch=classes_per_batch, seed=seed, epoch=epoch, step=step, class_names=class_names
            )
            yield [Draw(int(i), (seed, epoch, step)) for i in np.split(indices, world)[rank]]

    ahead, here = itertools.tee(shares())  # the loader asks for batches before they are due
    loader = DataLoader(
        dataset,
        batch_sampler=ahead,  # type: ignore[arg-type]  # an iterator does: nobody asks for its length
        num_workers=processes,
        pin_memory=pin_memory,
        prefetch_factor=prefetch if processes else None,
        generator=torch.Generator().manual_seed(0),  # its own: it would draw from the one that dropout uses
    )
    for clips, share in zip(loader, here, strict=True):
        indices = np.array([draw.clip for draw in share])
        yield Batch(clips, torch.from_numpy(labels[indices]), indices)
