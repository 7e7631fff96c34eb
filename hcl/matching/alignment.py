"""Compare two clips frame by frame without training by OTAM, Bi-MHM or Chamfer (pure functions of frame features).

Each returns one similarity for a pair of clips, computed from the cosines of all their frames. With several shots a
class scores the mean over its shots, as for HCL's temporal and spatial levels.

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
"""Temperature of the soft minimum (the paper's lambda)."""


def frame_cosines(
    query: Float[Tensor, "query frame dim"], support: Float[Tensor, "support other dim"]
) -> Float[Tensor, "query support frame other"]:
    """Return the cosine of every frame of one clip and every frame of another, for all pairs of clips."""
    q, s = functional.normalize(query, dim=-1), functional.normalize(support, dim=-1)
    products = q.flatten(0, 1) @ s.flatten(0, 1).T
    return rearrange(products, "(q t) (s u) -> q s t u", q=len(query), s=len(support))


def otam_similarity(
    cosines: Float[Tensor, "*pair frame other"], *, temperature: float = OTAM_TEMPERATURE
) -> Float[Tensor, "*pair"]:
    """Return minus the cost of the soft-minimum alignment with free ends, averaged over both directions.

    The cost of two frames is 1 - cosine. The path visits all frames of the second clip in order and may skip frames of
    the first clip before its start and after its end at no cost (the paper's relaxed boundary: a column of zeros before
    and after the distances); for the other direction the clips are exchanged.
    """
    cost = 1 - cosines
    forward = _alignment_cost(cost, temperature)
    return -(forward + _alignment_cost(cost.transpose(-1, -2), temperature)) / 2


def bimhm_similarity(cosines: Float[Tensor, "*pair frame other"]) -> Float[Tensor, "*pair"]:
    """Return minus the bidirectional mean Hausdorff distance.

    Each frame's cost to its best frame in the other clip is averaged over a clip's frames; the two means are added."""
    cost = 1 - cosines
    return -(cost.amin(dim=-1).mean(dim=-1) + cost.amin(dim=-2).mean(dim=-1))


def chamfer_similarity(cosines: Float[Tensor, "*pair frame other"]) -> Float[Tensor, "*pair"]:
    """Return minus the Chamfer distance of sets of unit vectors: squared distances to the nearest, summed both ways.

    A squared distance of unit vectors is 2 - 2 cos, so that pairs of clips of equal length rank as with Bi-MHM. For
    unequal lengths the two differ, because here the longer clip weighs more.
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
    """Return the similarity of all pairs of clips.

    Args:
        matcher: a key of `SIMILARITIES`.
        chunk_size: number of query clips at a time, which bounds memory and never changes a result.
    """
    similarity = SIMILARITIES[matcher]
    return torch.cat([similarity(frame_cosines(part, support)) for part in query.split(chunk_size)])


def _alignment_cost(cost: Float[Tensor, "*pair step place"], temperature: float) -> Float[Tensor, "*pair"]:
    """Return the soft-minimum cost of a path through all places in order, at rising steps.

    With the free columns `place` runs from 0 to places + 1. A cell's predecessors are (step - 1, place - 1) and (step,
    place - 1), and next to and in the last free column also (step - 1, place).
    """
    padded = functional.pad(cost, (1, 1))
    steps, places = padded.shape[-2:]
    previous = list(padded[..., 0, :].cumsum(dim=-1).unbind(dim=-1))
    for step in range(1, steps):
        current = [previous[0]]  # the free first column costs nothing
        for place in range(1, places):
            predecessors = [previous[place - 1], current[place - 1]]
            if place in (1, places - 1):
                predecessors.append(previous[place])
            current.append(padded[..., step, place] + _soft_minimum(predecessors, temperature))
        previous = current
    return previous[-1]


def _soft_minimum(predecessors: list[Tensor], temperature: float) -> Tensor:
    return -temperature * torch.logsumexp(torch.stack(predecessors) / -temperature, dim=0)
