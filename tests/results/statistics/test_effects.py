"""Test intervals over classes and videos: exact for additive effects, and with the right coverage in simulations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from results.statistics.effects import main_effects, over_classes, over_videos
from results.statistics.episodes import mean_and_ci95
from results.statistics.student import t_quantile

WAY, SHOT, QUERIES, VIDEOS, DIM = 5, 1, 4, 12, 6


def world(rng, n_classes):
    """Draw classes as centres and spreads; videos are points around them."""
    return rng.normal(size=(n_classes, DIM)) * rng.uniform(0.5, 1.3, (n_classes, 1)), rng.uniform(0.5, 1.2, n_classes)


def videos_of(rng, centres, spreads, n):
    return centres[:, None] + spreads[:, None, None] * rng.normal(size=(len(centres), n, DIM))


def answer(rng, videos, n_episodes):
    """Classify by the nearest class mean on random episodes; return (classes, support, query, right)."""
    n_classes, n, _ = videos.shape
    classes = np.argsort(rng.random((n_episodes, n_classes)), axis=1)[:, :WAY]
    clips = classes[..., None] * n + np.argsort(rng.random((n_episodes, WAY, n)), axis=2)
    support, query = clips[..., :SHOT], clips[..., SHOT : SHOT + QUERIES]
    points = videos.reshape(-1, DIM)
    means, queries = points[support].mean(axis=2), points[query]
    distances = ((queries[:, :, :, None] - means[:, None, None]) ** 2).sum(axis=-1)
    return classes, support, query, distances.argmin(axis=-1) == np.arange(WAY)[None, :, None]


def test_effects_of_an_additive_world_are_found_exactly():
    effects = np.array([0.3, -0.1, 0.2, 0.05, -0.25, 0.1])
    members = np.array(list(itertools.combinations(range(6), 3)))
    values = 0.5 + effects[members].sum(axis=1)
    estimated = main_effects(values, members)
    np.testing.assert_allclose(estimated.pseudo, 3 * (effects - effects.mean()), atol=1e-12)
    assert estimated.noise == pytest.approx(0, abs=1e-20)


def test_pseudo_values_are_the_jackknifes():
    """Leaving a class out of all possible episodes moves the mean by its pseudo-value."""
    effects, members = np.array([0.3, -0.1, 0.2, 0.05, -0.25, 0.1]), np.array(list(itertools.combinations(range(6), 3)))
    values = 0.5 + effects[members].sum(axis=1)
    left_out = np.array([values[(members != item).all(axis=1)].mean() for item in range(6)])
    jackknife = 6 * values.mean() - 5 * left_out
    np.testing.assert_allclose(values.mean() + main_effects(values, members).pseudo, jackknife, atol=1e-12)
    estimate = over_classes(values, members)
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.half_width == pytest.approx(t_quantile(0.975, 5) * jackknife.std(ddof=1) / np.sqrt(6))


def test_noise_is_counted_once():
    """If many classes make no difference, the interval over them is close to the conventional one."""
    rng = np.random.default_rng(0)
    classes = np.argsort(rng.random((2000, 100)), axis=1)[:, :WAY]
    widths = [(over_classes(v, classes).half_width, mean_and_ci95(v).ci95) for v in rng.normal(0.5, 0.1, (20, 2000))]
    ratios = [half_width / conventional for half_width, conventional in widths]
    assert 0.95 < np.median(ratios) < 1.7  # sqrt(m(n - 1)/(n - m)) = 2.3 without the correction


def test_few_classes_do_not_tell_noise_from_classes():
    """A corrected variance that is a small part of the raw one has few degrees of freedom and narrows nothing."""
    rng = np.random.default_rng(0)
    classes = np.argsort(rng.random((300, 10)), axis=1)[:, :WAY]
    for values in rng.normal(0.5, 0.1, (20, 300)):
        raw = t_quantile(0.975, 9) * main_effects(values, classes).pseudo.std(ddof=1) / np.sqrt(10)
        assert 0.5 * raw < over_classes(values, classes).half_width <= raw * (1 + 1e-9)


def test_a_difference_of_two_methods_is_the_difference_of_their_means():
    rng = np.random.default_rng(4)
    classes, support, query, right = answer(rng, videos_of(rng, *world(rng, 9), VIDEOS), 200)
    other = rng.random(right.shape) < 0.4
    same = (classes, support, query)
    difference = over_videos(right.astype(float) - other, *same)
    assert difference.mean == pytest.approx(over_videos(right, *same).mean - over_videos(other, *same).mean)
    backward = over_videos(other.astype(float) - right, *same)
    assert (backward.mean, backward.half_width) == pytest.approx((-difference.mean, difference.half_width))
    assert backward.p_value == pytest.approx(difference.p_value)


def test_degrees_of_freedom_of_classes_with_unequal_videos_follow_satterthwaite():
    """Queries alone: one class has two videos that differ, the other five of which all are right."""
    classes = np.tile([0, 1], (40, 1))
    query = np.stack([np.arange(40) % 2, 2 + np.arange(40) % 5], axis=1)[..., None]
    support = np.tile([[[9], [10]]], (40, 1, 1))
    right = np.stack([np.arange(40) % 2 == 0, np.ones(40, dtype=bool)], axis=1)[..., None]
    estimate = over_videos(right, classes, support, query)
    assert estimate.mean == pytest.approx(0.75)
    assert estimate.variances[0].freedom == pytest.approx(2)  # three videos of class 0, with the one of support


def test_intervals_cover_where_the_conventional_one_does_not():
    rng = np.random.default_rng(1)
    whole = []
    for _ in range(8):  # the truth for infinitely many classes: every episode has its own
        videos = videos_of(rng, *world(rng, 2000 * WAY), SHOT + QUERIES).reshape(2000, WAY, SHOT + QUERIES, DIM)
        means, queries = videos[:, :, :SHOT].mean(axis=2), videos[:, :, SHOT:]
        distances = ((queries[:, :, :, None] - means[:, None, None]) ** 2).sum(axis=-1)
        whole.append((distances.argmin(axis=-1) == np.arange(WAY)[None, :, None]).mean())
    truth, n_worlds, hits, same = np.mean(whole), 120, np.zeros(2), np.zeros(2)
    for _ in range(n_worlds):
        centres, spreads = world(rng, 16)
        classes, support, query, right = answer(rng, videos_of(rng, centres, spreads, VIDEOS), 400)
        accuracies = right.mean(axis=(1, 2))
        mean, ci95 = mean_and_ci95(accuracies)
        classes_interval = over_classes(accuracies, classes)
        videos_interval = over_videos(right, classes, support, query)
        of_these = answer(rng, videos_of(rng, centres, spreads, 100), 800)[3].mean()
        hits += [abs(mean - truth) <= ci95, classes_interval.low <= truth <= classes_interval.high]
        same += [abs(mean - of_these) <= ci95, videos_interval.low <= of_these <= videos_interval.high]
    assert hits[0] / n_worlds < 0.5 and hits[1] / n_worlds > 0.88
    assert same[0] / n_worlds < 0.8 and same[1] / n_worlds > 0.85


def test_intervals_over_videos_cover_with_several_shots_of_few_videos():
    """A video that makes queries hard makes its episodes easier as support, because no query uses it then."""
    rng = np.random.default_rng(2)
    n_classes, n, n_worlds, hits = 8, 12, 150, 0
    for _ in range(n_worlds):
        as_query, as_support = rng.uniform(-0.3, 0.3, n_classes * n), rng.uniform(-0.1, 0.1, n_classes * n)
        classes = np.argsort(rng.random((300, n_classes)), axis=1)[:, :WAY]
        clips = classes[..., None] * n + np.argsort(rng.random((300, WAY, n)), axis=2)
        support, query = clips[..., :5], clips[..., 5:10]
        right = rng.random(query.shape) < 0.6 + as_query[query] + as_support[support].mean(axis=2)[..., None]
        interval = over_videos(right, classes, support, query)
        hits += interval.low <= 0.6 <= interval.high  # 0.6: for infinitely many videos
    assert hits / n_worlds > 0.88


def test_what_cannot_be_told_is_none():
    rng = np.random.default_rng(0)
    every = np.tile(np.arange(5), (50, 1))
    assert over_classes(rng.random(50), every) is None  # every episode holds every class
    assert over_classes(rng.random(4), np.array(list(itertools.combinations(range(4), 2)))[:4]) is None
    right = np.ones((6, 2, 1), dtype=bool)
    classes, support, query = np.tile([0, 1], (6, 1)), np.tile([[[0]], [[1]]], (6, 1, 1, 1))[:, :, 0], None
    query = support.copy()
    assert over_videos(right, classes, support, query) is None  # one video per class


def test_equal_accuracies_have_no_width():
    classes = np.argsort(np.random.default_rng(0).random((90, 9)), axis=1)[:, :3]
    assert over_classes(np.full(90, 0.4), classes).half_width == pytest.approx(0, abs=1e-12)
