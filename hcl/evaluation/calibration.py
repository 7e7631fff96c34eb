"""Calibrate the scores of queries: a confidence for the best class, and a threshold below which none is accepted.

A confidence is the softmax of a query's scores times one number, the scale (the inverse of a temperature, Guo et al.,
On Calibration of Modern Neural Networks, 2017). The scale is fitted on queries whose class is known.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

MOST_SCALE = 1e6
"""Largest scale, divided by the mean spread of a query's scores: for scores that are right without exception."""
_STEPS = 200


class Bin(NamedTuple):
    """Hold the queries whose confidence lies in a range.

    Attributes:
        low, high: the range; a confidence of `high` belongs to the next bin, 1 to the last.
        n: number of queries.
        confidence, accuracy: their means; 0 without queries.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


class Threshold(NamedTuple):
    """Hold a threshold, and the errors on the queries that it was chosen on.

    Attributes:
        value: a query with a smaller value is taken for none of the classes.
        rejected: share of queries of present classes that fall below it.
        accepted: share of queries of absent classes that do not.
    """

    value: float
    rejected: float
    accepted: float

    @property
    def error(self) -> float:
        """Return the error where half of all queries are of absent classes."""
        return (self.rejected + self.accepted) / 2


def fit_scale(scores: Float[np.ndarray, "query way"], classes: Int[np.ndarray, "query"]) -> float:
    """Return the scale with the smallest mean negative log-likelihood of the right classes; 0 if no scale helps.

    The loss is convex in the scale, so that its derivative is bisected.

    Args:
        classes: the right class of each query.
    """
    values = np.asarray(scores, np.float64)
    values = values - values.max(axis=1, keepdims=True)
    right = np.take_along_axis(values, classes[:, None], axis=1)[:, 0]
    spread = float(-values.mean())

    def slope(scale: float) -> float:
        weights = np.exp(scale * values)
        return float(((weights * values).sum(axis=1) / weights.sum(axis=1) - right).mean())

    if spread == 0 or slope(0.0) >= 0:
        return 0.0
    low, high = 0.0, MOST_SCALE / spread
    if slope(high) <= 0:
        return high
    for _ in range(_STEPS):
        middle = (low * high) ** 0.5 if low else high / 16
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
        if high <= low * (1 + 1e-12):
            break
    return high


def probabilities(scores: Float[np.ndarray, "*query way"], scale: float) -> Float[np.ndarray, "*query way"]:
    """Return the probability of each class: the softmax of the scaled scores. Infinite scores are refused."""
    values = scale * np.asarray(scores, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("scores are not finite")
    weights = np.exp(values - values.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def reliability(
    confidences: Float[np.ndarray, "query"], right: np.ndarray, n_bins: int = 10
) -> tuple[list[Bin], float]:
    """Return equally wide bins of the confidence, and the expected calibration error.

    The error is the mean distance of confidence and accuracy of the bins, weighted by their queries.

    Args:
        right: whether each query's best class was right.
    """
    place = np.minimum((confidences * n_bins).astype(np.int64), n_bins - 1)
    counts = np.bincount(place, minlength=n_bins)
    means = [
        np.bincount(place, weights=values, minlength=n_bins) / np.maximum(counts, 1)
        for values in (np.asarray(confidences, np.float64), np.asarray(right, np.float64))
    ]
    bins = [
        Bin(index / n_bins, (index + 1) / n_bins, int(counts[index]), float(means[0][index]), float(means[1][index]))
        for index in range(n_bins)
    ]
    error = sum(one.n * abs(one.confidence - one.accuracy) for one in bins) / max(1, len(confidences))
    return bins, float(error)


def errors_at(
    threshold: float, present: Float[np.ndarray, "present"], absent: Float[np.ndarray, "absent"]
) -> Threshold:
    """Return a threshold with its errors on these queries."""
    return Threshold(float(threshold), float((present < threshold).mean()), float((absent >= threshold).mean()))


def balanced_threshold(present: Float[np.ndarray, "present"], absent: Float[np.ndarray, "absent"]) -> Threshold:
    """Return the threshold at which the shares of wrongly rejected and wrongly accepted queries differ least.

    It lies midway between two values. Of several such thresholds the one with the smallest error is taken, then the
    smallest.

    Args:
        present, absent: values of queries whose class is in the support, and of others.
    """
    present, absent = np.sort(np.asarray(present, np.float64)), np.sort(np.asarray(absent, np.float64))
    values = np.unique(np.concatenate([present, absent]))
    between = (values[:-1] + values[1:]) / 2  # rounding of a value then decides nothing
    candidates = np.concatenate([values[:1], between, [np.nextafter(values[-1], np.inf)]])
    rejected = np.searchsorted(present, candidates, side="left") / len(present)
    accepted = 1 - np.searchsorted(absent, candidates, side="left") / len(absent)
    best = np.lexsort((candidates, rejected + accepted, np.abs(rejected - accepted).round(12)))[0]
    return errors_at(float(candidates[best]), present, absent)
