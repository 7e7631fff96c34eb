"""Compute the five contrastive terms and the classification term (METHOD "Training terms").

Under data parallelism each worker holds some anchors and the gathered features of all workers; the mean of the workers'
losses is then the loss of the whole batch in one process.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from hcl.matching.semantic import misplaced_training_weights, pair_weights
from hcl.matching.similarity import (
    TupleMatch,
    compare,
    global_similarity,
    match_patches,
    match_tuples,
    spatial_means,
    temporal_means,
    tuple_places,
)
from hcl.models.features import ClipFeatures

TERMS = ("ce", "global", "temporal", "temporal_cycle", "spatial", "spatial_cycle")
"""Names of the terms, in the order of the experiment's `loss.sigma_*`."""


class Pairs(NamedTuple):
    """Hold the index of each anchor and of its positive in the gathered batch."""

    anchor: Int[Tensor, "anchor"]
    positive: Int[Tensor, "anchor"]


def neighbouring_pairs(start: int, count: int, device: torch.device | None = None) -> Pairs:
    """Pair the anchors start to start + count of a batch in which clips 2k and 2k + 1 share a class."""
    anchor = torch.arange(start, start + count, device=device)
    return Pairs(anchor, anchor ^ 1)


def contrastive_loss(
    similarity: Float[Tensor, "anchor clip"], pairs: Pairs, *, temperature: float, keep_anchor: bool = False
) -> Float[Tensor, ""]:
    """Return the mean over anchors of -log softmax of the positive among the other clips.

    Args:
        keep_anchor: leave the anchor in the denominator as exp(0), as released (deviation 1).
    """
    rows = torch.arange(len(pairs.anchor), device=similarity.device)
    own = torch.zeros_like(similarity, dtype=torch.bool)
    own[rows, pairs.anchor] = True
    logits = (similarity / temperature).masked_fill(own, 0.0 if keep_anchor else -torch.inf)
    return functional.cross_entropy(logits, pairs.positive)


def cycle_loss(
    x: Float[Tensor, "anchor item dim"],
    y: Float[Tensor, "anchor item dim"],
    *,
    temperature: float,
    cycle_temperature: float = 1.0,
    weight: Float[Tensor, "anchor item"] | None = None,
) -> Float[Tensor, ""]:
    """Return the cross entropy of finding each item of x again from its soft nearest neighbour in y.

    Args:
        cycle_temperature: temperature of the soft nearest neighbour; the published 1 gives nearly the mean of unit
            vectors, from which no item is found again (deviation 24).
        weight: multiplies the affinities of each item of x (the semantic branch).
    """
    affinity = x @ y.transpose(-1, -2)
    if weight is not None:
        affinity = affinity * weight[..., None]
    neighbour = torch.softmax(affinity / cycle_temperature, dim=-1) @ y
    back = neighbour @ x.transpose(-1, -2) / temperature
    target = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
    return functional.cross_entropy(back.flatten(0, 1), target.flatten())


def contrastive_terms(
    anchors: ClipFeatures,
    everyone: ClipFeatures,
    pairs: Pairs,
    *,
    tuple_sizes: tuple[int, ...] = (2,),
    top_tuples: int = 10,
    top_patches: int = 40,
    zoom_ranks: int = 1,
    temperature: float = 0.07,
    cycle_temperature: float = 1.0,
    keep_anchor: bool = False,
    renormalise: bool = False,
    misplaced_semantics: bool = False,
    spatial: bool = True,
    spatial_cycle: bool = False,
    chunk_size: int = 16,
) -> dict[str, Float[Tensor, ""]]:
    """Return the unweighted terms `global`, `temporal`, `temporal_cycle` and, if enabled, `spatial`, `spatial_cycle`.

    Args:
        anchors: features of this worker's clips.
        everyone: features of the whole batch with gradients, anchors included.
        tuple_sizes: in the order of the features' tuples; temporal and spatial terms are averaged over them.
        zoom_ranks: number of best tuple matches whose patches the spatial level compares.
        chunk_size: anchors matched at a time.
        The rest as in `hcl.config.Matching` and `hcl.config.Loss`.
    """
    contrast = partial(contrastive_loss, pairs=pairs, temperature=temperature, keep_anchor=keep_anchor)
    cycle = partial(cycle_loss, temperature=temperature, cycle_temperature=cycle_temperature)
    terms: defaultdict[str, list[Tensor]] = defaultdict(list)
    terms["global"].append(contrast(global_similarity(anchors.clip, everyone.clip)))
    for level, size in enumerate(tuple_sizes):
        chunks = [
            _zoom_in(
                anchors,
                everyone,
                pairs,
                slice(start, start + chunk_size),
                level=level,
                size=size,
                top_tuples=top_tuples,
                top_patches=top_patches,
                ranks=zoom_ranks,
                renormalise=renormalise,
                misplaced_semantics=misplaced_semantics,
                spatial=spatial,
                cycle=cycle if spatial_cycle else None,
            )
            for start in range(0, len(anchors), chunk_size)
        ]
        terms["temporal"].append(contrast(torch.cat([chunk.temporal for chunk in chunks])))
        terms["temporal_cycle"].append(cycle(anchors.tuples[level], everyone.tuples[level][pairs.positive]))
        if spatial:
            terms["spatial"].append(contrast(torch.cat([chunk.spatial for chunk in chunks])))
        if spatial_cycle:
            terms["spatial_cycle"].append(torch.stack([chunk.cycle for chunk in chunks]).sum() / len(anchors))
    return {name: torch.stack(values).mean() for name, values in terms.items()}


