"""Compare the calibration with naive loops, and with probabilities that are known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcl.evaluation.calibration import (
    MOST_SCALE,
    balanced_threshold,
    errors_at,
    fit_scale,
    probabilities,
    reliability,
)


def loss(scores: np.ndarray, classes: np.ndarray, scale: float) -> float:
    """Return the mean negative log-likelihood, query by query."""
    total = 0.0
    for row, right in zip(scores.tolist(), classes.tolist(), strict=True):
        highest = max(row)
        total += math.log(sum(math.exp(scale * (value - highest)) for value in row)) - scale * (row[right] - highest)
    return total / len(scores)


def drawn(scale: float, n: int = 40_000, way: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return scores, and classes that are drawn from the softmax of the scaled scores."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, way)) - 3
    gumbel = rng.gumbel(size=(n, way))
    return scores, (scale * scores + gumbel).argmax(axis=1)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0, 20.0])
def test_a_known_scale_is_recovered(scale: float) -> None:
    assert fit_scale(*drawn(scale)) == pytest.approx(scale, rel=0.06)


@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e5])
def test_the_scale_has_the_smallest_loss_whatever_the_unit_of_the_scores(factor: float) -> None:
    scores, classes = drawn(2.0, n=300)
    scores = scores * factor
    best = fit_scale(scores, classes)
    at_best = loss(scores, classes, best)
    assert all(at_best <= loss(scores, classes, best * other) + 1e-12 for other in (0.5, 0.99, 1.01, 2.0))


def test_scores_without_information_have_the_scale_zero() -> None:
    scores, classes = drawn(3.0, n=500)
    assert fit_scale(-scores, classes) == 0
    assert fit_scale(np.ones((4, 3)), np.array([0, 1, 2, 0])) == 0


def test_scores_that_are_always_right_have_a_finite_scale() -> None:
    scores = np.eye(3)
    scale = fit_scale(scores, np.arange(3))
    assert scale == pytest.approx(MOST_SCALE / (2 / 3))
    assert probabilities(scores, scale).max(axis=1).tolist() == [1, 1, 1]


def test_probabilities_follow_the_order_of_the_scores_and_sum_to_one() -> None:
    scores = np.array([[0.1, -2.0, 0.5], [1e5, 0.0, -1e5]])
    for scale in (0.0, 0.5, 7.0):
        found = probabilities(scores, scale)
        np.testing.assert_allclose(found.sum(axis=1), 1)
        assert all((np.diff(row[np.argsort(values)]) >= 0).all() for row, values in zip(found, scores, strict=True))
    confidences = [probabilities(scores, scale).max() for scale in (0.0, 0.1, 1.0)]
    assert confidences == sorted(confidences)
    with pytest.raises(ValueError, match="finite"):
        probabilities(np.array([[np.nan, 1.0]]), 1.0)


def test_reliability_against_a_loop() -> None:
    rng = np.random.default_rng(1)
    confidences = np.concatenate([rng.random(200), [0.0, 0.1, 1.0, 1.0]])
    right = rng.random(204) < 0.6
    bins, error = reliability(confidences, right, n_bins=10)
    expected = 0.0
    for index, one in enumerate(bins):
        inside = [
            place
            for place, value in enumerate(confidences)
            if int(value * 10) == index or (index == 9 and value == 1.0)
        ]
        assert one.n == len(inside) and (one.low, one.high) == (index / 10, (index + 1) / 10)
        if inside:
            accuracy = sum(bool(right[place]) for place in inside) / len(inside)
            confidence = sum(confidences[place] for place in inside) / len(inside)
            assert one.accuracy == pytest.approx(accuracy) and one.confidence == pytest.approx(confidence)
            expected += len(inside) / 204 * abs(accuracy - confidence)
    assert error == pytest.approx(expected)


def test_calibrated_confidences_are_reliable() -> None:
    scores, classes = drawn(4.0)
    confidences = probabilities(scores, fit_scale(scores, classes)).max(axis=1)
    _, error = reliability(confidences, scores.argmax(axis=1) == classes)
    assert error < 0.01


VALUES = st.lists(st.sampled_from([-1.0, 0.0, 0.1, 0.25, 0.5, 2.0]), min_size=1, max_size=9)


@given(VALUES, VALUES)
def test_the_threshold_balances_both_errors(present: list[float], absent: list[float]) -> None:
    """No other threshold, between two values or beyond them, has errors that are closer to each other."""
    found = balanced_threshold(np.array(present), np.array(absent))
    edges = sorted({*present, *absent})
    candidates = [*edges, *((low + high) / 2 for low, high in pairwise(edges)), edges[-1] + 1]
    pairs = [
        (
            sum(value < threshold for value in present) / len(present),
            sum(value >= threshold for value in absent) / len(absent),
        )
        for threshold in candidates
    ]
    assert abs(found.rejected - found.accepted) == pytest.approx(min(abs(a - b) for a, b in pairs))
    assert found == errors_at(found.value, np.array(present), np.array(absent))
    assert found.error == (found.rejected + found.accepted) / 2


def test_values_that_separate_have_no_error() -> None:
    found = balanced_threshold(np.array([0.6, 0.9]), np.array([0.1, 0.5, 0.55]))
    assert found.error == 0 and found.value == pytest.approx(0.575)
