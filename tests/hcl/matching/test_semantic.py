from __future__ import annotations

import pytest
import torch

from hcl.matching.semantic import misplaced_test_weights, misplaced_training_weights, pair_weights
from hcl.matching.similarity import match_tuples
from tests.hcl.matching.test_similarity import assert_same, by_pair, naive_tuple_pairs, naive_weights, noise, unit

QUERIES, SUPPORTS, FRAMES, PATCHES, DIM = 3, 2, 5, 4, 7


def matched(top: int = 4):
    u_q, u_s = unit(QUERIES, 10, DIM, seed=1).detach(), unit(SUPPORTS, 10, DIM, seed=2).detach()
    pairs = [[naive_tuple_pairs(u_q[q], u_s[s], top) for s in range(SUPPORTS)] for q in range(QUERIES)]
    return match_tuples(u_q, u_s, top), pairs


@pytest.mark.parametrize("ranks", [1, 3, 100])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("one_per", ["query", "support"])
def test_weights_and_gradients_against_a_loop(one_per, size, ranks):
    match, pairs = matched()
    patches = unit(QUERIES, FRAMES, PATCHES, DIM, seed=3)
    embeddings = noise(QUERIES if one_per == "query" else SUPPORTS, DIM, seed=4).requires_grad_()
    placed = embeddings[:, None] if one_per == "query" else embeddings[None]
    ours = pair_weights(patches, placed, match, size=size, ranks=ranks)
    assert ours.shape == (QUERIES, SUPPORTS, min(ranks, 4), size * PATCHES)
    torch.testing.assert_close(ours.sum(-1), torch.ones_like(ours[..., 0]))

    def naive(q: int, s: int):
        return naive_weights(patches[q], embeddings[q if one_per == "query" else s], pairs[q][s], size, ranks)

    assert_same(ours, by_pair(naive), (patches, embeddings))


def test_misplaced_training_weights_are_those_of_support_0():
    weights = noise(QUERIES, SUPPORTS, 3, 5)
    misplaced = misplaced_training_weights(weights)
    assert misplaced.shape == weights.shape
    for support in range(SUPPORTS):
        assert torch.equal(misplaced[:, support], weights[:, 0])


def test_misplaced_test_weights_of_rank_k_are_those_of_support_k():
    weights = noise(2, 5, 3, 7)
    misplaced = misplaced_test_weights(weights)
    assert misplaced.shape == weights.shape
    for support in range(5):
        for rank in range(3):
            assert torch.equal(misplaced[:, support, rank], weights[:, rank, rank])


def test_misplaced_test_weights_need_a_support_for_every_rank():
    with pytest.raises(ValueError, match="3 zoom ranks need as many support clips, got 2"):
        misplaced_test_weights(noise(2, 2, 3, 7))
