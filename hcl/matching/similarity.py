"""Zoom-in matching of query and support clips: global, temporal and spatial similarity, and their fusion.

Pure functions of features, the same ones for training and evaluation (METHOD "Zoom-in matching"). What is chosen
(tuples, patches) is found without gradients; what is compared are means of the chosen features, written as products
of counts and features, so that no chosen feature is ever copied for the gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from hcl.models.tuples import tuple_frames

LEVELS = ("global", "temporal", "spatial")
"""The names of the levels, by which their weights (sigmas) are given everywhere."""

Level = Float[Tensor, "*pair"] | Float[np.ndarray, "*pair"]


@dataclass(frozen=True)
class TupleMatch:
    """The kept tuple pairs of each (query, support) pair, best first, as tuple indices."""

    query: Int[Tensor, "query support rank"]
    support: Int[Tensor, "query support rank"]


@dataclass(frozen=True)
class PatchMatch:
    """How often each patch of a clip was kept: counts over (frame, patch), summed over the zoomed ranks."""

    query: Float[Tensor, "query support place"]
    support: Float[Tensor, "query support place"]
    kept: int


def global_similarity(
    query: Float[Tensor, "query dim"], support: Float[Tensor, "support dim"]
) -> Float[Tensor, "query support"]:
    return query @ support.T


@torch.no_grad()
def match_tuples(
    query: Float[Tensor, "query tuple dim"],
    support: Float[Tensor, "support tuple dim"],
    top: int,
    *,
    same: Int[Tensor, "query"] | None = None,
    swap_axes: bool = False,
) -> TupleMatch:
    """For each query tuple its best support tuple; the `top` query tuples that match best, in falling order.

    Tuple features are unit vectors, so the inner product and the negative squared distance choose the same. Ties go
    to the lower index. Fewer tuples than `top`: all are kept.

    Args:
        same: the support that is the query itself. Its tuples tie at 1: said exactly, so that rounding does not choose.
        swap_axes: reproduce deviation 5: the (support, tuple) axes are re-read as (tuple, support).
    """
    affinity = query.flatten(0, 1) @ support.flatten(0, 1).T
    axes = "(q a) (b s) -> q s a b" if swap_axes else "(q a) (s b) -> q s a b"
    affinity = rearrange(affinity, axes, q=query.shape[0], s=support.shape[0])
    if same is not None:
        rows = torch.arange(len(same), device=same.device)
        own = affinity[rows, same]  # a copy: advanced indexing
        own.diagonal(dim1=-2, dim2=-1).fill_(1.0)
        affinity[rows, same] = own
    best, support_tuple = affinity.max(dim=-1)
    query_tuple = _top_indices(best, top)
    return TupleMatch(query_tuple, support_tuple.gather(-1, query_tuple))


def temporal_means(
    query: Float[Tensor, "query tuple dim"], support: Float[Tensor, "support tuple dim"], match: TupleMatch
) -> tuple[Float[Tensor, "query support dim"], Float[Tensor, "query support dim"]]:
    """Means of the kept query tuples and of the support tuples that they matched."""
    kept = match.query.shape[-1]
    x = torch.einsum("qsn,qnd->qsd", _counts(match.query, query) / kept, query)
    y = torch.einsum("qsn,snd->qsd", _counts(match.support, support) / kept, support)
    return x, y


@torch.no_grad()
def match_patches(
    query: Float[Tensor, "query frame patch dim"],
    support: Float[Tensor, "support frame patch dim"],
    match: TupleMatch,
    *,
    size: int,
    ranks: int,
    top: int,
    weight: Float[Tensor, "query support rank place"] | None = None,
) -> PatchMatch:
    """Zoom into the `ranks` best tuple pairs: the `top` query patches that match best, with their support patches.

    Args:
        size: frames of a tuple.
        weight: multiplies each query patch's affinities (see `hcl.matching.semantic.pair_weights`).
    """
    n_frames, n_patches = query.shape[1:3]
    query_flat, support_flat = query.flatten(1, 2), support.flatten(1, 2)
    rows = torch.arange(query.shape[0], device=query.device)[:, None, None]
    columns = torch.arange(support.shape[0], device=query.device)[None, :, None]
    shape = (*match.query.shape[:2], n_frames * n_patches)
    query_counts, support_counts = query.new_zeros(shape), query.new_zeros(shape)
    ranks = min(ranks, match.query.shape[-1])
    for rank in range(ranks):
        query_place = tuple_places(match.query[..., rank], n_frames, n_patches, size)
        support_place = tuple_places(match.support[..., rank], n_frames, n_patches, size)
        affinity = query_flat[rows, query_place] @ support_flat[columns, support_place].transpose(-1, -2)
        if weight is not None:
            affinity = affinity * weight[:, :, rank, :, None]
        best, support_patch = affinity.max(dim=-1)
        query_patch = _top_indices(best, top)
        support_patch = support_patch.gather(-1, query_patch)
        one = query_counts.new_ones(()).expand(query_patch.shape)
        query_counts.scatter_add_(-1, query_place.gather(-1, query_patch), one)
        support_counts.scatter_add_(-1, support_place.gather(-1, support_patch), one)
    return PatchMatch(query_counts, support_counts, kept=ranks * min(top, size * n_patches))


def tuple_places(tuples: Int[Tensor, "*pair"], n_frames: int, n_patches: int, size: int) -> Int[Tensor, "*pair place"]:
    """Flat (frame, patch) indices of the patches of each tuple's frames, frame by frame."""
    patch = torch.arange(n_patches, device=tuples.device)
    frames = tuple_frames(n_frames, size, tuples.device)[tuples]
    return (frames[..., None] * n_patches + patch).flatten(-2)


