"""Compute the five contrastive terms and the classification term (METHOD "Training terms").

Under data parallelism each worker holds some anchors and the gathered features of all workers; the mean of the workers'
losses is then the loss of the whole batch in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from hcl.models.hcl import ClipFeatures

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
    contrast: dict[str, Any] = {"temperature": temperature, "keep_anchor": keep_anchor}
    cycle: dict[str, Any] = {"temperature": temperature, "cycle_temperature": cycle_temperature}
    terms = {"global": [contrastive_loss(global_similarity(anchors.clip, everyone.clip), pairs, **contrast)]}
    for level, size in enumerate(tuple_sizes):
        weigh = _semantic_weights(anchors, level, size, zoom_ranks, misplaced_semantics)
        temporal_rows, spatial_rows, cycle_rows = [], [], []
        for start in range(0, len(anchors), chunk_size):
            rows = slice(start, start + chunk_size)
            u, p = anchors.tuples[level][rows], anchors.patches[level][rows]
            match = match_tuples(u, everyone.tuples[level], top_tuples, same=pairs.anchor[rows])
            x, y = temporal_means(u, everyone.tuples[level], match)
            temporal_rows.append(compare(x, y, "cosine", renormalise=renormalise))
            if not (spatial or spatial_cycle):
                continue
            weight = None if weigh is None else weigh(rows, match)
            if spatial:
                patches = match_patches(
                    p, everyone.patches[level], match, size=size, ranks=zoom_ranks, top=top_patches, weight=weight
                )
                x, y = spatial_means(p, everyone.patches[level], patches)
                spatial_rows.append(compare(x, y, "cosine", renormalise=renormalise))
            if spatial_cycle:
                positive = pairs.positive[rows]
                here = torch.arange(len(positive), device=positive.device)
                own, other = _best_tuple_patches(p, everyone.patches[level][positive], match, here, positive, size)
                weight = None if weight is None else weight[here, positive, 0]
                cycle_rows.append(len(here) * cycle_loss(own, other, weight=weight, **cycle))
        terms.setdefault("temporal", []).append(contrastive_loss(torch.cat(temporal_rows), pairs, **contrast))
        positives = everyone.tuples[level][pairs.positive]
        terms.setdefault("temporal_cycle", []).append(cycle_loss(anchors.tuples[level], positives, **cycle))
        if spatial:
            terms.setdefault("spatial", []).append(contrastive_loss(torch.cat(spatial_rows), pairs, **contrast))
        if spatial_cycle:
            terms.setdefault("spatial_cycle", []).append(torch.stack(cycle_rows).sum() / len(anchors))
    return {name: torch.stack(values).mean() for name, values in terms.items()}


def classification_loss(logits: Float[Tensor, "clip class"], labels: Int[Tensor, "clip"]) -> Float[Tensor, ""]:
    return functional.cross_entropy(logits, labels)


def weighted_total(terms: Mapping[str, Tensor], sigmas: Mapping[str, float]) -> Float[Tensor, ""]:
    """Return the sum of the terms, each times its sigma."""
    return torch.stack([sigmas[name] * value for name, value in terms.items()]).sum()


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
    anchors: ClipFeatures, level: int, size: int, ranks: int, misplaced: bool
) -> Callable[[slice, TupleMatch], Tensor] | None:
    if anchors.semantics is None:
        return None
    embeddings = anchors.semantics[level][:, None]

    def weigh(rows: slice, match: TupleMatch) -> Tensor:
        weights = pair_weights(anchors.patches[level][rows], embeddings[rows], match, size=size, ranks=ranks)
        return misplaced_training_weights(weights) if misplaced else weights

    return weigh
