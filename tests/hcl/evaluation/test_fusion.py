"""Batches of candidates against the fused scores of each candidate, looked up by itself."""

from __future__ import annotations

import numpy as np
import pytest

from hcl.clips.episodes import sample_episodes
from hcl.evaluation.fusion import contested, drawn_sigmas, fused_accuracies, level_weights
from hcl.evaluation.scores import accuracies, fused, look_up

N, LABELS = 35, np.repeat(np.arange(5), 7)


def sigmas_of(rows):
    """Weights of the levels, by name."""
    return [dict(zip(("global", "temporal", "spatial"), map(float, row), strict=True)) for row in rows]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    names = ["global", *(f"{level}_{metric}_{size}" for level in ("temporal", "spatial")
                         for metric in ("cosine", "euclidean") for size in (2, 3))]  # fmt: skip
    same = LABELS[:, None] == LABELS
    return {name: 0.7 * same + rng.normal(size=(N, N)) for name in names}


@pytest.mark.parametrize("sizes", [(2,), (2, 3)])
@pytest.mark.parametrize("over_shots", ["mean", "max"])
@pytest.mark.parametrize(("metric", "shot"), [("auto", 1), ("auto", 3), ("cosine", 3)])
def test_a_batch_gives_each_candidates_accuracy(table, sizes, over_shots, metric, shot):
    episodes = sample_episodes(LABELS, way=3, shot=shot, queries=3, episodes=40, seed=2)
    rng = np.random.default_rng(1)
    candidates = sigmas_of(np.vstack([rng.uniform(0, 3, size=(9, 3)), np.eye(3)]))
    triples = rng.uniform(size=len(candidates)).tolist()
    margins = contested(table, episodes, metric=metric, over_shots=over_shots, tuple_sizes=sizes)
    weights = level_weights(candidates, triples, sizes)
    found = fused_accuracies(margins, weights)
    assert 0 < margins.n_right < margins.n_queries
    if len(sizes) == 1:  # some are wrong whatever the weights
        assert margins.margins.shape[1] < margins.n_queries - margins.n_right
    for sigmas, share, value in zip(candidates, triples, found, strict=True):
        levels = look_up(table, episodes, metric=metric, tuple_sizes=sizes, triples=share, over_shots=over_shots)
        assert float(value) == pytest.approx(accuracies(fused(levels, sigmas), 3).mean(), abs=1e-6)


@pytest.mark.parametrize("sizes", [(2,), (2, 3)])
def test_ties_go_to_the_first_class_as_they_do_one_by_one(table, sizes):
    """Similarities of few whole values tie at single levels, at all of them, and in sums of weights that are whole."""
    rounded = {name: np.round(values).clip(-1, 1) for name, values in table.items()}
    episodes = sample_episodes(LABELS, way=4, shot=1, queries=3, episodes=60, seed=3)
    candidates = sigmas_of([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, 2.0, 1.0]])
    margins = contested(rounded, episodes, metric="cosine", over_shots="mean", tuple_sizes=sizes)
    weights = level_weights(candidates, [0.5] * len(candidates), sizes)
    levels = look_up(rounded, episodes, metric="cosine", tuple_sizes=sizes)
    n_tied = 0
    for sigmas, value in zip(candidates, fused_accuracies(margins, weights), strict=True):
        scores = fused(levels, sigmas)
        n_tied += int((np.sort(scores, axis=-1)[..., -1] == np.sort(scores, axis=-1)[..., -2]).sum())
        assert float(value) == pytest.approx(accuracies(scores, 3).mean(), abs=1e-6)
    assert n_tied > 100


def test_the_nearest_shot_against_loops(table):
    episodes = sample_episodes(LABELS, way=2, shot=3, queries=2, episodes=5, seed=4)
    levels = look_up(table, episodes, metric="euclidean", tuple_sizes=(2, 3), triples=0.25, over_shots="max")
    gram = table["global"]
    for e, (support, query) in enumerate(zip(episodes.support, episodes.query, strict=True)):
        for i, q in enumerate(query.ravel()):
            for w in range(2):
                distance = min(gram[q, q] - 2 * gram[q, s] + gram[s, s] for s in support[w])
                assert levels.global_[e, i, w] == pytest.approx(-distance)
                two, three = (max(table[f"temporal_euclidean_{n}"][q, s] for s in support[w]) for n in (2, 3))
                assert levels.temporal[e, i, w] == pytest.approx(0.75 * two + 0.25 * three)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_candidates_are_the_given_ones_first(n):
    given = sigmas_of([[0.5, 0.25, 0.0], [1.0, 0.5, 0.5]])
    found = drawn_sigmas(n, given)
    assert len(found) == n and found[:2] == given[:n]
    assert all(list(sigmas) == ["global", "temporal", "spatial"] for sigmas in found)
    assert found[2:] == [] or (found[2]["global"] == 1.0 and 0 <= found[2]["temporal"] <= 4)
