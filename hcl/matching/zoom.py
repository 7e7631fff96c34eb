"""Compute the spatial level of many pairs on a CPU, multiplying every pair of frames at most once without copies.

The kept tuples of a pair of clips share frames, and a tuple's best patches follow from those of its frames. Therefore
one query frame is multiplied with one support frame in place, and only if a kept tuple pair needs them. Training and
GPUs use `hcl.matching.similarity.match_patches`, which computes the same tuple by tuple.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hcl.matching.similarity import PatchMatch, TupleMatch
from hcl.models.tuples import tuple_frames

_BLOCK = 128  # products held at a time, which fit in the CPU's cache
_LARGE = 2**16  # multiplications in a product of two frames above which the overhead of its call is small


class FramePairs(NamedTuple):
    """List the pairs of frames to multiply, each (query clip, query frame, support clip, support frame) once."""

    query: Int[Tensor, "meeting"]
    query_frame: Int[Tensor, "meeting"]
    support: Int[Tensor, "meeting"]
    support_frame: Int[Tensor, "meeting"]


@torch.no_grad()
def match_patches_by_frame(
    query: Float[Tensor, "query frame patch dim"],
    support: Float[Tensor, "support frame patch dim"],
    match: TupleMatch,
    *,
    size: int,
    ranks: int,
    top: int,
    weight: Float[Tensor, "query support rank place"] | None = None,
    is_rounded: bool = False,
) -> PatchMatch:
    """Return the same result as `hcl.matching.similarity.match_patches`.

    Of patches with equal products the first is kept. Identical patches (in a frame that a short clip repeats) may
    differ by rounding alone, and another processor may then keep the other one: its features, and therefore the
    compared means, are the same.

    Args:
        is_rounded: multiply numbers rounded to bfloat16. The mean of the support patches is subtracted first and
            multiplied separately, so that only the differences between support patches are rounded.
    """
    n_frames, n_patches = query.shape[1:3]
    ranks = min(ranks, match.query.shape[-1])
    frames = tuple_frames(n_frames, size, query.device)
    query_frames, support_frames = frames[match.query[..., :ranks]], frames[match.support[..., :ranks]]
    meetings = query_frames[..., :, None] * n_frames + support_frames[..., None, :]  # (q, s, rank, size, size)
    pairs, slots = _distinct(meetings, n_frames)
    if is_rounded:
        best, patch = _rounded_products_of_clips(query, support, pairs)
    else:
        is_large = n_patches**2 * query.shape[-1] >= _LARGE
        best, patch = (_products_of_frames if is_large else _products_of_clips)(query, support, pairs)
    # Take the maximum over a tuple's support frames; ties go to the first, as in `match_patches`.
    best, first = best[slots].max(dim=-2)
    support_place = support_frames[..., None, :, None] * n_patches + patch[slots]
    support_place = support_place.gather(-2, first.unsqueeze(-2)).squeeze(-2).flatten(-2)
    query_place = query_frames[..., None] * n_patches + torch.arange(n_patches, device=query.device)
    strength = best.flatten(-2)
    if weight is not None:
        strength = strength * weight[:, :, :ranks]
    kept = strength.sort(dim=-1, descending=True, stable=True).indices[..., :top]
    counts = [
        _counted(places.gather(-1, kept), n_frames * n_patches) for places in (query_place.flatten(-2), support_place)
    ]
    return PatchMatch(counts[0], counts[1], kept=ranks * kept.shape[-1])


@contextmanager
def rounded_products() -> Iterator[None]:
    """Round the operands of matrix products to bfloat16 (on a GPU to TF32), and sum in float32.

    With rounded sums many patches of a frame tie: on metaworld this changed the class of one 1-shot query in 200.
    """
    backends: tuple[tuple[Any, str], ...] = (
        (torch.backends.mkldnn.matmul, "bf16"),  # type: ignore[attr-defined]
        (torch.backends.cuda.matmul, "tf32"),
    )
    before = [backend.fp32_precision for backend, _ in backends]
    try:
        for backend, rounded in backends:
            backend.fp32_precision = rounded
        yield
    finally:
        for (backend, _), precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def _distinct(
    meetings: Int[Tensor, "query support rank size size"], n_frames: int
) -> tuple[FramePairs, Int[Tensor, "query support rank size size"]]:
    """Return the distinct frame pairs, and for each meeting the index of its pair among them."""
    is_needed = torch.zeros(*meetings.shape[:2], n_frames**2, dtype=torch.bool, device=meetings.device)
    is_needed.scatter_(-1, meetings.flatten(2), True)
    query, support, code = is_needed.nonzero(as_tuple=True)
    place = (is_needed.flatten().cumsum(0) - 1).view_as(is_needed)
    slots = place.gather(-1, meetings.flatten(2)).view_as(meetings)
    return FramePairs(query, code // n_frames, support, code % n_frames), slots


def _products_of_frames(
    query: Float[Tensor, "query frame patch dim"], support: Float[Tensor, "support frame patch dim"], pairs: FramePairs
) -> tuple[Float[Tensor, "meeting patch"], Int[Tensor, "meeting patch"]]:
    """Return each query patch's largest inner product in each frame pair, and the support patch of that product."""
    query_frames = [list(clip.unbind()) for clip in query.unbind()]
    support_frames = [list(clip.unbind()) for clip in support.transpose(-1, -2).unbind()]
    n_patches = query.shape[2]
    product = query.new_empty(_BLOCK, n_patches, n_patches)
    best = query.new_empty(len(pairs.query), n_patches)
    patch = torch.empty_like(best, dtype=torch.int64)
    places = zip(*(part.tolist() for part in pairs), strict=True)
    for start in range(0, len(best), _BLOCK):
        stop = min(start + _BLOCK, len(best))
        block = product[: stop - start]
        for out, (q, f, s, g) in zip(block.unbind(), places, strict=False):
            torch.mm(query_frames[q][f], support_frames[s][g], out=out)
        torch.max(block, dim=-1, out=(best[start:stop], patch[start:stop]))
    return best, patch