def spatial_means(
    query: Float[Tensor, "query frame patch dim"],
    support: Float[Tensor, "support frame patch dim"],
    match: PatchMatch,
) -> tuple[Float[Tensor, "query support dim"], Float[Tensor, "query support dim"]]:
    """Means of the kept query patches and of the support patches that they matched, over all zoomed ranks."""
    x = torch.einsum("qsn,qnd->qsd", match.query / match.kept, query.flatten(1, 2))
    y = torch.einsum("qsn,snd->qsd", match.support / match.kept, support.flatten(1, 2))
    return x, y


def compare(
    x: Float[Tensor, "*#pair dim"], y: Float[Tensor, "*#pair dim"], metric: str, *, renormalise: bool = False
) -> Float[Tensor, "..."]:
    """Inner product (`cosine`) or negative squared distance (`euclidean`) of two means.

    renormalise: make the means unit vectors first; the release does not, so their spread carries weight.
    """
    if renormalise:
        x, y = torch.nn.functional.normalize(x, dim=-1), torch.nn.functional.normalize(y, dim=-1)
    if metric == "cosine":
        return (x * y).sum(-1)
    if metric == "euclidean":
        return -(x - y).square().sum(-1)
    raise ValueError(f"metric {metric!r} is neither 'cosine' nor 'euclidean'")


def fuse(global_: Level, temporal: Level, spatial: Level, sigmas: Mapping[str, float]) -> Level:
    """Return the sum of the three levels, each times its sigma (METHOD "Fusion")."""
    return sigmas["global"] * global_ + sigmas["temporal"] * temporal + sigmas["spatial"] * spatial


def _top_indices(values: Tensor, top: int) -> Tensor:
    """Indices of the largest values of the last axis, falling; a stable sort, so that ties keep their order."""
    return values.sort(dim=-1, descending=True, stable=True).indices[..., :top]


def _counts(indices: Int[Tensor, "query support rank"], items: Float[Tensor, "clip item dim"]) -> Tensor:
    counts = items.new_zeros(*indices.shape[:2], items.shape[1])
    return counts.scatter_add_(-1, indices, counts.new_ones(()).expand(indices.shape))
