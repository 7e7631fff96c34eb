"""Compare a query's levels with those of the same episode, and of each class by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from hcl.evaluation.matcher import Matcher
from hcl.evaluation.methods import HierarchicalMatching
from hcl.evaluation.scores import Levels, score_episode
from hcl.evaluation.single_queries import nearest_shot, query_levels, with_one_metric
from hcl.models.features import ClipFeatures
from hcl.models.hcl import MatchingHeads

SIZES = (2, 3)
OPTIONS = {"tuple_sizes": SIZES, "top_tuples": 3, "top_patches": 4, "zoom_ranks": 2}
SIGMAS = {"global": 1.0, "temporal": 0.5, "spatial": 0.25}


def features(n: int, seed: int = 0) -> ClipFeatures:
    torch.manual_seed(7)
    heads = MatchingHeads(11, tuple_sizes=SIZES).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        return heads(torch.randn(n, 4, 6, 11), 2)


def matcher(metric: str = "cosine", over_shots: str = "mean") -> Matcher:
    return Matcher(metric, True, OPTIONS, over_shots=over_shots)


def levels_of(clips: ClipFeatures, shots: Sequence[int], how: Matcher) -> Levels:
    """Return the levels of the last clip."""
    n = sum(shots)
    return query_levels([clips[slice(n, None)]], [clips[slice(0, n)]], shots, how)[0]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("shot", [1, 3])
def test_levels_are_those_of_an_episode(metric: str, shot: int) -> None:
    clips = features(5 * shot + 1)
    expected = score_episode(clips, way=5, shot=shot, metric=metric, **OPTIONS)
    for name, found, level in zip(Levels._fields, levels_of(clips, [shot] * 5, matcher(metric)), expected, strict=True):
        np.testing.assert_allclose(found, level[0], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("over_shots", ["mean", "max"])
def test_each_class_has_the_levels_that_it_has_by_itself(metric: str, over_shots: str) -> None:
    shots, clips = [2, 5, 1, 2], features(11)
    found, ends = levels_of(clips, shots, matcher(metric, over_shots)), np.cumsum(shots)
    for way, shot in enumerate(shots):
        chosen = torch.tensor([*range(ends[way] - shot, ends[way]), 10])
        alone = levels_of(clips[chosen], [shot], matcher(metric, over_shots))
        for level, other in zip(found, alone, strict=True):
            assert level[way] == pytest.approx(other[0], rel=1e-5, abs=1e-6)


def test_similarities_are_averaged_over_views_before_the_shots() -> None:
    first, second = features(5, seed=1), features(5, seed=2)
    support, query = ([view[part] for view in (first, second)] for part in (slice(0, 4), slice(4, 5)))
    found, _ = query_levels(query, support, [2, 2], matcher())
    for level, *of_views in zip(found, *(levels_of(view, [2, 2], matcher()) for view in (first, second)), strict=True):
        np.testing.assert_allclose(level, np.mean(of_views, axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("metric", "shots", "expected"),
    [
        ("auto", [1, 1], "cosine"),
        ("auto", [1, 4], "euclidean"),
        ("auto", [4, 4], "euclidean"),
        ("cosine", [4, 4], "cosine"),
    ],
)
def test_all_classes_share_a_metric(metric: str, shots: list[int], expected: str) -> None:
    how = HierarchicalMatching(matcher(metric), SIGMAS)
    assert with_one_metric(how, shots) == replace(how, matcher=matcher(expected))


def test_the_nearest_clip_has_the_best_score_alone() -> None:
    how, clips = HierarchicalMatching(matcher(), SIGMAS), features(7)
    _, pairs = query_levels([clips[slice(6, None)]], [clips[slice(0, 6)]], [2, 4], how.matcher)
    alone = []
    for clip in range(6):
        levels = levels_of(clips[torch.tensor([clip, 6])], [1], matcher())
        alone.append(sum(sigma * float(level[0]) for sigma, level in zip(SIGMAS.values(), levels, strict=True)))
    assert nearest_shot(pairs, 2, 4, how) == 2 + int(np.argmax(alone[2:]))
    assert nearest_shot(pairs, 0, 2, how) == int(np.argmax(alone[:2]))
