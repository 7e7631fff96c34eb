"""The similarities of query clips and support clips, every pair of them: what a score table is filled with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hcl.matching.semantic import misplaced_test_weights, pair_weights
from hcl.matching.similarity import (
    PatchMatch,
    TupleMatch,
    compare,
    global_similarity,
    match_patches,
    match_tuples,
    spatial_means,
    temporal_means,
)
from hcl.matching.zoom import match_patches_by_frame, rounded_products
from hcl.models.features import ClipFeatures

METRICS = ("cosine", "euclidean")


@torch.no_grad()
def score_pairs(
    query: ClipFeatures,
    support: ClipFeatures,
    *,
    tuple_sizes: Sequence[int],
    metrics: Sequence[str] = METRICS,
    top_tuples: int = 10,
    top_patches: int = 40,
    zoom_ranks: int = 5,
    renormalise: bool = False,
    swap_axes: bool = False,
    misplaced_semantics: Sequence[Tensor] | None = None,
    chunk_size: int = 16,
    precision: str = "float32",
) -> dict[str, Float[Tensor, "query support"]]:
    """`global` (inner products) and, per size and metric, `temporal_<metric>_<size>` and `spatial_<metric>_<size>`.

    The choice of tuples and patches does not depend on the metric, so several metrics cost little more than one.

    Args:
        zoom_ranks: kept tuples that the spatial level looks into.
        swap_axes: deviation 5; then the supports must be those of one episode.
        misplaced_semantics: deviation 7: per tuple size the embeddings of the batch rows that the release takes.
        chunk_size: query clips and support clips matched at a time.
        precision: `bfloat16` chooses patches by products of rounded numbers; what is chosen is compared in float32.
    """
    columns = len(support) if swap_axes or misplaced_semantics is not None else chunk_size
    table = {"global": global_similarity(query.clip, support.clip)}
    for level, size in enumerate(tuple_sizes):
        for row in range(0, len(query), chunk_size):
            q = query[slice(row, row + chunk_size)]
            rows = None if misplaced_semantics is None else misplaced_semantics[level][row : row + chunk_size]
            for column in range(0, len(support), columns):
                s = support[slice(column, column + columns)]
                q_patches, s_patches = _full(q.patches[level]), _full(s.patches[level])
                match = match_tuples(q.tuples[level], s.tuples[level], top_tuples, swap_axes=swap_axes)
                patches = _match_patches(
                    q_patches,
                    s_patches,
                    match,
                    size=size,
                    ranks=zoom_ranks,
                    top=top_patches,
                    weight=_weight(q, s, level, match, size, zoom_ranks, rows),
                    precision=precision,
                )
                temporal = temporal_means(q.tuples[level], s.tuples[level], match)
                spatial = spatial_means(q_patches, s_patches, patches)
                for metric in metrics:
                    for name, (x, y) in (("temporal", temporal), ("spatial", spatial)):
                        value = compare(x, y, metric, renormalise=renormalise)
                        whole = table.setdefault(f"{name}_{metric}_{size}", torch.empty_like(table["global"]))
                        whole[row : row + chunk_size, column : column + columns] = value
    return table


def _match_patches(query: Tensor, support: Tensor, match: TupleMatch, *, precision: str, **zoom: Any) -> PatchMatch:
    """The kept patches, by the way that suits the device."""
    is_rounded = precision == "bfloat16"
    if query.is_cuda:
        with rounded_products() if is_rounded else nullcontext():
            return match_patches(query, support, match, **zoom)
    kept = match_patches_by_frame(query, support, match, is_rounded=is_rounded, **zoom)
    return PatchMatch(kept.query.to(query.dtype), kept.support.to(query.dtype), kept.kept)


def _full(patches: Tensor) -> Tensor:
    """At least single precision; features may be kept in half of it."""
    return patches.float() if patches.dtype == torch.float16 else patches


def _weight(
    query: ClipFeatures,
    support: ClipFeatures,
    level: int,
    match: TupleMatch,
    size: int,
    ranks: int,
    misplaced: Tensor | None,
) -> Float[Tensor, "query support rank place"] | None:
    """What class-name embeddings do to the query's patches: the support's own, or the misplaced ones (deviation 7)."""
    if misplaced is None and support.semantics is None:
        return None
    embeddings = support.semantics[level][None] if misplaced is None else misplaced[:, None]  # type: ignore[index]
    weight = pair_weights(_full(query.patches[level]), embeddings, match, size=size, ranks=ranks)
    return weight if misplaced is None else misplaced_test_weights(weight)
