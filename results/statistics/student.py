"""Compute tails and quantiles of Student's t for any number of degrees of freedom, whole or not.

SciPy has both, but it takes most of a second to import and is no dependency of `results`.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

_TINY, _ENOUGH = 1e-300, 1e-14


def t_tails(value: float, freedom: float) -> float:
    """Return the probability that |t| is at least |value|, the two-sided p-value.

    It is the regularised incomplete beta function I_x(freedom/2, 1/2) at x = freedom/(freedom + value^2).

    Raises:
        ValueError: if the number of degrees of freedom is not positive.
    """
    if not freedom > 0:
        raise ValueError(f"Student's t needs a positive number of degrees of freedom, got {freedom}")
    if math.isinf(value):
        return 0.0
    return _beta(freedom / 2, 0.5, freedom / (freedom + value * value), value * value / (freedom + value * value))


@lru_cache(maxsize=4096)
def t_quantile(level: float, freedom: float) -> float:
    """Return the quantile of Student's t at a level between 0 and 1.

    Raises:
        ValueError: if the level or the number of degrees of freedom is out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"a quantile needs a level between 0 and 1, got {level}")
    both = 2 * min(level, 1 - level)
    low, high = 0.0, 1.0
    while t_tails(high, freedom) > both:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if t_tails(middle, freedom) > both else (low, middle)
    return math.copysign(high, level - 0.5) if level != 0.5 else 0.0


def _beta(a: float, b: float, x: float, rest: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), with `rest` = 1 - x given without cancellation."""
    if x <= 0 or rest <= 0:
        return float(rest <= 0)
    if x > (a + 1) / (a + b + 2):  # where the fraction of the other tail converges faster
        return 1 - _beta(b, a, rest, x)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    return math.exp(logarithm) / a / _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction 1 + d1/(1 + d2/(1 + ...)) of Abramowitz and Stegun 26.5.8, by Lentz's method."""
    value, upper, lower = 1.0, 1.0, 0.0
    for step in itertools.count(1):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        lower = 1 / _away_from_zero(1 + term * lower)
        upper = _away_from_zero(1 + term / upper)
        value *= upper * lower
        if abs(upper * lower - 1) < _ENOUGH:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