def classification_loss(logits: Float[Tensor, "clip class"], labels: Int[Tensor, "clip"]) -> Float[Tensor, ""]:
    """Return the cross entropy of the training classes."""
    return functional.cross_entropy(logits, labels)


def weighted_total(terms: Mapping[str, Tensor], sigmas: Mapping[str, float]) -> Float[Tensor, ""]:
    """Return the sum of the terms, each times its sigma."""
    return torch.stack([sigmas[name] * value for name, value in terms.items()]).sum()


class _Zoomed(NamedTuple):
    """The similarities of some anchors and all clips, and their spatial cycle, added up over the anchors."""

    temporal: Float[Tensor, "anchor clip"]
    spatial: Any = None  # Float[Tensor, "anchor clip"], if wanted
    cycle: Any = None  # Float[Tensor, ""], if wanted


def _zoom_in(
    anchors: ClipFeatures,
    everyone: ClipFeatures,
    pairs: Pairs,
    rows: slice,
    *,
    level: int,
    size: int,
    top_tuples: int,
    top_patches: int,
    ranks: int,
    renormalise: bool,
    misplaced_semantics: bool,
    spatial: bool,
    cycle: Callable[..., Tensor] | None,
) -> _Zoomed:
    """Compare some anchors with all clips: by the tuples that match best, then by the patches inside of these.

    Args:
        rows: the anchors.
        level: the place of the tuple size among the features' tuples; `size` is its number of frames.
        cycle: `cycle_loss` of the patches of the best tuples; None leaves it out.
    """
    some, tuples, patches = anchors[rows], everyone.tuples[level], everyone.patches[level]
    match = match_tuples(some.tuples[level], tuples, top_tuples, same=pairs.anchor[rows])
    temporal = compare(*temporal_means(some.tuples[level], tuples, match), "cosine", renormalise=renormalise)
    zoomed = _Zoomed(temporal)
    if not spatial and cycle is None:
        return zoomed
    own = some.patches[level]
    weight = _semantic_weights(anchors, rows, level, match, size=size, ranks=ranks, misplaced=misplaced_semantics)
    if spatial:
        chosen = match_patches(own, patches, match, size=size, ranks=ranks, top=top_patches, weight=weight)
        similarity = compare(*spatial_means(own, patches, chosen), "cosine", renormalise=renormalise)
        zoomed = zoomed._replace(spatial=similarity)
    if cycle is not None:
        positive = pairs.positive[rows]
        here = torch.arange(len(positive), device=positive.device)
        x, y = _best_tuple_patches(own, patches[positive], match, here, positive, size)
        best = None if weight is None else weight[here, positive, 0]
        zoomed = zoomed._replace(cycle=len(here) * cycle(x, y, weight=best))
    return zoomed


def _best_tuple_patches(
    own: Tensor, other: Tensor, match: TupleMatch, here: Tensor, positive: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Return the patches of each anchor and of its positive in their best-matching pair of tuples."""
    n_frames, n_patches, dim = own.shape[1:]
    chosen = []
    for patches, tuples in ((own, match.query), (other, match.support)):
        places = tuple_places(tuples[here, positive, 0], n_frames, n_patches, size)
        chosen.append(patches.flatten(1, 2).gather(1, places[..., None].expand(-1, -1, dim)))
    return chosen[0], chosen[1]


def _semantic_weights(
    anchors: ClipFeatures, rows: slice, level: int, match: TupleMatch, *, size: int, ranks: int, misplaced: bool
) -> Float[Tensor, "anchor clip rank place"] | None:
    """Return the weights that class-name embeddings give to the patches of some anchors; None without embeddings."""
    if anchors.semantics is None:
        return None
    embeddings = anchors.semantics[level][:, None]
    weights = pair_weights(anchors.patches[level][rows], embeddings[rows], match, size=size, ranks=ranks)
    return misplaced_training_weights(weights) if misplaced else weights
