"""What a similarity rests on: the tuples and patches of a query and a support clip that were matched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from hcl.matching.semantic import pair_weights
from hcl.matching.similarity import match_patches, match_tuples
from hcl.models.features import ClipFeatures
from hcl.models.tuples import tuple_frames


@dataclass(frozen=True)
class TuplePair:
    """A kept tuple of the query and the support tuple that it matched, as frame indices.

    Attributes:
        similarity: inner product of the two tuples' features, which are unit vectors.
    """

    query: tuple[int, ...]
    support: tuple[int, ...]
    similarity: float


@dataclass(frozen=True)
class PairMatch:
    """What the temporal and the spatial level of one pair of clips look at, for one tuple size.

    Attributes:
        tuples: best first; the spatial level looks into the first `ranks` of them.
        query_patches, support_patches: how often a patch was kept, as a share of the ranks. A support patch can be
            the best match of several query patches, so that its share can exceed 1.
    """

    tuples: tuple[TuplePair, ...]
    ranks: int
    query_patches: Float[np.ndarray, "frame patch"]
    support_patches: Float[np.ndarray, "frame patch"]


@torch.no_grad()
def explain_pair(
    query: ClipFeatures,
    support: ClipFeatures,
    *,
    tuple_sizes: Sequence[int],
    top_tuples: int,
    top_patches: int,
    zoom_ranks: int,
) -> dict[int, PairMatch]:
    """By tuple size, what was matched between one query clip and one support clip.

    Args:
        query, support: features of a single clip each.
        tuple_sizes, top_tuples, top_patches, zoom_ranks: as in `hcl.evaluation.scores.score_pairs`.
    """
    if len(query) != 1 or len(support) != 1:
        raise ValueError(f"expected one clip each, got {len(query)} and {len(support)}")
    return {
        size: _explain_level(query, support, level, size, top_tuples, top_patches, zoom_ranks)
        for level, size in enumerate(tuple_sizes)
    }


def patch_boxes(rows: int, columns: int, n_patches: int) -> list[tuple[float, float, float, float]]:
    """Where each patch lies on its frame: left, top, width, height as shares of the side.

    Args:
        n_patches: rows * columns, or more with the scales of `hcl.models.tuples.multi_scale_patches`.
    """
    boxes = [(x, y, 1, 1) for y in range(rows) for x in range(columns)]
    for window, stride in ((2, 1), (4, 2)):
        if len(boxes) < n_patches and window <= min(rows, columns):
            places = [
                (x, y) for y in range(0, rows - window + 1, stride) for x in range(0, columns - window + 1, stride)
            ]
            boxes += [(x, y, window, window) for x, y in places]
    if len(boxes) != n_patches:
        raise ValueError(f"a grid of {rows} x {columns} has {len(boxes)} patches, not {n_patches}")
    return [(x / columns, y / rows, width / columns, height / rows) for x, y, width, height in boxes]


def _explain_level(
    query: ClipFeatures, support: ClipFeatures, level: int, size: int, top_tuples: int, top_patches: int, ranks: int
) -> PairMatch:
    u, v = query.tuples[level], support.tuples[level]
    p, r = query.patches[level], support.patches[level]
    match = match_tuples(u, v, top_tuples)
    weight = None
    if support.semantics is not None:
        weight = pair_weights(p, support.semantics[level][None], match, size=size, ranks=ranks)
    patches = match_patches(p, r, match, size=size, ranks=ranks, top=top_patches, weight=weight)
    frames = tuple_frames(p.shape[1], size, p.device)
    kept, matched = match.query[0, 0], match.support[0, 0]
    similarities = (u[0, kept] * v[0, matched]).sum(dim=-1)
    ranks = min(ranks, len(kept))
    return PairMatch(
        tuple(
            TuplePair(tuple(frames[a].tolist()), tuple(frames[b].tolist()), float(value))
            for a, b, value in zip(kept, matched, similarities, strict=True)
        ),
        ranks,
        (patches.query[0, 0] / ranks).reshape(p.shape[1:3]).cpu().numpy(),
        (patches.support[0, 0] / ranks).reshape(r.shape[1:3]).cpu().numpy(),
    )
