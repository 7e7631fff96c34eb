"""Quantiles of Student's t against printed tables, and the intervals of few seeds that rest on them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from results.statistics.episodes import mean_and_ci95
from results.statistics.significance import over_seeds
from results.statistics.student import t_quantile, t_tails


@pytest.mark.parametrize(
    ("freedom", "printed", "within"),
    [
        (1, 12.7062, 1e-4),
        (2, 4.3027, 1e-4),
        (3, 3.1824, 1e-4),
        (4, 2.7764, 1e-4),
        (5, 2.5706, 1e-4),
        (10, 2.2281, 1e-4),
        (30, 2.0423, 1e-4),
        (1e6, 1.95996, 1e-4),
    ],
)
def test_the_quantiles_are_those_of_printed_tables(freedom: float, printed: float, within: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(printed, abs=within)
    assert t_quantile(0.025, freedom) == pytest.approx(-t_quantile(0.975, freedom), rel=1e-9)


@pytest.mark.parametrize("freedom", [0.4, 1, 1.7, 2.5, 3, 6.2, 23, 400.5, 1e5])
def test_tails_are_the_integral_of_the_density(freedom: float) -> None:
    """The density is integrated from 0 to the value by Simpson's rule."""
    for value in (0.0, 0.3, 1.0, 2.1, 4.0):
        points = np.linspace(0, value, 4001)
        scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
        density = np.exp(scale - (freedom + 1) / 2 * np.log1p(points**2 / freedom))
        weights = np.ones(4001)
        weights[1:-1:2], weights[2:-1:2] = 4, 2
        inside = 2 * value / 4000 / 3 * float(weights @ density)
        assert t_tails(value, freedom) == t_tails(-value, freedom) == pytest.approx(1 - inside, abs=1e-9)


def test_tails_far_out_are_small_and_not_lost() -> None:
    assert t_tails(40.0, 1) == pytest.approx(2 * math.atan(1 / 40) / math.pi, rel=1e-9)
    assert t_tails(1e5, 2) == pytest.approx(1e-10, rel=1e-6)
    assert t_tails(math.inf, 7) == 0.0


def test_quantiles_turn_tails_around() -> None:
    for freedom in (0.7, 2.5, 9, 31.4):
        assert t_tails(t_quantile(0.975, freedom), freedom) == pytest.approx(0.05, rel=1e-6)
    assert t_quantile(0.5, 3) == 0.0


def test_what_is_no_level_or_no_number_of_degrees_is_refused() -> None:
    with pytest.raises(ValueError, match=r"positive number of degrees of freedom, got 0"):
        t_quantile(0.975, 0)
    with pytest.raises(ValueError, match=r"level between 0 and 1, got 1"):
        t_quantile(1, 5)


@pytest.mark.parametrize(("n_seeds", "t95"), [(2, 12.7062), (3, 4.3027), (5, 2.7764), (31, 2.0423)])
def test_an_interval_over_seeds_is_as_wide_as_their_number_asks_for(n_seeds: int, t95: float) -> None:
    values = np.random.default_rng(0).normal(size=n_seeds)
    expected = t95 * values.std(ddof=1) / math.sqrt(n_seeds)
    assert over_seeds(values).half_width == pytest.approx(expected, rel=1e-3)
    assert over_seeds(values).half_width > mean_and_ci95(values).ci95


def test_one_seed_has_no_test() -> None:
    assert over_seeds([0.25]) == (0.25, None, None, None)
    with pytest.raises(ValueError, match="one finite difference per seed"):
        over_seeds([])
