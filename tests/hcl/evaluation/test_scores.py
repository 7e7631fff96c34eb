"""The score table against loops over pairs, and its look-ups against scoring each episode directly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hcl.clips.episodes import Episodes, sample_episodes
from hcl.evaluation.scores import (
    METRICS,
    Levels,
    accuracies,
    fused,
    look_up,
    look_up_global,
    metric_of,
    query_classes,
    score_episode,
    score_pairs,
)
from hcl.models.features import ClipFeatures
from tests.hcl.matching.test_similarity import (
    naive_compare,
    naive_spatial_means,
    naive_temporal_means,
    naive_tuple_pairs,
    naive_weights,
    noise,
    unit,
)

FRAMES, PATCHES, DIM = 4, 3, 7
N_TUPLES = {2: 6, 3: 4}
SIZES = [(2,), (2, 3)]
MATCHING: dict[str, Any] = {"top_tuples": 3, "top_patches": 4, "zoom_ranks": 2}


def features_of(clips: int, sizes=(2, 3), *, semantic: bool = False, seed: int = 0) -> ClipFeatures:
    patches = unit(clips, FRAMES, PATCHES, DIM, seed=seed + 1).detach()
    tuples = tuple(unit(clips, N_TUPLES[size], DIM, seed=seed + 10 + size).detach() for size in sizes)
    embeddings = (3 * unit(clips, DIM, seed=seed + 3).detach(),) * len(sizes) if semantic else None
    return ClipFeatures((patches,) * len(sizes), tuples, patches.mean(dim=(1, 2)), embeddings)


def naive_pair(q: ClipFeatures, s: ClipFeatures, level: int, size: int, metric: str, renormalise: bool = False):
    """Temporal and spatial similarity of two clips, each a batch of one."""
    u_q, u_s, p_q, p_s = q.tuples[level][0], s.tuples[level][0], q.patches[level][0], s.patches[level][0]
    pairs = naive_tuple_pairs(u_q, u_s, MATCHING["top_tuples"], metric)
    ranks, weights = MATCHING["zoom_ranks"], None
    if s.semantics is not None:  # the support's class name: the query's class is unknown
        weights = naive_weights(p_q, s.semantics[level][0], pairs, size, ranks)
    temporal = naive_temporal_means(u_q, u_s, pairs)
    spatial = naive_spatial_means(p_q, p_s, pairs, size, ranks, MATCHING["top_patches"], weights)
    return tuple(float(naive_compare(*means, metric, renormalise)) for means in (temporal, spatial))


# --- the table ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("semantic", [False, True])
@pytest.mark.parametrize("sizes", [(2,), (3,), (3, 2)])
def test_every_pair_against_a_loop(sizes, semantic, renormalise):
    query, support = features_of(3, sizes, semantic=semantic), features_of(5, sizes, semantic=semantic, seed=50)
    table = score_pairs(query, support, tuple_sizes=sizes, renormalise=renormalise, chunk_size=2, **MATCHING)
    kinds = {f"{name}_{metric}_{size}" for name in ("temporal", "spatial") for metric in METRICS for size in sizes}
    assert table.keys() == {"global"} | kinds
    for i in range(3):
        for j in range(5):
            q, s = query[i : i + 1], support[j : j + 1]
            assert float(table["global"][i, j]) == pytest.approx(float(q.clip[0] @ s.clip[0]))
            for level, size in enumerate(sizes):
                for metric in METRICS:
                    temporal, spatial = naive_pair(q, s, level, size, metric, renormalise)
                    assert float(table[f"temporal_{metric}_{size}"][i, j]) == pytest.approx(temporal)
                    assert float(table[f"spatial_{metric}_{size}"][i, j]) == pytest.approx(spatial)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 100])
def test_chunks_change_nothing(chunk_size):
    query, support = features_of(5, semantic=True), features_of(7, semantic=True, seed=50)
    whole = score_pairs(query, support, tuple_sizes=(2, 3), chunk_size=1000, **MATCHING)
    for name, value in score_pairs(query, support, tuple_sizes=(2, 3), chunk_size=chunk_size, **MATCHING).items():
        torch.testing.assert_close(value, whole[name])


def test_metrics_that_are_not_asked_for_are_left_out():
    features = features_of(3, (2,))
    table = score_pairs(features, features, tuple_sizes=(2,), metrics=("euclidean",), **MATCHING)
    assert set(table) == {"global", "temporal_euclidean_2", "spatial_euclidean_2"}


def test_more_tuples_patches_and_ranks_than_there_are_take_all():
    features = features_of(3)
    most = score_pairs(features, features, tuple_sizes=(2, 3), top_tuples=1000, top_patches=1000, zoom_ranks=1000)
    everything = score_pairs(features, features, tuple_sizes=(2, 3), top_tuples=6, top_patches=9, zoom_ranks=6)
    for name, value in most.items():
        assert torch.equal(value, everything[name])


def test_half_precision_changes_the_spatial_level_a_little_and_no_other():
    query, support = features_of(6), features_of(5, seed=50)
    halves = [ClipFeatures(tuple(p.half() for p in one.patches), one.tuples, one.clip) for one in (query, support)]
    full = score_pairs(query, support, tuple_sizes=(2, 3), **MATCHING)
    ours = score_pairs(*halves, tuple_sizes=(2, 3), precision="bfloat16", **MATCHING)
    for name, value in full.items():
        if name.startswith("spatial"):
            assert not torch.equal(ours[name].double(), value)
            assert (ours[name].double() - value).abs().median() < 0.02  # where two patches nearly tie, the other one
        else:
            assert torch.equal(ours[name], value)


def test_defects_that_mix_supports_do_not_depend_on_chunks():
    query, support = features_of(5, semantic=True), features_of(3, semantic=True, seed=50)
    for defect in ({"swap_axes": True}, {"misplaced_semantics": query.semantics}):
        one, other, right = (
            score_pairs(query, support, tuple_sizes=(2, 3), chunk_size=size, **extra, **MATCHING)
            for size, extra in ((100, defect), (2, defect), (100, {}))
        )
        for name, value in one.items():
            torch.testing.assert_close(other[name], value)
        assert not torch.allclose(one["spatial_cosine_2"], right["spatial_cosine_2"])


# --- episodes -------------------------------------------------------------------------------------------------------


def naive_episode(features: ClipFeatures, way: int, shot: int, metric: str, sizes) -> Levels:
    """METHOD "Test metric", clip by clip; support clips (class by class), then query clips."""
    n_support = way * shot
    levels: list[list[list[float]]] = [[], [], []]
    for i in range(n_support, len(features)):
        rows: list[list[float]] = [[], [], []]
        for w in range(way):
            shots = range(w * shot, (w + 1) * shot)
            if metric == "cosine":
                values = [float(features.clip[i] @ features.clip[j]) for j in shots]
                rows[0].append(sum(values) / shot)
            else:
                prototype = sum(features.clip[j] for j in shots) / shot
                rows[0].append(-float(((features.clip[i] - prototype) ** 2).sum()))
            pairs = [
                naive_pair(features[i : i + 1], features[j : j + 1], level, size, metric)
                for level, size in enumerate(sizes)
                for j in shots
            ]
            rows[1].append(sum(temporal for temporal, _ in pairs) / len(pairs))
            rows[2].append(sum(spatial for _, spatial in pairs) / len(pairs))
        for level, row in zip(levels, rows, strict=True):
            level.append(row)
    return Levels(*(np.array(level) for level in levels))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("shot", "sizes"), [(1, (2,)), (2, (2, 3)), (3, (3,))])
def test_an_episode_against_a_loop(shot, sizes, metric):
    features = features_of(2 * shot + 3, sizes)
    ours = score_episode(features, way=2, shot=shot, metric=metric, tuple_sizes=sizes, **MATCHING)
    for level, expected in zip(ours, naive_episode(features, 2, shot, metric, sizes), strict=True):
        assert level.shape == (3, 2)
        np.testing.assert_allclose(level, expected, rtol=1e-9)


LABELS = np.repeat(np.arange(4), 8)


def table_of(features: ClipFeatures, sizes) -> dict[str, np.ndarray]:
    table = score_pairs(features, features, tuple_sizes=sizes, chunk_size=5, **MATCHING)
    return {name: value.numpy() for name, value in table.items()}


def directly(features: ClipFeatures, episodes: Episodes, metric: str, sizes) -> Levels:
    each = []
    for support, query in zip(episodes.support, episodes.query, strict=True):
        clips = torch.from_numpy(np.concatenate([support.ravel(), query.ravel()]))
        way, shot = support.shape
        each.append(score_episode(features[clips], way=way, shot=shot, metric=metric, tuple_sizes=sizes, **MATCHING))
    return Levels(*(np.stack(level) for level in zip(*each, strict=True)))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("metric", ["cosine", "euclidean", "auto"])
@pytest.mark.parametrize(("shot", "way", "queries"), [(1, 2, 1), (2, 3, 2), (3, 2, 3), (4, 4, 1), (5, 3, 2)])
def test_looking_up_equals_scoring_each_episode(shot, way, queries, metric, sizes):
    features = features_of(len(LABELS), sizes, semantic=shot == 2)
    episodes = sample_episodes(LABELS, way=way, shot=shot, queries=queries, episodes=2, seed=shot)
    looked_up = look_up(table_of(features, sizes), episodes, metric=metric, tuple_sizes=sizes)
    for level, direct in zip(looked_up, directly(features, episodes, metric, sizes), strict=True):
        assert level.shape == (2, way * queries, way)
        np.testing.assert_allclose(level, direct, rtol=1e-9, atol=1e-12)


def test_overlapping_episodes_are_looked_up_too():
    features = features_of(len(LABELS), (2,))
    episodes = sample_episodes(LABELS, way=3, shot=5, queries=4, episodes=3, seed=0, overlapping=True)
    assert any(np.intersect1d(s, q).size for s, q in zip(episodes.support, episodes.query, strict=True))
    looked_up = look_up(table_of(features, (2,)), episodes, metric="auto", tuple_sizes=(2,))
    for level, direct in zip(looked_up, directly(features, episodes, "auto", (2,)), strict=True):
        np.testing.assert_allclose(level, direct, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shot", [1, 3])
def test_permuting_the_classes_permutes_the_scores(shot):
    features, order = features_of(len(LABELS)), np.array([2, 0, 1])
    episodes = sample_episodes(LABELS, way=3, shot=shot, queries=2, episodes=4, seed=0)
    permuted = Episodes(episodes.classes[:, order], episodes.support[:, order], episodes.query[:, order])
    table = table_of(features, (2, 3))
    straight, moved = (look_up(table, e, metric="auto", tuple_sizes=(2, 3)) for e in (episodes, permuted))
    queries = (order[:, None] * 2 + np.arange(2)).ravel()
    for before, after in zip(straight, moved, strict=True):
        np.testing.assert_allclose(after, before[:, queries][:, :, order], rtol=1e-12)
    one, other = (directly(features, e, "auto", (2, 3)) for e in (episodes, permuted))
    for before, after in zip(one, other, strict=True):
        np.testing.assert_allclose(after, before[:, queries][:, :, order], rtol=1e-9)


def test_the_order_of_the_shots_changes_nothing():
    features = features_of(len(LABELS))
    episodes = sample_episodes(LABELS, way=3, shot=4, queries=1, episodes=3, seed=0)
    turned = Episodes(episodes.classes, episodes.support[..., ::-1].copy(), episodes.query)
    table = table_of(features, (2, 3))
    for metric in METRICS:
        one, other = (look_up(table, e, metric=metric, tuple_sizes=(2, 3)) for e in (episodes, turned))
        for before, after in zip(one, other, strict=True):
            np.testing.assert_allclose(after, before, rtol=1e-12)


def test_the_global_level_needs_inner_products_alone():
    features = features_of(len(LABELS), (2,))
    episodes = sample_episodes(LABELS, way=3, shot=3, queries=2, episodes=2, seed=0)
    gram = (features.clip @ features.clip.T).numpy()
    for metric in METRICS:
        expected = directly(features, episodes, metric, (2,)).global_
        np.testing.assert_allclose(look_up_global(gram, episodes, metric), expected, rtol=1e-9)


def test_auto_is_cosine_at_one_shot_and_euclidean_above():
    assert [metric_of("auto", shot) for shot in (1, 2, 5)] == ["cosine", "euclidean", "euclidean"]
    assert [metric_of(metric, 3) for metric in METRICS] == list(METRICS)


def test_swapped_axes_act_above_one_shot_only():
    def levels(shot: int, swap_axes: bool) -> Levels:
        features = features_of(3 * shot + 2, (2,))
        return score_episode(
            features, way=3, shot=shot, metric="auto", tuple_sizes=(2,), swap_axes=swap_axes, **MATCHING
        )

    assert np.array_equal(levels(1, True).temporal, levels(1, False).temporal)
    assert not np.allclose(levels(2, True).temporal, levels(2, False).temporal)
    assert np.array_equal(levels(2, True).global_, levels(2, False).global_)


def test_corrected_semantics_at_test_ignore_the_embedding_of_the_query():
    features = features_of(5, (2,), semantic=True)
    settings = {"way": 2, "shot": 1, "metric": "cosine", "tuple_sizes": (2,), **MATCHING}
    embeddings = features.semantics[0].clone()
    embeddings[2:] = noise(3, DIM, seed=9)
    changed = ClipFeatures(features.patches, features.tuples, features.clip, (embeddings,))
    assert np.array_equal(score_episode(changed, **settings).spatial, score_episode(features, **settings).spatial)
    embeddings[:2] = embeddings[:2].flip(0) * 5
    assert not np.array_equal(score_episode(changed, **settings).spatial, score_episode(features, **settings).spatial)


# --- fusion and accuracy --------------------------------------------------------------------------------------------


def test_scores_are_fused_level_by_level():
    levels = Levels(np.array([[1.0]]), np.array([[10.0]]), np.array([[100.0]]))
    assert fused(levels, {"spatial": 5.0, "global": 2.0, "temporal": 3.0}) == 2 + 30 + 500


def test_accuracy_counts_the_queries_whose_best_class_is_theirs():
    assert query_classes(3, 2).tolist() == [0, 0, 1, 1, 2, 2]
    scores = np.zeros((2, 6, 3))
    best = [[0, 1, 1, 1, 0, 2], [0, 0, 1, 1, 2, 2]]
    for episode in range(2):
        for query in range(6):
            scores[episode, query, best[episode][query]] = 1.0
    assert accuracies(scores, 2).tolist() == [4 / 6, 1.0]


def test_equal_scores_go_to_the_first_class():
    assert accuracies(np.zeros((1, 4, 2)), 2).tolist() == [0.5]


def test_scoring_leaves_no_gradients():
    features = features_of(3, (2,))
    leaf: Tensor = features.clip.requires_grad_()
    assert not score_pairs(features, features, tuple_sizes=(2,), **MATCHING)["global"].requires_grad
    assert leaf.grad is None
