"""Test the rule of significance in simulations with a known truth: its rate of false positives and its power.

A rate is compared with the exact binomial bound that a correct procedure exceeds in at most one of ten thousand
repetitions. The seeds are fixed: a failure is a change of the statistic and not chance.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from results.statistics.effects import over_classes, over_videos
from results.statistics.estimates import Estimate, Variance
from results.statistics.significance import LEVEL, Difference, Verdict, holm, judged, paired_t_test

N = 600
EPISODES, NOISE = 200, 0.1
QUERIES = 5


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


def questions(rng, n_classes, way, n_videos, n_episodes=EPISODES):
    """Draw classes, support (one shot) and query videos of episodes."""
    classes = drawn_classes(rng, n_classes, way, n_episodes)
    clips = classes[..., None] * n_videos + np.argsort(rng.random((n_episodes, way, n_videos)), axis=2)
    return classes, clips[..., :1], clips[..., 1 : 1 + QUERIES]


def right_answers(rng, asked, mean, of_class, of_videos):
    """Draw the right answers of a method: a query is right by its class, its own video, and those of its support."""
    classes, support, query = asked
    as_query, as_support = of_videos
    chance = mean + of_class[classes][..., None] + as_query[query] + as_support[support].mean(axis=2)[..., None]
    return rng.random(query.shape) < chance


def of_method(rng, asked, n_classes, n_videos, mean=0.5, spread=0.1):
    """Draw a method whose accuracy differs by class (`spread`), by query video (0.15) and by support video (0.05)."""
    of_videos = rng.normal(0, 0.15, n_classes * n_videos), rng.normal(0, 0.05, n_classes * n_videos)
    return right_answers(rng, asked, mean, rng.normal(0, spread, n_classes), of_videos)


# The ratio is the one at which the noise correction alone, without its own uncertainty, rejects most often: 9 to 20%.
@pytest.mark.parametrize(
    ("n_classes", "way", "ratio"), [(5, 3, 6.0), (6, 5, 14.0), (8, 5, 14.0), (10, 5, 6.0), (24, 5, 3.0)]
)
def test_equal_methods_differ_in_five_of_a_hundred_worlds_at_most(n_classes, way, ratio):
    rng = np.random.default_rng(n_classes)
    classes = drawn_classes(rng, n_classes, way)
    values = null_differences(rng, classes, n_classes, ratio, N)
    p_values = np.array([over_classes(differences, classes).p_value for differences in values])
    assert (p_values < 0.05).sum() <= bounds(N, 0.05)[1]
    assert (p_values < 0.2).sum() <= bounds(N, 0.2)[1]


@pytest.mark.parametrize(("n_classes", "way"), [(5, 3), (8, 5), (24, 5)])
def test_the_test_over_classes_keeps_its_level_where_classes_differ_more_than_episodes(n_classes, way):
    rng = np.random.default_rng(n_classes)
    classes = drawn_classes(rng, n_classes, way)
    values = null_differences(rng, classes, n_classes, 500.0, N)
    p_values = np.array([over_classes(differences, classes).p_value for differences in values])
    for level in (0.05, 0.2, 0.5):
        assert bounds(N, level - 0.01)[0] <= (p_values < level).sum() <= bounds(N, level)[1], level


@pytest.mark.parametrize(
    ("n_classes", "way", "over"),
    [(5, 5, "videos"), (5, 3, "classes"), (8, 5, "classes"), (24, 5, "classes")],
)
def test_false_positives_of_whole_answers(n_classes, way, over):
    """Answers are right or wrong, and depend on classes and on videos as query and as support.

    Over classes the methods differ in each class, and are equal on average over all classes. Over videos they are equal
    in each class, and differ in each video.
    """
    rng, n_videos, n_false = np.random.default_rng(n_classes + way), 12, 0
    for _ in range(N):
        asked = questions(rng, n_classes, way, n_videos)
        spread = 0.1 if over == "classes" else 0.0
        a, b = (of_method(rng, asked, n_classes, n_videos, spread=spread) for _ in range(2))
        difference = paired_t_test(a.astype(float) - b, *asked)
        assert difference.over == over
        n_false += difference.p_value < LEVEL
    assert n_false <= bounds(N, 0.05)[1]  # 50 of 600; a test whose rate is 12% would fail
    assert n_false >= bounds(N, 0.01)[0]


def test_a_test_over_episodes_would_find_differences_that_there_are_not():
    """The reason for the rule: the interval over episodes excludes zero in most worlds without a difference."""
    rng, n_false = np.random.default_rng(0), 0
    for _ in range(100):
        asked = questions(rng, 5, 5, 12, n_episodes=1000)
        a, b = (of_method(rng, asked, 5, 12, spread=0.0) for _ in range(2))
        differences = (a.astype(float) - b).mean(axis=(1, 2))
        n_false += abs(differences.mean()) > 1.96 * differences.std() / math.sqrt(1000)
    assert n_false > 50


@pytest.mark.parametrize(
    "far_behind", [[], [0.0], [0.3]], ids=["two alike", "three alike", "two alike, one far behind"]
)
@pytest.mark.parametrize(("n_classes", "way"), [(5, 3), (8, 5), (24, 5)])
def test_nothing_is_best_beside_its_equal_but_in_five_of_a_hundred_worlds(far_behind, n_classes, way):
    """The worst case of the rule is the last: one rival is surely beaten, and chance decides about the other."""
    rng = np.random.default_rng(5)
    classes = drawn_classes(rng, n_classes, way)
    methods = [null_differences(rng, classes, n_classes, 50.0, N) for _ in range(2 + len(far_behind))]
    for method, behind in zip(methods[2:], far_behind, strict=True):
        method -= behind
    n_best = 0
    for world in zip(*methods, strict=True):
        best, *others = sorted(world, key=lambda accuracies: -accuracies.mean())
        estimates = [over_classes(best - other, classes) for other in others]
        verdicts = judged([Difference.of(estimate, "classes") for estimate in estimates])
        n_best += all(verdict.is_significant for verdict in verdicts)
    assert n_best <= bounds(N, 0.05)[1]


@pytest.mark.parametrize(
    ("n_classes", "n_episodes", "fewest"), [(6, 1000, 0.25), (6, 4000, 0.45), (8, 1000, 0.65), (24, 1000, 0.97)]
)
def test_a_lead_of_twelve_points_over_two_rivals_is_found(n_classes, n_episodes, fewest):
    """Sign flips of six classes, corrected for two rivals, could never find it: their smallest p-value is 2/64."""
    rng, n_found, n_worlds = np.random.default_rng(7), 0, 100
    for _ in range(n_worlds):
        asked = questions(rng, n_classes, 5, 20, n_episodes)
        best, *others = (of_method(rng, asked, n_classes, 20, mean=mean, spread=0.05) for mean in (0.62, 0.5, 0.5))
        verdicts = judged([paired_t_test(best.astype(float) - other, *asked) for other in others])
        n_found += all(verdict.is_significant and verdict.difference.mean > 0 for verdict in verdicts)
    assert n_found / n_worlds >= fewest


@pytest.mark.parametrize(("n_classes", "way"), [(6, 2), (12, 5)])
def test_intervals_over_classes_cover_the_truth(n_classes, way):
    rng = np.random.default_rng(3)
    classes = drawn_classes(rng, n_classes, way)
    hits = 0
    for accuracies in null_differences(rng, classes, n_classes, 60.0, N):
        interval = over_classes(accuracies, classes)
        hits += interval.low <= 0 <= interval.high
    assert bounds(N, 0.95)[0] <= hits <= bounds(N, 0.97)[1]


def test_intervals_over_videos_cover_the_truth_with_three_videos_a_class():
    rng = np.random.default_rng(1)
    n_classes, n, n_worlds, hits = 3, 3, 400, 0
    classes = drawn_classes(rng, n_classes, 2)
    for _ in range(n_worlds):
        as_query = rng.uniform(-0.35, 0.35, n_classes * n)
        clips = classes[..., None] * n + np.argsort(rng.random((EPISODES, 2, n)), axis=2)
        support, query = clips[..., :1], clips[..., 1:]
        right = rng.random(query.shape) < 0.6 + as_query[query]
        interval = over_videos(right, classes, support, query)
        hits += interval.low <= 0.6 <= interval.high  # 0.6: for infinitely many videos
    assert bounds(n_worlds, 0.95)[0] <= hits <= bounds(n_worlds, 0.98)[1]


def test_the_interval_excludes_zero_exactly_where_the_p_value_is_small():
    rng = np.random.default_rng(2)
    for _ in range(200):
        variances = tuple(Variance(*rng.uniform(0.1, 4, 2)) for _ in range(2))
        estimate = Estimate(rng.normal(0, 4), variances)
        assert (estimate.p_value < 0.05) == (abs(estimate.mean) > estimate.half_width)
        assert estimate.low == pytest.approx(2 * estimate.mean - estimate.high)


def test_what_does_not_vary_differs_surely_or_not_at_all():
    classes = np.array([[0, 1], [1, 2], [2, 0]] * 5)
    clips = classes[..., None] * 4 + np.array([0, 1])
    same = np.zeros((15, 2, 1))
    assert paired_t_test(same, classes, clips[..., :1], clips[..., 1:]).p_value == 1
    assert paired_t_test(same + 1, classes, clips[..., :1], clips[..., 1:]).p_value == pytest.approx(0, abs=1e-12)


def test_without_two_videos_of_a_class_nothing_is_tested():
    classes = np.tile([0, 1], (6, 1))
    clips = classes[..., None]
    difference = paired_t_test(np.ones((6, 2, 1)), classes, clips, clips)
    assert difference == Difference(1.0) and difference.over is difference.p_value is None
    [verdict] = judged([difference])
    assert verdict.is_significant is None and verdict.words == "significance unknown"


def test_only_differences_with_a_test_are_counted_by_holm():
    tests = [Difference(0.1, "classes", 0.05, p) for p in (0.02, 0.04)]
    assert [verdict.p_value for verdict in judged(tests)] == pytest.approx([0.04, 0.04])
    assert [verdict.p_value for verdict in judged([*tests, Difference(0.2)])][:2] == pytest.approx([0.04, 0.04])
    verdicts = judged([*tests, Difference(0.0, "videos", 0.1, 0.9)])
    assert [verdict.is_significant for verdict in verdicts] == [False, False, False]
    assert verdicts[2].words == "no significant difference over videos"
    assert Verdict(tests[0], 0.01).words == "significant difference over classes"


def test_holm_against_its_definition():
    rng = np.random.default_rng(3)
    for n in (1, 2, 7):
        p_values = rng.random(n) ** 4
        order = np.argsort(p_values)
        expected = np.empty(n)
        for rank, index in enumerate(order):
            steps = [(n - step) * p_values[order[step]] for step in range(rank + 1)]
            expected[index] = min(1, max(steps))
        assert holm(list(p_values)) == pytest.approx(expected.tolist())
    assert holm([]) == []
