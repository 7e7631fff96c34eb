"""Means, intervals and paired comparisons of per-episode accuracies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from results.statistics.student import t_quantile

Z95 = 1.96


class MeanAndInterval(NamedTuple):
    mean: float
    ci95: float  # half width


class PairedDifference(NamedTuple):
    mean: float  # of a - b
    ci95: float  # half width
    p_value: float  # two-sided


def mean_and_ci95(per_episode_accuracies: ArrayLike) -> MeanAndInterval:
    """The mean over episodes and the half width of the field's conventional 95% interval.

    1.96 * std(ddof=1) / sqrt(n): it covers the draw of episodes only. They share clips and classes, so it is too
    narrow as a statement about other videos. NaN half width for a single episode.

    Raises:
        ValueError: no episode, or a value that is not finite.
    """
    values = _accuracies(per_episode_accuracies)
    return MeanAndInterval(float(values.mean()), _half_width(values))


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, seed: int = 0, n_flips: int = 10_000, chunk: int = 4_000_000
) -> PairedDifference:
    """Two methods on the same episodes: mean of a - b, its interval, and the p-value of a sign-flip test.

    Under the null hypothesis that the methods are exchangeable, each episode's difference could as well have had
    the other sign: p is the share of random sign patterns (the observed one included) whose mean is as extreme.

    Args:
        a, b: accuracies of the episodes, in the same order.
        chunk: signs drawn at a time; bounds memory, never changes the result.

    Raises:
        ValueError: unequal lengths, no episode, or a value that is not finite.
    """
    first, second = _accuracies(a), _accuracies(b)
    if first.shape != second.shape:
        raise ValueError(f"paired episodes must be equal in number, got {first.size} and {second.size}")
    differences = first - second
    observed = abs(differences.sum())
    moving = differences[differences != 0]  # episodes that both answer alike add 0 whatever their sign
    if moving.size == 0:
        return PairedDifference(0.0, _half_width(differences), 1.0)
    rng = np.random.default_rng(seed)
    width = -(-moving.size // 4) * 4  # bytes a row: the generator gives them in fours
    n_extreme = 0
    rows = max(1, chunk // moving.size)
    for start in range(0, n_flips, rows):
        # whole rows of bytes, drawn in order: the same signs whatever the chunk
        n_rows = min(rows, n_flips - start)
        signs = np.frombuffer(rng.bytes(n_rows * width), dtype=np.int8).reshape(n_rows, width)
        flipped = (signs[:, : moving.size] >= 0).astype(np.float64) @ (2 * moving) - moving.sum()
        n_extreme += int(np.count_nonzero(abs(flipped) >= observed - 1e-9 * max(1.0, observed)))
    return PairedDifference(float(differences.mean()), _half_width(differences), (n_extreme + 1) / (n_flips + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values of several tests, in their order: those below 0.05 are all right in 95% of cases."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda one: p_values[one])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def paired_over_seeds(differences: ArrayLike) -> MeanAndInterval:
    """The mean of a run's lead over another, seed by seed, and the half width of Student's 95% interval.

    With the few seeds that anyone can afford, 1.96 would make the interval less than half as wide as it is. NaN half
    width for a single seed.

    Raises:
        ValueError: no seed, or a value that is not finite.
    """
    values = _accuracies(differences)
    if values.size < 2:
        return MeanAndInterval(float(values.mean()), math.nan)
    t95 = t_quantile(0.975, values.size - 1)
    return MeanAndInterval(float(values.mean()), t95 / Z95 * _half_width(values))


def _half_width(values: NDArray[np.float64]) -> float:
    return Z95 * float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else math.nan


def _accuracies(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"expected one finite accuracy an episode, got an array of shape {array.shape}")
    return array
