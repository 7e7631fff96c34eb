"""Choose numbers of classes, shots and queries that partitions can provide, as plain arithmetic without a draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class ClipsOfClass(NamedTuple):
    """Hold how an episode divides the clips of a class."""

    shots: tuple[int, ...]
    queries: int

    @property
    def n_clips(self) -> int:
        """Return the number of clips that a class must have."""
        return max(self.shots) + self.queries


def clips_of_class(n_clips: int, shots: Sequence[int], queries: int) -> ClipsOfClass:
    """Return the shots and queries closest to the wanted ones that a class of `n_clips` clips, at least 2, provides.

    Shots that leave fewer than two queries are given up, then queries.
    """
    largest = n_clips - (min(2, queries) if n_clips > 2 else 1)
    kept = tuple(shot for shot in shots if shot <= largest) or (largest,)
    return ClipsOfClass(kept, min(queries, n_clips - max(kept)))


def shared_classes(n_classes: int, wanted: int, workers: int) -> tuple[int, int]:
    """Return classes of a pair batch and workers closest to the wanted ones: the workers share the classes evenly.

    The classes are at most `n_classes`, of which there are two or more. Workers are given up where a quarter of the
    classes or more would have to be.
    """
    most = min(n_classes, wanted)
    for n_workers in range(workers, 0, -1):
        shared = most - most % n_workers
        if shared >= 2 and shared * 4 > most * 3:
            return shared, n_workers
    return most, 1
