"""Hold a mean with what is known of its variance, and give its interval and its test by Student's t."""

from __future__ import annotations

import math
from typing import NamedTuple

from results.statistics.student import t_quantile, t_tails


class Variance(NamedTuple):
    """Hold an estimate of a mean's variance, with its degrees of freedom."""

    value: float
    freedom: float


class Estimate(NamedTuple):
    """Hold a mean and estimates of its variance, each of which is valid by itself; the narrower interval is used.

    The interval excludes zero exactly if the p-value is below 0.05, because both come from the same variances.

    Attributes:
        mean: the mean, or the mean difference.
        variances: one or more.
    """

    mean: float
    variances: tuple[Variance, ...]

    @property
    def half_width(self) -> float:
        """The half width of the 95% interval."""
        return min(math.sqrt(value) * t_quantile(0.975, freedom) for value, freedom in self.variances)

    @property
    def low(self) -> float:
        """The lower end of the 95% interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """The upper end of the 95% interval."""
        return self.mean + self.half_width

    @property
    def p_value(self) -> float:
        """The two-sided p-value of the hypothesis that the mean is zero; without any spread it is 0 or 1."""
        return min(_p_value(self.mean, variance) for variance in self.variances)


def of_values(mean: float, values_variance: float, n: int) -> Estimate:
    """Return the estimate of a mean of n independent values with this variance (n - 1 in its denominator)."""
    return Estimate(mean, (Variance(values_variance / n, n - 1),))


def _p_value(mean: float, variance: Variance) -> float:
    if variance.value <= 0:
        return float(mean == 0)
    return t_tails(mean / math.sqrt(variance.value), variance.freedom)
