"""Compute means, intervals and paired comparisons of per-episode accuracies."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z95 = 1.96


class MeanAndInterval(NamedTuple):
    mean: float
    ci95: float  # half width


class PairedDifference(NamedTuple):
    mean: float  # of a - b
    ci95: float  # half width
    p_value: float  # two-sided


def mean_and_ci95(per_episode_accuracies: ArrayLike) -> MeanAndInterval:
    """Return the mean over episodes and the half width of the conventional 95% interval.

    The half width is 1.96 * std(ddof=1) / sqrt(n). It covers only the sampling of episodes, which share clips and
    classes, so it is too narrow as a statement about other videos. It is NaN for a single episode.

    Raises:
        ValueError: if there is no episode, or a value is not finite.
    """
    values = _accuracies(per_episode_accuracies)
    return MeanAndInterval(float(values.mean()), _half_width(values))


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, seed: int = 0, n_flips: int = 10_000, chunk: int = 4_000_000
) -> PairedDifference:
    """Compare two methods on the same episodes: mean of a - b, its interval, and the p-value of a sign-flip test.

    Under the null hypothesis that the methods are exchangeable, each episode's difference could equally have the other
    sign. The p-value is the share of random sign patterns (including the observed one) with a mean at least as extreme.
    It holds for these classes and videos only; whether a difference is significant is judged by
    `results.statistics.significance`.

    Args:
        a, b: accuracies of the same episodes, in the same order.
        chunk: number of signs drawn at a time; it limits memory and does not change the result.

    Raises:
        ValueError: if lengths differ, there is no episode, or a value is not finite.
    """
    first, second = _accuracies(a), _accuracies(b)
    if first.shape != second.shape:
        raise ValueError(f"paired episodes must be equal in number, got {first.size} and {second.size}")
    differences = first - second
    observed = abs(differences.sum())
    moving = differences[differences != 0]  # episodes with equal accuracies add 0 with any sign
    if moving.size == 0:
        return PairedDifference(0.0, _half_width(differences), 1.0)
    rng = np.random.default_rng(seed)
    width = -(-moving.size // 4) * 4  # bytes per row: the generator gives multiples of four
    n_extreme = 0
    rows = max(1, chunk // moving.size)
    for start in range(0, n_flips, rows):
        # complete rows of bytes in order, so that the signs do not depend on the chunk
        n_rows = min(rows, n_flips - start)
        signs = np.frombuffer(rng.bytes(n_rows * width), dtype=np.int8).reshape(n_rows, width)
        flipped = (signs[:, : moving.size] >= 0).astype(np.float64) @ (2 * moving) - moving.sum()
        n_extreme += int(np.count_nonzero(abs(flipped) >= observed - 1e-9 * max(1.0, observed)))
    return PairedDifference(float(differences.mean()), _half_width(differences), (n_extreme + 1) / (n_flips + 1))


def _half_width(values: NDArray[np.float64]) -> float:
    return Z95 * float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else math.nan


def _accuracies(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"expected one finite accuracy per episode, got an array of shape {array.shape}")
    return array
