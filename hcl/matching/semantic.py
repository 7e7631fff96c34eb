"""Weight a query's patches in the spatial matching by class-name embeddings (METHOD "Semantic branch").

The weights multiply patch affinities before the best patches are chosen.
"""

from __future__ import annotations

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from hcl.matching.similarity import TupleMatch, tuple_places


def pair_weights(
    patches: Float[Tensor, "query frame patch dim"],
    embeddings: Float[Tensor, "query_or_one support_or_one dim"],
    match: TupleMatch,
    *,
    size: int,
    ranks: int,
) -> Float[Tensor, "query support rank place"]:
    """Return, for each kept query tuple, the softmax over its patches of their inner products with an embedding.

    Args:
        embeddings: one for each query (in training, where its class is known) or one for each support (at test).
    """
    flat = patches.flatten(1, 2)
    n_queries, n_supports = match.query.shape[:2]
    logits = torch.einsum("qnd,qsd->qsn", flat, embeddings.expand(n_queries, -1, -1)).expand(-1, n_supports, -1)
    places = tuple_places(match.query[..., :ranks], patches.shape[1], patches.shape[2], size)
    return torch.stack([logits.gather(-1, places[:, :, k]) for k in range(places.shape[2])], dim=2).softmax(dim=-1)


def misplaced_training_weights(weights: Float[Tensor, "query support rank place"]) -> Tensor:
    """Reproduce deviation 18: the weights of support 0 apply to all supports."""
    return weights[:, :1].expand_as(weights)


def misplaced_test_weights(weights: Float[Tensor, "query support rank place"]) -> Tensor:
    """Reproduce deviation 7: at rank k the weights of support k apply to all supports.

    Raises ValueError if an episode has fewer supports than ranks, as the release does.
    """
    n_supports, n_ranks = weights.shape[1:3]
    if n_supports < n_ranks:
        raise ValueError(f"misplaced semantics of {n_ranks} zoom ranks need as many support clips, got {n_supports}")
    rank = torch.arange(n_ranks, device=weights.device)
    return repeat(weights[:, rank, rank], "q k n -> q s k n", s=n_supports)
