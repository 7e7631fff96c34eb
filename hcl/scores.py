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

from hcl.episodes import Episodes
from hcl.model import ClipFeatures
from hcl.pairs import METRICS, score_pairs
from hcl.similarity import compare, fuse

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

LEVELS = ("global", "temporal", "spatial")


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


def look_up(table: Mapping[str, np.ndarray], episodes: Episodes, *, metric: str, tuple_sizes: Sequence[int]) -> Levels:
    """The levels of many episodes from a partition's score table; several tuple sizes are averaged.

    Args:
        table: as `score_pairs` gives for all clips against all.
        metric: `cosine`, `euclidean`, or `auto`.
    """
    metric = metric_of(metric, episodes.shot)

    def over_sizes(name: str) -> np.ndarray:
        return np.mean([_over_shots(table[f"{name}_{metric}_{size}"], episodes) for size in tuple_sizes], axis=0)

    return Levels(look_up_global(table["global"], episodes, metric), over_sizes("temporal"), over_sizes("spatial"))


def look_up_global(
    gram: Float[np.ndarray, "clip clip"], episodes: Episodes, metric: str
) -> Float[np.ndarray, "episode query way"]:
    """Similarity of queries and prototypes from the inner products of all clips."""
    inner = _over_shots(gram, episodes)
    if metric_of(metric, episodes.shot) == "cosine":
        return inner
    query = episodes.query.reshape(len(episodes), -1)
    within = gram[episodes.support[..., :, None], episodes.support[..., None, :]].mean(axis=(-1, -2))
    return -(gram[query, query][:, :, None] - 2 * inner + within[:, None])


def _over_shots(values: np.ndarray, episodes: Episodes) -> Float[np.ndarray, "episode query way"]:
    query = episodes.query.reshape(len(episodes), -1)
    return values[query[:, :, None, None], episodes.support[:, None]].mean(axis=-1)


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
    """The score of each query and class: `sigma_global`, `sigma_temporal` and `sigma_spatial` weigh the levels."""
    return fuse(*levels, **sigmas)  # type: ignore[return-value, arg-type]


def accuracies(scores: Float[np.ndarray, "episode query way"], queries: int) -> Float[np.ndarray, "episode"]:
    """Share of each episode's queries whose best class is theirs; queries stand class by class. A tie: the first."""
    return (scores.argmax(axis=-1) == query_classes(scores.shape[-1], queries)).mean(axis=-1)


def query_classes(way: int, queries: int) -> Int[np.ndarray, "query"]:
    return np.repeat(np.arange(way), queries)
