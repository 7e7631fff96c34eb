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

import math
from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

OTAM_TEMPERATURE = 0.1
"""Temperature of the soft minimum (the paper's lambda)."""


def frame_cosines(
    query: Float[Tensor, "*#episode query frame dim"],
    support: Float[Tensor, "*#episode support other dim"],
    *,
    offset: float = 0.0,
) -> Float[Tensor, "..."]:
    """Return the cosine of every frame of one clip and every frame of another, for all pairs of clips.

    The axes of the result are (*episode, query, support, frame, other).

    Args:
        offset: added to the product of the two lengths, so that short features look distant; released code of OTAM and
            MoLo adds 0.01.
    """
    frames, others = query.flatten(-3, -2), support.flatten(-3, -2)
    if offset:
        lengths = frames.norm(dim=-1)[..., :, None] * others.norm(dim=-1)[..., None, :]
        products = frames @ others.transpose(-1, -2) / (lengths + offset)
    else:
        products = functional.normalize(frames, dim=-1) @ functional.normalize(others, dim=-1).transpose(-1, -2)
    return rearrange(products, "... (q t) (s u) -> ... q s t u", t=query.shape[-2], u=support.shape[-2])


def otam_similarity(
    cosines: Float[Tensor, "*pair frame other"],
    *,
    temperature: float = OTAM_TEMPERATURE,
    plain_exponentials: bool = False,
) -> Float[Tensor, "*pair"]:
    """Return minus the cost of the soft-minimum alignment with free ends, averaged over both directions.

    The cost of two frames is 1 - cosine. The path visits all frames of the second clip in order and may skip frames of
    the first clip before its start and after its end at no cost (the paper's relaxed boundary: a column of zeros before
    and after the distances); for the other direction the clips are exchanged. Half precision is computed in float32.

    Args:
        plain_exponentials: take exponentials without subtracting the largest exponent, as released: at the default
            temperature float32 loses digits above a cost of 8.7 and is infinite above 10.3.
    """
    cost = 1 - cosines.to(torch.promote_types(cosines.dtype, torch.float32))
    add = _plain_logaddexp if plain_exponentials else torch.logaddexp
    if cost.shape[-1] == cost.shape[-2]:
        both = torch.stack([cost, cost.transpose(-1, -2)])
        return -_alignment_cost(both, temperature, add).mean(dim=0)
    turned = _alignment_cost(cost.transpose(-1, -2), temperature, add)
    return -(_alignment_cost(cost, temperature, add) + turned) / 2


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


def _alignment_cost(
    cost: Float[Tensor, "*pair step place"], temperature: float, add: Callable[[Tensor, Tensor], Tensor]
) -> Float[Tensor, "*pair"]:
    """Return the soft-minimum cost of a path through all places in order, at rising steps.

    A cell's predecessors are (step - 1, place - 1) and (step, place - 1), and in the first and in the last, free column
    also (step - 1, place). So a column between those follows from the one before it at once, for all steps.

    Args:
        add: returns log(exp(a) + exp(b)).
    """
    logs = rearrange(cost / -temperature, "... step place -> place step ...").contiguous()
    first_step = logs[:, 0].cumsum(dim=0)
    column = [logs[0, 0]]
    free = torch.full_like(column[0], math.log(2))  # the free column before the first place costs nothing
    for step in range(1, logs.shape[1]):
        column.append(logs[0, step] + add(free, column[-1]))
    total = torch.stack(column)
    for place in range(1, len(logs)):
        total = torch.cat([first_step[place : place + 1], logs[place, 1:] + add(total[:-1], total[1:])])
    return -temperature * _sum_of_ends(total, add)


def _sum_of_ends(total: Float[Tensor, "step *pair"], add: Callable[[Tensor, Tensor], Tensor]) -> Float[Tensor, "*pair"]:
    """Return the log of all paths through the free column after the last place.

    Each step enters it on the same or on the next row, but the last step has no next row.
    """
    ends = total[-1]
    for step in range(len(total) - 1):
        ends = add(ends, total[step] + math.log(2))
    return ends


def _plain_logaddexp(a: Tensor, b: Tensor) -> Tensor:
    return (a.exp() + b.exp()).log()
