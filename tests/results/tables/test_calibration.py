"""Test error rates of the tests and coverage of the intervals in simulations with a known truth.

A rate is compared with the exact binomial bound that a correct procedure exceeds in at most one of ten thousand
repetitions. The seeds are fixed: a failure is a change of the statistic and not chance.
"""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest

from results.statistics.episodes import holm, paired_difference
from results.statistics.resampling import class_values, over_classes, over_videos
from results.tables.best import best_of

N = 600
EPISODES, NOISE = 200, 0.1


def bounds(n: int, rate: float, tail: float = 1e-4) -> tuple[int, int]:
    """Return the fewest and the most events in n trials of this rate that are not rarer than `tail`, on each side."""
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(n + 1)]
    shares = np.exp([log + k * math.log(rate) + (n - k) * math.log1p(-rate) for k, log in enumerate(logs)])
    below = np.cumsum(shares)
    return int(np.searchsorted(below, tail)), int(np.searchsorted(below, 1 - tail))


def drawn_classes(rng, n_classes, way, n_episodes=EPISODES):
    return np.argsort(rng.random((n_episodes, n_classes)), axis=1)[:, :way]


def null_differences(rng, classes, n_classes, ratio, n_worlds):
    """Return (world, episode): differences of two methods that are equally good over all classes.

    Args:
        ratio: variance of the mean from the classes, in units of that from the noise of the episodes.
    """
    effects = rng.normal(0, NOISE * math.sqrt(ratio * n_classes / len(classes)), (n_worlds, n_classes))
    return effects[:, classes].mean(axis=2) + rng.normal(0, NOISE, (n_worlds, len(classes)))


def class_level_p_values(n_classes, way, ratio, n_worlds=N):
    rng = np.random.default_rng(n_classes)
    classes = drawn_classes(rng, n_classes, way)
    values = [
        class_values(differences, classes) for differences in null_differences(rng, classes, n_classes, ratio, n_worlds)
    ]
    return np.array(
        [paired_difference(differences, np.zeros(n_classes), n_flips=799).p_value for differences in values]
    )


# The ratio is the one at which the noise correction alone, without its own uncertainty, rejects most often: 9 to 20%.
@pytest.mark.parametrize(("n_classes", "way", "ratio"), [(6, 5, 14.0), (10, 5, 6.0), (24, 5, 3.0)])
def test_a_class_level_test_rejects_equal_methods_in_five_of_a_hundred_worlds_at_most(n_classes, way, ratio):
    p_values = class_level_p_values(n_classes, way, ratio)
    assert (p_values < 0.05).sum() <= bounds(N, 0.05)[1]
    assert (p_values < 0.2).sum() <= bounds(N, 0.2)[1]


@pytest.mark.parametrize(("n_classes", "way"), [(7, 3), (12, 5), (24, 5)])
def test_a_class_level_test_is_exact_where_classes_differ_more_than_episodes(n_classes, way):
    """There are 2^(n - 1) sign patterns up to a common sign, so p-values are multiples of one in that many."""
    p_values = class_level_p_values(n_classes, way, ratio=500.0)
    for level in (0.05, 0.2, 0.5):
        exact = math.floor(level * 2 ** (n_classes - 1)) / 2 ** (n_classes - 1)
        # with 799 flips, chance moves a p-value by up to a hundredth around such levels
        fewest, most = bounds(N, exact - 0.01)[0], bounds(N, level)[1]
        assert fewest <= (p_values < level).sum() <= most, level


@pytest.mark.parametrize(
    "far_behind", [[], [0.0], [0.3]], ids=["two alike", "three alike", "two alike, one far behind"]
)
def test_nothing_is_bold_beside_its_equal_but_in_five_of_a_hundred_worlds(far_behind, monkeypatch):
    """The worst case of the rule is the last: one rival is surely beaten, and chance decides about the other."""
    monkeypatch.setattr(
        "results.tables.comparison.paired_difference", lambda *pair: paired_difference(*pair, n_flips=799)
    )
    rng, n_classes, n_worlds = np.random.default_rng(5), 10, 400
    classes = drawn_classes(rng, n_classes, 5)
    methods = [0.5 + null_differences(rng, classes, n_classes, 50.0, n_worlds) for _ in range(2 + len(far_behind))]
    for method, behind in zip(methods[2:], far_behind, strict=True):
        method -= behind
    n_bold = sum(
        best_of({str(index): method[world] for index, method in enumerate(methods)}, classes)[0] is not None
        for world in range(n_worlds)
    )
    assert n_bold <= bounds(n_worlds, 0.05)[1]
    if far_behind != [0.0]:  # three alike need two lucky differences at once
        assert n_bold >= bounds(n_worlds, 0.04)[0]


