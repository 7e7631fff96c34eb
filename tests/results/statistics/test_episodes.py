"""Test intervals against NumPy, and the paired test against full enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from results.statistics.episodes import mean_and_ci95, paired_difference


def test_mean_and_half_width_are_numpys():
    values = np.random.default_rng(3).uniform(size=701)
    mean, ci95 = mean_and_ci95(values.tolist())
    assert mean == pytest.approx(np.mean(values), rel=1e-12)
    assert ci95 == pytest.approx(1.96 * np.std(values, ddof=1) / np.sqrt(701), rel=1e-12)


def test_one_episode_has_no_interval_and_equal_ones_have_width_0():
    assert math.isnan(mean_and_ci95([0.4]).ci95)
    assert mean_and_ci95([0.25] * 7) == (0.25, 0.0)


@pytest.mark.parametrize("values", [[], [[0.1, 0.2]], [0.1, math.nan]])
def test_what_is_not_a_list_of_accuracies_is_refused(values):
    with pytest.raises(ValueError, match="one finite accuracy per episode"):
        mean_and_ci95(values)


def test_p_value_approaches_the_one_of_all_sign_patterns():
    a = np.array([0.9, 0.7, 0.8, 0.4, 0.6, 0.95, 0.5, 0.8, 0.65, 0.7, 0.3])
    b = np.array([0.5, 0.6, 0.82, 0.3, 0.5, 0.6, 0.45, 0.85, 0.6, 0.7, 0.1])
    differences = a - b
    patterns = np.array(list(itertools.product([-1, 1], repeat=len(a))))
    exact = np.mean(abs(patterns @ differences) >= abs(differences.sum()) - 1e-12)
    difference = paired_difference(a, b, n_flips=100_000)
    assert difference.p_value == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 100_000))
    assert difference.mean == pytest.approx(differences.mean())
    assert difference.ci95 == pytest.approx(1.96 * differences.std(ddof=1) / math.sqrt(11))


def test_pairing_finds_what_separate_intervals_hide():
    rng = np.random.default_rng(0)
    hardness = rng.uniform(0.2, 0.9, size=401)  # episodes differ far more than the methods do
    a, b = hardness + 0.01 + rng.normal(0, 0.02, 401), hardness + rng.normal(0, 0.02, 401)
    assert abs(mean_and_ci95(a).mean - mean_and_ci95(b).mean) < mean_and_ci95(a).ci95
    difference = paired_difference(a, b)
    assert difference.p_value < 0.001 and difference.mean > difference.ci95


def test_equal_methods_do_not_differ():
    assert paired_difference([0.2, 0.4, 0.6], [0.2, 0.4, 0.6]) == (0.0, 0.0, 1.0)


def test_p_value_is_uniform_where_the_methods_are_exchangeable():
    rng = np.random.default_rng(1)
    values = [paired_difference(rng.normal(size=23), rng.normal(size=23), n_flips=400).p_value for _ in range(300)]
    assert 0.01 <= np.mean(np.array(values) < 0.05) <= 0.1


def test_swapping_the_methods_turns_the_sign_only():
    rng = np.random.default_rng(2)
    a, b = rng.uniform(size=(2, 31))
    forward, backward = paired_difference(a, b, seed=4), paired_difference(b, a, seed=4)
    assert (forward.mean, forward.ci95, forward.p_value) == pytest.approx(
        (-backward.mean, backward.ci95, backward.p_value)
    )


@pytest.mark.parametrize("n", [1, 2, 3, 5, 13])
def test_chunks_change_nothing(n):
    rng = np.random.default_rng(n)
    a, b = rng.uniform(size=(2, n))
    assert {paired_difference(a, b, n_flips=997, chunk=chunk) for chunk in (1, 7, 64, 10**6)} == {
        paired_difference(a, b, n_flips=997)
    }


def test_unequal_numbers_of_episodes_are_refused():
    with pytest.raises(ValueError, match="got 2 and 3"):
        paired_difference([0.1, 0.2], [0.1, 0.2, 0.3])
