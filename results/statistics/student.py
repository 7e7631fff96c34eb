"""Quantiles of Student's t."""

from __future__ import annotations

import math
from statistics import NormalDist

FEWEST_DEGREES = 3
"""Of freedom, from which on any number of them, whole or not, has a quantile here; below, 1 and 2 have one."""


def t_quantile(level: float, freedom: float) -> float:
    """Return a quantile of Student's t: exact for 1 and 2 degrees of freedom, to 0.004 at 97.5% from 3 degrees on.

    From 3 degrees on it is the expansion about the normal (Abramowitz and Stegun 26.7.5).

    Raises:
        ValueError: a number of degrees below 3 that is neither 1 nor 2.
    """
    if freedom == 1:
        return math.tan(math.pi * (level - 0.5))
    if freedom == 2:
        return (2 * level - 1) / math.sqrt(2 * level * (1 - level))
    if freedom < FEWEST_DEGREES:
        raise ValueError(f"no quantile of Student's t with {freedom} degrees of freedom: expected 1, 2 or at least 3")
    z = NormalDist().inv_cdf(level)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))