def _products_of_clips(
    query: Float[Tensor, "query frame patch dim"], support: Float[Tensor, "support frame patch dim"], pairs: FramePairs
) -> tuple[Float[Tensor, "meeting patch"], Int[Tensor, "meeting patch"]]:
    """Return the same as `_products_of_frames`, from the products of each query clip with all support clips."""
    n_frames, n_patches = query.shape[1:3]
    flat = support.flatten(0, 2).T
    best, patch = [], []
    bounds = torch.searchsorted(pairs.query, torch.arange(len(query) + 1)).tolist()
    for clip, start, stop in zip(query.flatten(1, 2), bounds, bounds[1:], strict=False):
        product = (clip @ flat).view(n_frames, n_patches, -1, n_frames, n_patches).permute(2, 0, 3, 1, 4)
        rows = slice(start, stop)
        values, indices = product[pairs.support[rows], pairs.query_frame[rows], pairs.support_frame[rows]].max(dim=-1)
        best.append(values)
        patch.append(indices)
    return torch.cat(best), torch.cat(patch)


def _rounded_products_of_clips(
    query: Float[Tensor, "query frame patch dim"], support: Float[Tensor, "support frame patch dim"], pairs: FramePairs
) -> tuple[Float[Tensor, "meeting patch"], Int[Tensor, "meeting patch"]]:
    """Return the same as `_products_of_clips` from rounded numbers, in few and large calls, which suit fast products.

    For a query patch q, a support patch s and the mean m, qs = q(s - m) + qm, and qm is the same for all s."""
    common = support.mean(dim=(0, 1, 2))
    with rounded_products():
        best, patch = _products_of_clips(query, support - common, pairs)
    return best + (query @ common)[pairs.query, pairs.query_frame], patch


def _counted(places: Int[Tensor, "query support rank kept"], n_places: int) -> Float[Tensor, "query support place"]:
    places = places.flatten(-2)
    counts = torch.zeros(*places.shape[:2], n_places, device=places.device)
    return counts.scatter_add_(-1, places, counts.new_ones(()).expand(places.shape))
