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
m(n - 1)/(n - m) times, where once is right. Its variance is that of the rest, and the surplus is subtracted. That
difference of two variances is less certain than s^2/n itself: by Welch's and Satterthwaite's rule it has
(n - 1)(corrected/uncorrected)^2 degrees of freedom. Both variances are kept with their degrees of freedom, and the
narrower of their t intervals is used (`results.statistics.estimates`). With n - 1 degrees for the corrected variance a
test at 5% would reject a true null hypothesis in 9% (24 classes, 5-way) to 20% (6 classes) of cases with classes and
noise of about the same weight.

A new class brings its own videos, so `over_classes` covers both. `over_videos` keeps the classes and varies the videos
of each. There a video acts as a query and as support. If support and query are disjoint, a hard video that is support
is missing among the queries, which are then easier. The expected accuracy of the drawn queries is therefore subtracted
before support effects are estimated; otherwise the two roles would partly cancel. The variances of the classes are
summed, with degrees of freedom by the same rule.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from results.statistics.estimates import Estimate, Variance

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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


def over_classes(accuracies: Floats, classes: Ints) -> Estimate | None:
    """Return the mean with its uncertainty for other classes with their videos.

    Args:
        accuracies: (episode,), or differences of two methods on the same episodes.
        classes: (episode, way), distinct class indices.

    Returns:
        None if the partition has no more classes than an episode, or too few episodes.
    """
    effects = main_effects(accuracies, classes)
    if effects is None:
        return None
    raw = Variance(_variance_of_mean(effects.pseudo), len(effects.pseudo) - 1)
    return Estimate(float(accuracies.mean()), _corrected(raw, effects.surplus * effects.noise, effects.noise))


def over_videos(right: Floats | NDArray[np.bool_], classes: Ints, support: Ints, query: Ints) -> Estimate | None:
    """Return the mean with its uncertainty for other videos of the same classes.

    A video counts as query, by the share of its right answers, and as support, by its effect on the episodes in which
    it was support. Both are added.

    Args:
        right: (episode, way, query), whether each answer was right, or the difference of two methods in that.
        classes, support, query: (episode, way), (episode, way, shot) and (episode, way, query) indices.

    Returns:
        None if a class has fewer than two videos.
    """
    right = right.astype(np.float64)
    accuracies = right.mean(axis=(1, 2))
    parts = []
    for class_index in np.unique(classes):
        episode, way = np.nonzero(classes == class_index)
        share = len(episode) / classes.size  # of all queries
        of_class = (right[episode, way], accuracies[episode], support[episode, way], query[episode, way])
        parts.append(_influences(*of_class, share, classes.shape[1]))
    if min(len(part.influence) for part in parts) < 2:
        return None
    raw = _sum([Variance(_variance_of_mean(part.influence), len(part.influence) - 1) for part in parts])
    surplus, noise = (sum(of_parts) for of_parts in zip(*((part.surplus, part.noise) for part in parts), strict=True))
    return Estimate(float(accuracies.mean()), _corrected(raw, surplus, noise))


class _OfClass(NamedTuple):
    """Hold how far the videos of one class move the overall mean, as deviations, and variances of the mean."""

    influence: Floats  # (video,)
    noise: float  # variance of the randomness, counted once
    surplus: float  # variance of the randomness counted beyond that


def _influences(right: Floats, accuracies: Floats, support: Ints, query: Ints, share: float, way: int) -> _OfClass:
    """Return by how much each video of one class moves the overall mean.

    Args:
        right, accuracies, support, query: of the class's episodes: (episode, query), (episode,), (episode, shot).
        share: share of the queries of this class among all.
    """
    videos = np.unique(np.concatenate([support.ravel(), query.ravel()]))
    query_index = np.searchsorted(videos, query.ravel())
    counts = np.bincount(query_index, minlength=len(videos))
    correct = np.bincount(query_index, weights=right.ravel(), minlength=len(videos))
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


def _sum(variances: list[Variance]) -> Variance:
    """Return the variance of a sum of independent means, with its degrees of freedom by Satterthwaite's rule."""
    total = sum(value for value, _ in variances)
    squares = sum(value**2 / freedom for value, freedom in variances)
    return Variance(total, total**2 / squares if squares > 0 else sum(freedom for _, freedom in variances))


def _corrected(raw: Variance, surplus: float, noise: float) -> tuple[Variance, ...]:
    """Return a variance and, if there is surplus noise in it, the same without that.

    Args:
        surplus: variance of the noise that is counted too often.
        noise: variance of the noise counted once, below which the corrected variance cannot be.
    """
    corrected = max(raw.value - surplus, noise)
    if not 0 < corrected < raw.value:
        return (raw,)
    freedom = raw.freedom * (corrected / raw.value) ** 2
    return (raw, Variance(corrected, freedom)) if freedom >= 1 else (raw,)  # with less it is never the narrower
