"""Score a single query against the clips of classes that may differ in number, as evaluation scores it in an episode.

With equal numbers of clips the scores are those of an episode with this support.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from hcl.clips.episodes import Episodes
from hcl.evaluation.matcher import Matcher
from hcl.evaluation.methods import HierarchicalMatching
from hcl.evaluation.scores import Levels, look_up, metric_of, score_pairs
from hcl.matching.similarity import global_similarity
from hcl.models.features import ClipFeatures

Pairs = dict[str, Float[np.ndarray, "support"]]
"""Similarities of the query and each support clip, by the names of `score_pairs`."""


def with_one_metric(how: HierarchicalMatching, shots: Sequence[int]) -> HierarchicalMatching:
    """Return the method with a metric that all classes share, so that their scores can be compared.

    `auto` becomes the metric of the largest number of clips of a class.
    """
    return replace(how, matcher=replace(how.matcher, metric=metric_of(how.matcher.metric, max(shots))))


@torch.no_grad()
def query_levels(
    query: Sequence[ClipFeatures], support: Sequence[ClipFeatures], shots: Sequence[int], matcher: Matcher
) -> tuple[Levels, Pairs]:
    """Return the levels of one query against each class (way,), and the similarities of its pairs.

    Args:
        query: the features of one clip, in each view.
        support: the features of all support clips, class by class, in each view.
        shots: number of clips of each class.
        matcher: its metric must not be `auto`: see `with_one_metric`.
    """
    views = [_similarities(*of_view, matcher) for of_view in zip(query, support, strict=True)]
    pairs, gram = (_mean(part) for part in zip(*views, strict=True))
    n_support = sum(shots)
    table = {name: np.zeros((n_support + 1, n_support + 1), np.float32) for name in pairs}
    for name, values in pairs.items():
        table[name][n_support, :n_support] = values
    table |= gram
    ends = np.cumsum(shots)
    levels = [np.zeros(len(shots), np.float32) for _ in Levels._fields]
    for shot in sorted(set(shots)):
        ways = np.flatnonzero(np.asarray(shots) == shot)
        clips = np.stack([np.arange(ends[way] - shot, ends[way]) for way in ways])[None]
        asked = Episodes(ways[None], clips, np.full((1, len(ways), 1), n_support))
        for level, values in zip(levels, look_up(table, asked, **matcher.looking), strict=True):
            level[ways] = values[0, 0]
    return Levels(*levels), pairs


def _similarities(query: ClipFeatures, support: ClipFeatures, matcher: Matcher) -> tuple[Pairs, dict[str, np.ndarray]]:
    """Return the similarities of the query's pairs, and the inner products of all clips, the query last."""
    pairs = score_pairs(query, support, metrics=(matcher.metric,), **matcher.options)
    clips = torch.cat([support.clip, query.clip])
    gram = global_similarity(clips, clips).cpu().numpy()
    return {name: values[0].cpu().numpy() for name, values in pairs.items()}, {"global": gram}


def _mean(views: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.mean([view[name] for view in views], axis=0) for name in views[0]}


def nearest_shot(pairs: Pairs, first: int, shot: int, how: HierarchicalMatching) -> int:
    """Return which clip of a class is most similar to the query, the levels weighted and tuple sizes averaged.

    Args:
        first: index of the class's first clip in the support.
        shot: number of its clips.
    """
    sizes, metric = how.matcher.options["tuple_sizes"], how.matcher.metric
    here = slice(first, first + shot)
    total = how.sigmas["global"] * pairs["global"][here]
    for name in ("temporal", "spatial"):
        total = total + how.sigmas[name] * np.mean([pairs[f"{name}_{metric}_{size}"][here] for size in sizes], axis=0)
    return first + int(np.argmax(total))
