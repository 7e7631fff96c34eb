"""Check the similarities against loops over pairs, tuples and patches, which other tests use as well."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hcl.matching.similarity import (
    compare,
    fuse,
    global_similarity,
    match_patches,
    match_tuples,
    spatial_means,
    temporal_means,
    tuple_places,
)

QUERIES, SUPPORTS, FRAMES, PATCHES, DIM = 3, 2, 5, 6, 7
N_TUPLES = {2: 10, 3: 10}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(*shape: int, seed: int = 0) -> Tensor:
    """A leaf of random unit vectors."""
    return functional.normalize(noise(*shape, seed=seed), dim=-1).requires_grad_()


# --- METHOD "Zoom-in matching", one pair of clips at a time ---------------------------------------------------------

Pair = tuple[int, int]


def naive_tuple_pairs(u_q: Tensor, u_s: Tensor, top: int, metric: str = "cosine") -> list[Pair]:
    """(query tuple, support tuple), best first; of equal ones the lower index."""
    return _naive_best(u_q.detach().numpy(), u_s.detach().numpy(), top, metric)


def naive_patch_pairs(
    p_q: Tensor, p_s: Tensor, pair: Pair, size: int, top: int, weight: Tensor | None = None
) -> list[tuple[Pair, Pair]]:
    """((frame, patch) of the query, (frame, patch) of the support) in one pair of tuples."""
    places_q, places_s = naive_places(p_q, pair[0], size), naive_places(p_s, pair[1], size)
    query = np.stack([p_q[place].detach().numpy() for place in places_q])
    support = np.stack([p_s[place].detach().numpy() for place in places_s])
    weights = None if weight is None else weight.detach().numpy()
    return [(places_q[a], places_s[b]) for a, b in _naive_best(query, support, top, "cosine", weights)]


def naive_places(patches: Tensor, tuple_index: int, size: int) -> list[Pair]:
    frames = list(combinations(range(patches.shape[0]), size))[tuple_index]
    return [(frame, patch) for frame in frames for patch in range(patches.shape[1])]


def naive_temporal_means(u_q: Tensor, u_s: Tensor, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    return sum(u_q[a] for a, _ in pairs) / len(pairs), sum(u_s[b] for _, b in pairs) / len(pairs)


def naive_spatial_means(
    p_q: Tensor, p_s: Tensor, pairs: Sequence[Pair], size: int, ranks: int, top: int, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """weights: (rank, place)."""
    kept_q, kept_s = [], []
    for rank, pair in enumerate(pairs[:ranks]):
        weight = None if weights is None else weights[rank]
        for place_q, place_s in naive_patch_pairs(p_q, p_s, pair, size, top, weight):
            kept_q.append(p_q[place_q])
            kept_s.append(p_s[place_s])
    return sum(kept_q) / len(kept_q), sum(kept_s) / len(kept_s)


def naive_weights(p_q: Tensor, embedding: Tensor, pairs: Sequence[Pair], size: int, ranks: int) -> Tensor:
    """(rank, place): softmax over the patches of each kept query tuple of their product with an embedding."""
    rows = []
    for a, _ in pairs[:ranks]:
        exponentials = [torch.exp(p_q[place] @ embedding) for place in naive_places(p_q, a, size)]
        rows.append(torch.stack(exponentials) / sum(exponentials))
    return torch.stack(rows)


def naive_compare(x: Tensor, y: Tensor, metric: str = "cosine", renormalise: bool = False) -> Tensor:
    if renormalise:
        x, y = x / torch.sqrt((x * x).sum()), y / torch.sqrt((y * y).sum())
    return sum(a * b for a, b in zip(x, y, strict=True)) if metric == "cosine" else -((x - y) ** 2).sum()


def _naive_best(query, support, top, metric, weights=None) -> list[Pair]:
    found = []
    for a in range(len(query)):
        weight = 1.0 if weights is None else weights[a]
        values = [
            weight * float(np.dot(query[a], s)) if metric == "cosine" else -float(np.square(query[a] - s).sum())
            for s in support
        ]
        b = values.index(max(values))  # the first of equal ones
        found.append((values[b], a, b))
    found.sort(key=lambda entry: -entry[0])  # stable: of equal ones the first
    return [(a, b) for _, a, b in found[:top]]


def assert_same(ours: Tensor, naive: Tensor, leaves: Sequence[Tensor]) -> None:
    """Values, and the gradients of one random weighted sum."""
    torch.testing.assert_close(ours, naive)
    weights = noise(*ours.shape, seed=99)
    first = torch.autograd.grad((ours * weights).sum(), leaves, retain_graph=True)
    second = torch.autograd.grad((naive * weights).sum(), leaves, retain_graph=True)
    for one, other in zip(first, second, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other)


def by_pair(function, queries: int = QUERIES, supports: int = SUPPORTS) -> Tensor:
    return torch.stack([torch.stack([function(q, s) for s in range(supports)]) for q in range(queries)])


# --- temporal -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("top", [1, 4, 100])  # 100: more than there are
def test_temporal_similarity_against_a_loop(size, top, metric, renormalise):
    u_q, u_s = unit(QUERIES, N_TUPLES[size], DIM, seed=1), unit(SUPPORTS, N_TUPLES[size], DIM, seed=2)
    match = match_tuples(u_q, u_s, top)
    assert match.query.shape == (QUERIES, SUPPORTS, min(top, N_TUPLES[size]))
    ours = compare(*temporal_means(u_q, u_s, match), metric, renormalise=renormalise)

    def naive(q: int, s: int) -> Tensor:
        # by distance, as METHOD words the test metric: for unit vectors the same choice
        pairs = naive_tuple_pairs(u_q[q], u_s[s], top, metric)
        assert pairs == list(zip(match.query[q, s].tolist(), match.support[q, s].tolist(), strict=True))
        return naive_compare(*naive_temporal_means(u_q[q], u_s[s], pairs), metric, renormalise)

    assert_same(ours, by_pair(naive), (u_q, u_s))


def test_equal_tuples_are_taken_from_the_front():
    # integers: the sums are exact, and so are the ties
    u_q = torch.randint(-1, 2, (QUERIES, 10, 3), generator=torch.Generator().manual_seed(0)).double()
    u_s = torch.randint(-1, 2, (SUPPORTS, 10, 3), generator=torch.Generator().manual_seed(1)).double()
    match, tied = match_tuples(u_q, u_s, 10), 0
    for q in range(QUERIES):
        for s in range(SUPPORTS):
            pairs = naive_tuple_pairs(u_q[q], u_s[s], 10)
            assert pairs == list(zip(match.query[q, s].tolist(), match.support[q, s].tolist(), strict=True))
            tied += 10 - len({float(u_q[q, a] @ u_s[s, b]) for a, b in pairs})
    assert tied > 20


def test_a_clip_matched_with_itself_keeps_its_own_tuples_in_order():
    u = unit(4, 10, DIM).detach().float()
    u[1] = u[1] * 0.9999999  # rounding: inner products of a tuple with itself a little off 1
    everyone = torch.cat([unit(1, 10, DIM, seed=5).detach().float(), u])
    match = match_tuples(u, everyone, 6, same=torch.arange(1, 5))
    for clip in range(4):
        assert match.query[clip, clip + 1].tolist() == list(range(6))
        assert match.support[clip, clip + 1].tolist() == list(range(6))
    free = match_tuples(u, everyone, 6)  # every other pair is as without `same`
    others = torch.ones(4, 5, dtype=torch.bool)
    others[torch.arange(4), torch.arange(1, 5)] = False
    assert torch.equal(match.query[others], free.query[others])
    assert torch.equal(match.support[others], free.support[others])


def test_swapped_axes_read_the_supports_of_an_episode_as_tuples():
    u_q, u_s = unit(QUERIES, 4, DIM, seed=1).detach(), unit(5, 4, DIM, seed=2).detach()
    match = match_tuples(u_q, u_s, 3, swap_axes=True)
    for q in range(QUERIES):
        for s in range(5):
            rows = []
            for a in range(4):
                flat = [float(u_q[q, a] @ u_s[clip, b]) for clip in range(5) for b in range(4)]
                values = [flat[b * 5 + s] for b in range(4)]  # written (support, tuple), read (tuple, support)
                rows.append((max(values), a, values.index(max(values))))
            rows.sort(key=lambda row: -row[0])
            expected = [(a, b) for _, a, b in rows[:3]]
            assert expected == list(zip(match.query[q, s].tolist(), match.support[q, s].tolist(), strict=True))


# --- spatial --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("ranks", "top"), [(1, 4), (3, 5), (1, 1000), (100, 3), (100, 1000)])
@pytest.mark.parametrize("size", [2, 3])
def test_spatial_similarity_against_a_loop(size, ranks, top, weighted):
    u_q, u_s = unit(QUERIES, N_TUPLES[size], DIM, seed=1).detach(), unit(SUPPORTS, N_TUPLES[size], DIM, seed=2).detach()
    p_q, p_s = unit(QUERIES, FRAMES, PATCHES, DIM, seed=3), unit(SUPPORTS, FRAMES, PATCHES, DIM, seed=4)
    match = match_tuples(u_q, u_s, 4)
    weight = noise(QUERIES, SUPPORTS, 4, size * PATCHES, seed=5).softmax(dim=-1) if weighted else None
    kept = match_patches(p_q, p_s, match, size=size, ranks=ranks, top=top, weight=weight)
    assert kept.kept == min(ranks, 4) * min(top, size * PATCHES)
    assert (kept.query.sum(-1) == kept.kept).all() and (kept.support.sum(-1) == kept.kept).all()
    ours = compare(*spatial_means(p_q, p_s, kept), "cosine")

    def naive(q: int, s: int) -> Tensor:
        pairs = naive_tuple_pairs(u_q[q], u_s[s], 4)
        weights = None if weight is None else weight[q, s]
        return naive_compare(*naive_spatial_means(p_q[q], p_s[s], pairs, size, ranks, top, weights))

    assert_same(ours, by_pair(naive), (p_q, p_s))


def test_equal_patches_are_taken_from_the_front():
    u_q, u_s = unit(QUERIES, 10, DIM, seed=1).detach(), unit(SUPPORTS, 10, DIM, seed=2).detach()
    p_q = torch.randint(-1, 2, (QUERIES, FRAMES, PATCHES, 2), generator=torch.Generator().manual_seed(0)).double()
    p_s = torch.randint(-1, 2, (SUPPORTS, FRAMES, PATCHES, 2), generator=torch.Generator().manual_seed(1)).double()
    match = match_tuples(u_q, u_s, 3)
    kept = match_patches(p_q, p_s, match, size=2, ranks=3, top=5)
    for q in range(QUERIES):
        for s in range(SUPPORTS):
            query, support = torch.zeros(FRAMES, PATCHES), torch.zeros(FRAMES, PATCHES)
            for pair in naive_tuple_pairs(u_q[q], u_s[s], 3):
                for place_q, place_s in naive_patch_pairs(p_q[q], p_s[s], pair, 2, 5):
                    query[place_q] += 1
                    support[place_s] += 1
            assert kept.query[q, s].tolist() == query.flatten().tolist()
            assert kept.support[q, s].tolist() == support.flatten().tolist()


def test_what_is_chosen_has_no_gradient():
    u, p = unit(2, 10, DIM), unit(2, FRAMES, PATCHES, DIM, seed=1)
    match = match_tuples(u, u, 3)
    kept = match_patches(p, p, match, size=2, ranks=1, top=3)
    assert not kept.query.requires_grad and not kept.support.requires_grad


def test_places_of_a_tuple_go_frame_by_frame():
    assert tuple_places(torch.tensor([0, 9]), FRAMES, 3, 2).tolist() == [[0, 1, 2, 3, 4, 5], [9, 10, 11, 12, 13, 14]]


# --- global, comparison, fusion -------------------------------------------------------------------------------------


def test_global_similarity_against_a_loop():
    q, s = noise(QUERIES, DIM).requires_grad_(), noise(SUPPORTS, DIM, seed=1).requires_grad_()
    assert_same(global_similarity(q, s), by_pair(lambda i, j: naive_compare(q[i], s[j])), (q, s))


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="'manhattan'"):
        compare(noise(3), noise(3), "manhattan")


def test_fusion_weighs_each_level_by_its_own_sigma():
    levels = [np.array([1.0, 2.0]), np.array([10.0, 20.0]), np.array([100.0, 200.0])]
    fused = fuse(*levels, {"spatial": 5.0, "global": 2.0, "temporal": 3.0})
    assert fused.tolist() == [532.0, 1064.0]
