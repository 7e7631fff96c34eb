"""Quantiles of Student's t against printed tables, and the intervals of few seeds that rest on them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from results.statistics.episodes import mean_and_ci95, paired_over_seeds
from results.statistics.student import t_quantile


@pytest.mark.parametrize(
    ("freedom", "printed", "within"),
    [
        (1, 12.7062, 1e-4),
        (2, 4.3027, 1e-4),
        (3, 3.1824, 0.004),
        (4, 2.7764, 0.001),
        (5, 2.5706, 5e-4),
        (10, 2.2281, 1e-4),
        (30, 2.0423, 1e-4),
        (1e6, 1.95996, 1e-4),
    ],
)
def test_the_quantiles_are_those_of_printed_tables(freedom: float, printed: float, within: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(printed, abs=within)
    assert t_quantile(0.025, freedom) == pytest.approx(-t_quantile(0.975, freedom), rel=1e-9)


def test_other_numbers_of_degrees_below_three_have_none() -> None:
    with pytest.raises(ValueError, match=r"2\.5 degrees of freedom: expected 1, 2 or at least 3"):
        t_quantile(0.975, 2.5)


@pytest.mark.parametrize(("n_seeds", "t95"), [(2, 12.7062), (3, 4.3027), (5, 2.7764), (31, 2.0423)])
def test_an_interval_over_seeds_is_as_wide_as_their_number_asks_for(n_seeds: int, t95: float) -> None:
    values = np.random.default_rng(0).normal(size=n_seeds)
    expected = t95 * values.std(ddof=1) / math.sqrt(n_seeds)
    assert paired_over_seeds(values).ci95 == pytest.approx(expected, rel=1e-3)
    assert paired_over_seeds(values).ci95 > mean_and_ci95(values).ci95
