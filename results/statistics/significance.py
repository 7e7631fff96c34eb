"""Judge differences between methods by one rule, which every table, figure, page and command uses.

*The rule.* Two methods that answered the same episodes are compared by a paired t-test: over classes, for other actions
with their videos; or over the videos of each class, for other videos of these actions, where the episodes hold all
classes and so say nothing about other ones. The p-values of all differences that are judged together are corrected by
Holm's method. A difference is significant if its corrected p-value is below 0.05. Without answers on the same episodes,
or with fewer than two videos of a class, there is no test, and nothing is said to be better. Settings that were trained
with the same seeds are compared over the seeds, by the same test and correction.

A test over episodes is no substitute: all episodes share the same classes and videos, so that with enough episodes any
two methods differ. `tests/results/statistics/test_significance.py` holds the rate of false positives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from results.statistics.effects import Floats, Ints, over_classes, over_videos
from results.statistics.estimates import Estimate, of_values

LEVEL = 0.05
Over = Literal["classes", "videos", "seeds"]
RULE = f"p < {LEVEL:g} after Holm's correction"


class Difference(NamedTuple):
    """Hold a mean difference of two methods, and what it is tested over; without `over` there is no test.

    Attributes:
        mean: mean over the episodes.
        over: the items that the test treats as drawn.
        half_width: of the 95% interval, not corrected for other comparisons.
        p_value: two-sided, not corrected for other comparisons.
    """

    mean: float
    over: Over | None = None
    half_width: float | None = None
    p_value: float | None = None

    @classmethod
    def of(cls, estimate: Estimate, over: Over) -> Difference:
        """Return the difference that an estimate is of."""
        return cls(estimate.mean, over, estimate.half_width, estimate.p_value)


class Verdict(NamedTuple):
    """Hold a difference that was judged together with others.

    Attributes:
        p_value: corrected by Holm's method; None if there is no test.
    """

    difference: Difference
    p_value: float | None

    @property
    def is_significant(self) -> bool | None:
        """Return whether the difference is significant; None if there is no test."""
        return None if self.p_value is None else self.p_value < LEVEL

    @property
    def words(self) -> str:
        """The verdict in words, such as `no significant difference over classes`."""
        if self.p_value is None:
            return "significance unknown"
        return f"{'' if self.is_significant else 'no '}significant difference over {self.difference.over}"


def paired_t_test(differences: Floats, classes: Ints, support: Ints, query: Ints) -> Difference:
    """Return the mean difference of two methods on the same episodes, tested over classes or else over videos.

    Args:
        differences: (episode, way, query), whether the first was right minus whether the second was.
        classes, support, query: (episode, way), (episode, way, shot) and (episode, way, query) indices.
    """
    of_classes = over_classes(differences.mean(axis=(1, 2)), classes)
    if of_classes is not None:
        return Difference.of(of_classes, "classes")
    of_videos = over_videos(differences, classes, support, query)
    return Difference(float(differences.mean())) if of_videos is None else Difference.of(of_videos, "videos")


def over_seeds(differences: ArrayLike) -> Difference:
    """Return the mean of differences that belong to a seed each, tested over the seeds; one seed has no test.

    Raises:
        ValueError: if there is no difference, or one is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"expected one finite difference per seed, got an array of shape {values.shape}")
    if values.size < 2:
        return Difference(float(values.mean()))
    return Difference.of(of_values(float(values.mean()), float(values.var(ddof=1)), values.size), "seeds")


def judged(differences: Sequence[Difference]) -> list[Verdict]:
    """Return a verdict on each difference, corrected for the number of those with a test."""
    p_values = [difference.p_value for difference in differences if difference.p_value is not None]
    corrected = iter(holm(p_values))
    return [Verdict(difference, None if difference.p_value is None else next(corrected)) for difference in differences]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values in the order of the tests; the family-wise error rate at 0.05 is at most 5%."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
