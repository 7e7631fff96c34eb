"""Intervals over classes and videos, from the episodes that were answered and nothing else.

Episodes share classes and clips, so the spread of their accuracies says nothing about other classes or videos. Here
the accuracy of an episode is taken apart into main effects of what was drawn for it: a = mean + sum of effects + rest.

*Estimator.* Let an episode hold m of n items (classes; or a class's support videos), all subsets equally likely, and
let h(i) be the mean accuracy of the episodes with item i. Because those episodes hold m - 1 of the other items as well,
h(i) - mean is the item's effect times (n - m)/(n - 1); dividing by that gives the effect, and mean + m * effect is the
item's pseudo-value: what the mean would be if every item were like this one. For additive effects this is the
leave-one-item-out jackknife of a U-statistic of degree m (Hoeffding's projection). The mean's variance over items is
s^2/n of the pseudo-values.

*Noise.* Each episode enters the pseudo-values of its m items, so that what is random in an episode is counted
m(n - 1)/(n - m) times where once is right. Its variance is that of the rest, and the surplus is taken off: the
pseudo-values are drawn towards their mean until s^2/n is the corrected variance. That difference of two variances is
less certain than s^2/n itself. By Welch's and Satterthwaite's rule it has (n - 1)(corrected/uncorrected)^2 degrees of
freedom, and it is raised so far that n - 1 degrees may be counted for it, never above the uncorrected one. Without
this a test at 5% would reject a true null hypothesis in 9% (24 classes, 5-way) to 20% (6 classes) of cases where
classes and noise weigh about the same.

*Bootstrap.* Items are drawn with replacement, their pseudo-values averaged; the interval is the expanded percentile
interval (Hesterberg 2015), whose levels allow for few items. To draw episodes anew with the product of their items'
multiplicities would leave hardly any: five classes of 24 all drawn again have a tenth of the episodes left.

A new class brings its own videos, so `over_classes` covers both. `over_videos` keeps the classes and draws videos in
each of them. There a video acts as a query and as support. Where support and query are disjoint, a hard video that is
support is missing among the queries, which are then easier: what the queries drawn are expected to give is taken off
the accuracies before support effects are estimated, or the two roles would cancel in part.
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
    """A 95% interval and the standard error behind it."""

    low: float
    high: float
    error: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


class Effects(NamedTuple):
    """What each item does to the accuracy of an episode that holds it."""

    items: Ints  # those that occur, rising
    pseudo: Floats  # deviations of their pseudo-values from the mean
    noise: float  # variance that what is random in an episode puts into the mean once
    surplus: float  # how often it is counted too often in s^2/n of the pseudo-values


def main_effects(values: Floats, members: Ints) -> Effects | None:
    """The pseudo-values of items, for episodes that each hold some of them.

    Args:
        values: (episode,), what is averaged.
        members: (episode, m), distinct items of each episode.

    Returns:
        None where nothing can be told: no more items than an episode holds, or no more episodes than items.
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
    """One value a class, whose mean is the accuracy and whose spread is that of the accuracy over classes.

    Args:
        accuracies: (episode,), or differences of two methods on the same episodes.
        classes: (episode, way), distinct class indices.

    Returns:
        None where the partition has no more classes than an episode, or hardly any episodes.
    """
    found = main_effects(accuracies, classes)
    if found is None:
        return None
    raw = _variance_of_mean(found.pseudo)
    kept = _certain(max(raw - found.surplus * found.noise, found.noise), raw, len(found.pseudo) - 1)
    return accuracies.mean() + found.pseudo * (math.sqrt(kept / raw) if raw > 0 else 0.0)


def over_classes(accuracies: Floats, classes: Ints, *, seed: int = 0, n_draws: int = N_DRAWS) -> Interval | None:
    """For other classes, and other videos with them; arguments and None as in `class_values`."""
    values = class_values(accuracies, classes)
    if values is None:
        return None
    n = len(values)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_draws) @ values / n
    return _expanded(drawn, n, n - 1)


def over_videos(
    right: NDArray[np.bool_], classes: Ints, support: Ints, query: Ints, *, seed: int = 0, n_draws: int = N_DRAWS
) -> Interval | None:
    """For other videos of the same classes.

    A video counts as query, by the share of its answers that were right, and as support, by its effect on the
    episodes that it was support of. Both are added up, and videos drawn with replacement within their class.

    Args:
        right: (episode, way, query), whether an answer was right.
        classes, support, query: (episode, way), (episode, way, shot) and (episode, way, query) indices.

    Returns:
        None where a class has too few videos to tell.
    """
    accuracies = right.mean(axis=(1, 2))
    parts = []
    for one in np.unique(classes):
        episode, way = np.nonzero(classes == one)
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
    """Return how far the videos of one class move the overall mean, as deviations, and variances of the mean."""

    influence: Floats  # (video,)
    noise: float  # of what is random, counted once
    surplus: float  # of what is random, counted beyond that


def _influences(
    right: NDArray[np.bool_], accuracies: Floats, support: Ints, query: Ints, share: float, way: int
) -> _OfClass:
    """Return what each video of one class moves the overall mean by.

    Args:
        right, accuracies, support, query: of the class's episodes: (episode, query), (episode,), (episode, shot).
        share: of all queries that are of this class.
    """
    videos = np.unique(np.concatenate([support.ravel(), query.ravel()]))
    asked = np.searchsorted(videos, query.ravel())
    counts = np.bincount(asked, minlength=len(videos))
    correct = np.bincount(asked, weights=right.ravel().astype(np.float64), minlength=len(videos))
    own = np.divide(correct, counts, out=np.full(len(videos), right.mean()), where=counts > 0)
    influence = share * (own - own.mean())
    noise, surplus = 0.0, 0.0
    of_queries = (own[asked].reshape(query.shape).mean(axis=1) - own.mean()) / way
    effects = main_effects(accuracies - of_queries, support)
    if effects is not None:
        of_class = share * way  # share of all episodes that hold this class
        influence[np.searchsorted(videos, effects.items)] += of_class * effects.pseudo
        noise = of_class**2 * effects.noise
        surplus = (effects.surplus + 1) * noise  # as queries they count it once already
    return _OfClass(influence - influence.mean(), noise, surplus)


def _variance_of_mean(values: Floats) -> float:
    return float(values.var(ddof=1)) / len(values)


def _certain(corrected: float, raw: float, freedom: float) -> float:
    """Return a corrected variance raised as far as its few degrees of freedom ask for, at most to the raw one.

    Args:
        corrected: the raw variance less that of the surplus noise.
        freedom: degrees of freedom of the raw variance, which will be counted for the result.
    """
    own = freedom * (corrected / raw) ** 2 if raw > 0 else 0.0
    if own < FEWEST_DEGREES:
        return raw
    return min(raw, corrected * (t_quantile(0.975, own) / t_quantile(0.975, freedom)) ** 2)


def _expanded(drawn: Floats, n: float, freedom: float) -> Interval:
    """The expanded percentile interval of bootstrapped means of n values with that many degrees of freedom."""
    stretch = math.sqrt(n / (n - 1))
    tail = _Z.cdf(-stretch * t_quantile(0.975, freedom))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(float(low), float(high), stretch * float(drawn.std()))
