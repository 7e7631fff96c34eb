"""Scores of query and support clips at test: every pair once, every episode looked up.

A score table holds, for all pairs of a partition's clips, the inner products of the global features and the temporal
and spatial similarities at each tuple size and metric. Any episode's scores at any shot follow from it. Two defects
of the release mix the clips of an episode (deviations 3 and 5): `score_episode` computes those episode by episode,
and is the oracle of the table for all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int

from hcl.clips.episodes import Episodes
from hcl.matching.pairs import METRICS, score_pairs
from hcl.matching.similarity import LEVELS, compare, fuse
from hcl.models.features import ClipFeatures

__all__ = [
    "LEVELS",
    "METRICS",
    "Levels",
    "accuracies",
    "fused",
    "look_up",
    "look_up_global",
    "metric_of",
    "query_classes",
    "score_episode",
    "score_pairs",
]


class Levels(NamedTuple):
    """Similarity of each query to each class at the three levels."""

    global_: Float[np.ndarray, "*episode query way"]
    temporal: Float[np.ndarray, "*episode query way"]
    spatial: Float[np.ndarray, "*episode query way"]


def metric_of(metric: str, shot: int) -> str:
    """`auto` is the published choice: cosine at 1 shot, negative squared Euclidean distance above."""
    if metric == "auto":
        return "cosine" if shot == 1 else "euclidean"
    return metric


def look_up(
    table: Mapping[str, np.ndarray],
    episodes: Episodes,
    *,
    metric: str,
    tuple_sizes: Sequence[int],
    triples: float = 0.5,
    over_shots: str = "mean",
) -> Levels:
    """The levels of many episodes from a partition's score table.

    Args:
        table: as `score_pairs` gives for all clips against all.
        metric: `cosine`, `euclidean`, or `auto`.
        triples: share of tuples of three where both sizes are matched.
        over_shots: `mean` or `max` of a class's shots.
    """
    metric = metric_of(metric, episodes.shot)
    weights = size_weights(tuple_sizes, triples)

    def over_sizes(name: str) -> np.ndarray:
        each = [_over_shots(table[f"{name}_{metric}_{size}"], episodes, over_shots) for size in tuple_sizes]
        return np.sum([weight * values for weight, values in zip(weights, each, strict=True)], axis=0)

    return Levels(
        look_up_global(table["global"], episodes, metric, over_shots), over_sizes("temporal"), over_sizes("spatial")
    )


def size_weights(tuple_sizes: Sequence[int], triples: float) -> list[float]:
    """The weight of each tuple size: `triples` of size 3 where both sizes are matched, 1 of a single size."""
    return [1.0] if len(tuple_sizes) == 1 else [triples if size == 3 else 1 - triples for size in tuple_sizes]


def look_up_global(
    gram: Float[np.ndarray, "clip clip"], episodes: Episodes, metric: str, over_shots: str = "mean"
) -> Float[np.ndarray, "episode query way"]:
    """Similarity of queries and prototypes, or the nearest shots, from the inner products of all clips."""
    if metric_of(metric, episodes.shot) == "cosine":
        return _over_shots(gram, episodes, over_shots)
    query = episodes.query.reshape(len(episodes), -1)
    own = gram[query, query][:, :, None]
    if over_shots == "max":
        support = gram[episodes.support, episodes.support]
        between = gram[query[:, :, None, None], episodes.support[:, None]]
        return -(own[..., None] - 2 * between + support[:, None]).min(axis=-1)
    within = gram[episodes.support[..., :, None], episodes.support[..., None, :]].mean(axis=(-1, -2))
    return -(own - 2 * _over_shots(gram, episodes) + within[:, None])


def _over_shots(
    values: np.ndarray, episodes: Episodes, over_shots: str = "mean"
) -> Float[np.ndarray, "episode query way"]:
    query = episodes.query.reshape(len(episodes), -1)
    shots = values[query[:, :, None, None], episodes.support[:, None]]
    return shots.max(axis=-1) if over_shots == "max" else shots.mean(axis=-1)


@torch.no_grad()
def score_episode(
    features: ClipFeatures,
    *,
    way: int,
    shot: int,
    metric: str,
    tuple_sizes: Sequence[int],
    swap_axes: bool = False,
    misplaced_semantics: bool = False,
    **matching: Any,
) -> Levels:
    """The levels of one episode, directly.

    Args:
        features: support clips (class by class), then query clips.
        swap_axes: deviation 5, of more than one shot.
        misplaced_semantics: deviation 7.
        matching: as in `score_pairs`.
    """
    metric = metric_of(metric, shot)
    support, query = features[slice(0, way * shot)], features[slice(way * shot, None)]
    rows = None
    if misplaced_semantics and features.semantics is not None:
        rows = [embeddings[: len(query)] for embeddings in features.semantics]
    pairs = score_pairs(
        query,
        support,
        tuple_sizes=tuple_sizes,
        metrics=(metric,),
        swap_axes=swap_axes and shot > 1,
        misplaced_semantics=rows,
        **matching,
    )

    def level(name: str) -> np.ndarray:
        sizes = torch.stack([pairs[f"{name}_{metric}_{size}"] for size in tuple_sizes]).mean(dim=0)
        return rearrange(sizes, "q (w k) -> q w k", w=way).mean(dim=-1).cpu().numpy()

    prototypes = rearrange(support.clip, "(w k) d -> w k d", w=way).mean(dim=1)
    global_ = compare(query.clip[:, None], prototypes[None], metric).cpu().numpy()
    return Levels(global_, level("temporal"), level("spatial"))


def fused(levels: Levels, sigmas: Mapping[str, float]) -> Float[np.ndarray, "*episode query way"]:
    """Return the score of each query and class: the sum of the levels, each times its sigma (by level name)."""
    return fuse(*levels, sigmas)  # type: ignore[return-value]


def accuracies(scores: Float[np.ndarray, "episode query way"], queries: int) -> Float[np.ndarray, "episode"]:
    """Share of each episode's queries whose best class is theirs; queries stand class by class. A tie: the first."""
    return (scores.argmax(axis=-1) == query_classes(scores.shape[-1], queries)).mean(axis=-1)


def query_classes(way: int, queries: int) -> Int[np.ndarray, "query"]:
    return np.repeat(np.arange(way), queries)
