"""Training-free ways to compare two clips frame by frame: OTAM, Bi-MHM, Chamfer (pure functions of frame features).

Each gives one similarity a pair of clips, from the cosines of all their frames; the frames carry no other order than
their index. With several shots a class scores the mean over its shots, as for HCL's temporal and spatial levels.

| matcher | source | order of frames |
|---|---|---|
| `otam` | Cao et al., Few-shot video classification via temporal alignment, CVPR 2020 | monotonic alignment |
| `bimhm` | Wang et al., Hybrid relation guided set matching, CVPR 2022 | none |
| `chamfer` | the bidirectional sum of nearest squared distances | none |
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

OTAM_TEMPERATURE = 0.1
"""Of the soft minimum (the paper's lambda)."""


def frame_cosines(
    query: Float[Tensor, "query frame dim"], support: Float[Tensor, "support other dim"]
) -> Float[Tensor, "query support frame other"]:
    """The cosine of every frame of one clip and every frame of another, for all pairs of clips."""
    q, s = functional.normalize(query, dim=-1), functional.normalize(support, dim=-1)
    products = q.flatten(0, 1) @ s.flatten(0, 1).T
    return rearrange(products, "(q t) (s u) -> q s t u", q=len(query), s=len(support))


def otam_similarity(
    cosines: Float[Tensor, "*pair frame other"], *, temperature: float = OTAM_TEMPERATURE
) -> Float[Tensor, "*pair"]:
    """Minus the cost of the soft-minimum alignment with free ends, averaged over both directions.

    The cost of two frames is 1 - cosine. The path goes through the frames of the second clip in order, while frames of
    the first before its beginning and after its end are passed over at no cost (the paper's relaxed boundary: a column
    of zeros before and after the distances); then the roles are changed.
    """
    cost = 1 - cosines
    forward = _alignment_cost(cost, temperature)
    return -(forward + _alignment_cost(cost.transpose(-1, -2), temperature)) / 2


def bimhm_similarity(cosines: Float[Tensor, "*pair frame other"]) -> Float[Tensor, "*pair"]:
    """Minus the bidirectional mean Hausdorff distance: each frame's cost to its best frame in the other clip, averaged
    over the frames of each clip, and added up."""
    cost = 1 - cosines
    return -(cost.amin(dim=-1).mean(dim=-1) + cost.amin(dim=-2).mean(dim=-1))


def chamfer_similarity(cosines: Float[Tensor, "*pair frame other"]) -> Float[Tensor, "*pair"]:
    """Minus the Chamfer distance of the two sets of unit vectors: squared distances to the nearest, summed both ways.

    A squared distance of unit vectors is 2 - 2 cos, so that with as many frames in both clips the order of pairs is
    that of Bi-MHM; they differ for clips of unequal length, where the longer one weighs more here.
    """
    squared = 2 - 2 * cosines
    return -(squared.amin(dim=-1).sum(dim=-1) + squared.amin(dim=-2).sum(dim=-1))


SIMILARITIES: dict[str, Callable[..., Tensor]] = {
    "otam": otam_similarity,
    "bimhm": bimhm_similarity,
    "chamfer": chamfer_similarity,
}


@torch.no_grad()
def score_frames(
    query: Float[Tensor, "query frame dim"],
    support: Float[Tensor, "support other dim"],
    *,
    matcher: str,
    chunk_size: int = 256,
) -> Float[Tensor, "query support"]:
    """The similarity of all pairs.

    Args:
        matcher: a key of `SIMILARITIES`.
        chunk_size: query clips at a time: bounds memory, never changes a result.
    """
    similarity = SIMILARITIES[matcher]
    return torch.cat([similarity(frame_cosines(part, support)) for part in query.split(chunk_size)])


def _alignment_cost(cost: Float[Tensor, "*pair step place"], temperature: float) -> Float[Tensor, "*pair"]:
    """The soft-minimum cost of a path through all places in order, at rising steps.

    With the free columns `place` runs from 0 to places + 1. A cell is reached from the one a step and a place before
    it, or from the place before it in the same step; at either end also straight from the step before, which in a free
    column costs nothing.
    """
    padded = functional.pad(cost, (1, 1))
    steps, places = padded.shape[-2:]
    previous = list(padded[..., 0, :].cumsum(dim=-1).unbind(dim=-1))
    for step in range(1, steps):
        current = [previous[0]]  # the column of zeros: nothing has been aligned, nothing costs
        for place in range(1, places):
            ways = [previous[place - 1], current[place - 1]]
            if place in (1, places - 1):
                ways.append(previous[place])
            current.append(padded[..., step, place] + _soft_minimum(ways, temperature))
        previous = current
    return previous[-1]


def _soft_minimum(ways: list[Tensor], temperature: float) -> Tensor:
    return -temperature * torch.logsumexp(torch.stack(ways) / -temperature, dim=0)
