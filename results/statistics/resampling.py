"""Compute intervals over classes and videos from the answered episodes only.

Episodes share classes and clips, so the spread of their accuracies says nothing about other classes or videos. Here
the accuracy of an episode is decomposed into main effects of the items drawn for it: a = mean + sum of effects + rest.

*Estimator.* Let an episode hold m of n items (classes; or a class's support videos), all subsets equally likely, and
let h(i) be the mean accuracy of the episodes with item i. Because those episodes hold m - 1 of the other items as well,
h(i) - mean is the item's effect times (n - m)/(n - 1); dividing by that gives the effect, and mean + m * effect is the
item's pseudo-value: what the mean would be if every item were like this one. For additive effects this is the
leave-one-item-out jackknife of a U-statistic of degree m (Hoeffding's projection). The mean's variance over items is
s^2/n of the pseudo-values.

*Noise.* Each episode enters the pseudo-values of its m items, so that the randomness of an episode is counted
m(n - 1)/(n - m) times, where once is right. Its variance is that of the rest, and the surplus is subtracted: the
pseudo-values are shrunk towards their mean until s^2/n is the corrected variance. That difference of two variances is
less certain than s^2/n itself. By Welch's and Satterthwaite's rule it has (n - 1)(corrected/uncorrected)^2 degrees of
freedom, and it is raised until n - 1 degrees may be used for it, but never above the uncorrected one. Without this a
test at 5% would reject a true null hypothesis in 9% (24 classes, 5-way) to 20% (6 classes) of cases with classes and
noise of about the same weight.

*Bootstrap.* Items are drawn with replacement, and their pseudo-values averaged; the interval is the expanded percentile
interval (Hesterberg 2015), whose levels account for few items. Resampling episodes with the product of their items'
multiplicities would leave almost none: if five classes of 24 are all drawn again, a tenth of the episodes is left.

A new class brings its own videos, so `over_classes` covers both. `over_videos` keeps the classes and draws videos in
each of them. There a video acts as a query and as support. If support and query are disjoint, a hard video that is
support is missing among the queries, which are then easier. The expected accuracy of the drawn queries is therefore
subtracted before support effects are estimated; otherwise the two roles would partly cancel.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from results.statistics.student import FEWEST_DEGREES, t_quantile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_DRAWS = 4000
_Z = NormalDist()


class Interval(NamedTuple):
    """Hold a 95% interval and its standard error."""

    low: float
    high: float
    error: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


class Effects(NamedTuple):
    """Hold the effect of each item on the accuracy of an episode that contains it."""

    items: Ints  # items that occur, ascending
    pseudo: Floats  # deviations of their pseudo-values from the mean
    noise: float  # variance of the mean from the randomness of episodes, counted once
    surplus: float  # how many times more often s^2/n of the pseudo-values counts it


def main_effects(values: Floats, members: Ints) -> Effects | None:
    """Return the pseudo-values of items, for episodes that each contain some of them.

    Args:
        values: (episode,), the averaged values.
        members: (episode, m), distinct items of each episode.

    Returns:
        None if there are no more items than an episode has, or no more episodes than items.
    """
    items, index = np.unique(members, return_inverse=True)
    index = index.reshape(members.shape)
    n, m, n_episodes = len(items), members.shape[1], len(values)
    if n <= m or n_episodes <= n:
        return None
    repeated = np.repeat(values - values.mean(), m)
    counts = np.bincount(index.ravel(), minlength=n)
    effects = np.bincount(index.ravel(), weights=repeated, minlength=n) / counts * (n - 1) / (n - m)
    effects -= effects.mean()
    rest = values - values.mean() - effects[index].sum(axis=1)
    noise = float((rest**2).sum()) / (n_episodes - n) / n_episodes
    return Effects(items, m * effects, noise, m * (n - 1) / (n - m) - 1)


def class_values(accuracies: Floats, classes: Ints) -> Floats | None:
    """Return one value per class; their mean is the accuracy, and their spread that of the accuracy over classes.

    Args:
        accuracies: (episode,), or differences of two methods on the same episodes.
        classes: (episode, way), distinct class indices.

    Returns:
        None if the partition has no more classes than an episode, or too few episodes.
    """
    effects = main_effects(accuracies, classes)
    if effects is None:
        return None
    raw = _variance_of_mean(effects.pseudo)
    kept = _certain(max(raw - effects.surplus * effects.noise, effects.noise), raw, len(effects.pseudo) - 1)
    return accuracies.mean() + effects.pseudo * (math.sqrt(kept / raw) if raw > 0 else 0.0)


def over_classes(accuracies: Floats, classes: Ints, *, seed: int = 0, n_draws: int = N_DRAWS) -> Interval | None:
    """Return the interval for other classes with their videos; arguments and None as in `class_values`."""
    values = class_values(accuracies, classes)
    if values is None:
        return None
    n = len(values)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_draws) @ values / n
    return _expanded(drawn, n, n - 1)


def over_videos(
    right: NDArray[np.bool_], classes: Ints, support: Ints, query: Ints, *, seed: int = 0, n_draws: int = N_DRAWS
) -> Interval | None:
    """Return the interval for other videos of the same classes.

    A video counts as query, by the share of its right answers, and as support, by its effect on the episodes in which
    it was support. Both are added, and videos are drawn with replacement within their class.

    Args:
        right: (episode, way, query), whether each answer was right.
        classes, support, query: (episode, way), (episode, way, shot) and (episode, way, query) indices.

    Returns:
        None if a class has too few videos.
    """
    accuracies = right.mean(axis=(1, 2))
    parts = []
    for class_index in np.unique(classes):
        episode, way = np.nonzero(classes == class_index)
        share = len(episode) / classes.size  # of all queries
        of_class = (right[episode, way], accuracies[episode], support[episode, way], query[episode, way])
        parts.append(_influences(*of_class, share, classes.shape[1]))
    sizes = [len(part.influence) for part in parts]
    if min(sizes) < 2:
        return None
    freedom = sum(sizes) - len(sizes)
    raw = sum(_variance_of_mean(part.influence) for part in parts)
    kept = max(raw - sum(part.surplus for part in parts), sum(part.noise for part in parts))
    scale = math.sqrt(_certain(kept, raw, freedom) / raw) if raw > 0 else 0.0
    rng, drawn = np.random.default_rng(seed), np.full(n_draws, accuracies.mean())
    for part, n in zip(parts, sizes, strict=True):
        drawn += rng.multinomial(n, np.full(n, 1 / n), size=n_draws) @ (scale * part.influence) / n
    return _expanded(drawn, sum(sizes) / len(sizes), freedom)


class _OfClass(NamedTuple):
    """Hold how far the videos of one class move the overall mean, as deviations, and variances of the mean."""

    influence: Floats  # (video,)
    noise: float  # variance of the randomness, counted once
    surplus: float  # variance of the randomness counted beyond that


def _influences(
    right: NDArray[np.bool_], accuracies: Floats, support: Ints, query: Ints, share: float, way: int
) -> _OfClass:
    """Return by how much each video of one class moves the overall mean.

    Args:
        right, accuracies, support, query: of the class's episodes: (episode, query), (episode,), (episode, shot).
        share: share of the queries of this class among all.
    """
    videos = np.unique(np.concatenate([support.ravel(), query.ravel()]))
    query_index = np.searchsorted(videos, query.ravel())
    counts = np.bincount(query_index, minlength=len(videos))
    correct = np.bincount(query_index, weights=right.ravel().astype(np.float64), minlength=len(videos))
    own = np.divide(correct, counts, out=np.full(len(videos), right.mean()), where=counts > 0)
    influence = share * (own - own.mean())
    noise, surplus = 0.0, 0.0
    of_queries = (own[query_index].reshape(query.shape).mean(axis=1) - own.mean()) / way
    effects = main_effects(accuracies - of_queries, support)
    if effects is not None:
        of_class = share * way  # share of the episodes with this class
        influence[np.searchsorted(videos, effects.items)] += of_class * effects.pseudo
        noise = of_class**2 * effects.noise
        surplus = (effects.surplus + 1) * noise  # their role as queries counts it once already
    return _OfClass(influence - influence.mean(), noise, surplus)


def _variance_of_mean(values: Floats) -> float:
    return float(values.var(ddof=1)) / len(values)


def _certain(corrected: float, raw: float, freedom: float) -> float:
    """Return a corrected variance, raised as its few degrees of freedom require, at most to the raw one.

    Args:
        corrected: the raw variance minus that of the surplus noise.
        freedom: degrees of freedom of the raw variance, which are used for the result.
    """
    own = freedom * (corrected / raw) ** 2 if raw > 0 else 0.0
    if own < FEWEST_DEGREES:
        return raw
    return min(raw, corrected * (t_quantile(0.975, own) / t_quantile(0.975, freedom)) ** 2)


def _expanded(drawn: Floats, n: float, freedom: float) -> Interval:
    """Return the expanded percentile interval of bootstrapped means of n values with these degrees of freedom."""
    stretch = math.sqrt(n / (n - 1))
    tail = _Z.cdf(-stretch * t_quantile(0.975, freedom))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(float(low), float(high), stretch * float(drawn.std()))