def test_rivals_are_counted_by_holm():
    """Against each of two rivals p is 4/128: small enough against one, too large against two."""
    classes = np.array(list(itertools.combinations(range(7), 3)))
    rival, lead = np.full(len(classes), 0.4), np.array([5, 5, 5, 5, 5, 5, -1]) / 50
    best = rival + lead[classes].mean(axis=1)  # additive: the values of the classes are `lead`
    values = class_values(best - rival, classes)
    np.testing.assert_allclose(values, lead, atol=1e-12)
    p_value = paired_difference(values, np.zeros(7)).p_value
    assert 0.025 < p_value < 0.05 < max(holm([p_value, p_value]))
    assert best_of({"best": best, "rival": rival}, classes)[0] == "best"
    assert best_of({"best": best, "rival": rival, "other": rival}, classes)[0] is None


def test_the_interval_over_classes_is_the_expanded_percentile_interval():
    """The reference are all 6^6 resamples; Student's t with 5 degrees of freedom is 2.5706 at 97.5%."""
    classes, values = (
        np.array(list(itertools.combinations(range(6), 3))),
        np.array([0.31, 0.42, 0.47, 0.55, 0.58, 0.73]),
    )
    accuracies = values[classes].mean(axis=1)
    means = values[np.array(list(itertools.product(range(6), repeat=6)))].mean(axis=1)
    stretch = math.sqrt(6 / 5)
    tail = NormalDist().cdf(-stretch * 2.5706)
    interval = over_classes(accuracies, classes, n_draws=200_000)
    # of 200,000 draws 490 are beyond a limit: 5% of error in the tail, which is 1% of the half width
    expected = np.quantile(means, [tail, 1 - tail])
    half_width = (expected[1] - expected[0]) / 2
    np.testing.assert_allclose([interval.low, interval.high], expected, atol=0.02 * half_width)
    assert interval.error == pytest.approx(stretch * means.std(), rel=0.01)


@pytest.mark.parametrize(("n_classes", "way"), [(6, 2), (12, 5)])
def test_intervals_over_classes_cover_the_truth(n_classes, way):
    rng = np.random.default_rng(3)
    classes = drawn_classes(rng, n_classes, way)
    hits = 0
    for accuracies in null_differences(rng, classes, n_classes, 60.0, N):
        interval = over_classes(accuracies, classes, n_draws=400)
        hits += interval.low <= 0 <= interval.high
    # the percentile interval is no t interval; with 6 values it covers 94%
    assert bounds(N, 0.94)[0] <= hits <= bounds(N, 0.96)[1]


def test_intervals_over_videos_cover_the_truth_with_three_videos_a_class():
    """Without the expansion they cover 85%."""
    rng = np.random.default_rng(1)
    n_classes, n, n_worlds, hits = 3, 3, 400, 0
    classes = drawn_classes(rng, n_classes, 2)
    for _ in range(n_worlds):
        as_query = rng.uniform(-0.35, 0.35, n_classes * n)
        clips = classes[..., None] * n + np.argsort(rng.random((EPISODES, 2, n)), axis=2)
        support, query = clips[..., :1], clips[..., 1:]
        right = rng.random(query.shape) < 0.6 + as_query[query]
        interval = over_videos(right, classes, support, query, n_draws=400)
        hits += interval.low <= 0.6 <= interval.high  # 0.6: for infinitely many videos
    assert bounds(n_worlds, 0.95)[0] <= hits <= bounds(n_worlds, 0.97)[1]
