"""From a model and a partition's clips to the levels and accuracies of episodes, in this process.

Training validates with it after each epoch. `orchestration.evaluate` spreads the same steps over actors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from hcl.encoding import encode, features_of
from hcl.episodes import Episodes
from hcl.gather import Gather, OneProcess
from hcl.model import HCL, ClipFeatures, MatchingHeads
from hcl.pooled import PooledModel
from hcl.scores import Levels, accuracies, fused, look_up, score_episode, score_pairs


class Defects(NamedTuple):
    """Which of the release's defects at test to reproduce: those that mix the clips of an episode."""

    mix_scales: bool = False  # deviation 3, where patches are multi-scale
    swap_shot_axes: bool = False  # deviation 5, above 1 shot
    misplaced_semantics: bool = False  # deviation 7, with semantics

    def reason(self, shot: int) -> str | None:
        """Why the scores of an episode are not those of independent pairs; None where they are."""
        if self.mix_scales:
            return "multi-scale patches take their frames from other clips of the episode (deviation 3)"
        if self.swap_shot_axes and shot > 1:
            return "tuples are chosen across the supports of the episode (deviation 5)"
        if self.misplaced_semantics:
            return "semantic weights come from other clips of the episode (deviation 7)"
        return None


@dataclass(frozen=True)
class Matcher:
    """How episodes are compared.

    Attributes:
        metric: `cosine`, `euclidean` or `auto`.
        project: apply the matching heads as in training.
        options: the keyword arguments of `hcl.scores.score_pairs`.
    """

    metric: str
    project: bool
    options: Mapping[str, Any]
    defects: Defects = field(default_factory=Defects)


@torch.no_grad()
def episode_levels(
    heads: MatchingHeads,
    tokens: Float[Tensor, "clip frame patch dim"],
    rows: int,
    episodes: Episodes,
    matcher: Matcher,
    *,
    embeddings: Float[Tensor, "clip embedding"] | None = None,
) -> Levels:
    """The levels of all episodes, by the cheapest way that is exact: all pairs once, or episode by episode.

    Args:
        embeddings: of each clip's class name, for heads with semantics. Those of support clips alone are read,
            unless a defect is asked for that leaks the queries' (deviation 7).
    """
    if matcher.defects.reason(episodes.shot):
        return mixed_levels(heads, tokens, rows, episodes, matcher, embeddings=embeddings)
    features = features_of(heads, tokens, rows, project=matcher.project, embeddings=embeddings)
    n_episode_pairs = episodes.query[0].size * episodes.support[0].size * len(episodes)
    if len(features) ** 2 > n_episode_pairs:
        return levels_one_by_one(episodes, lambda clips: features[clips], matcher)
    table = score_pairs(features, features, **matcher.options)
    return look_up(
        {name: values.cpu().numpy() for name, values in table.items()},
        episodes,
        metric=matcher.metric,
        tuple_sizes=matcher.options["tuple_sizes"],
    )


def mixed_levels(
    heads: MatchingHeads,
    tokens: Float[Tensor, "clip frame patch dim"],
    rows: int,
    episodes: Episodes,
    matcher: Matcher,
    *,
    embeddings: Float[Tensor, "clip embedding"] | None = None,
) -> Levels:
    """Episode by episode from cached tokens, as the release's defects need it."""

    def features(clips: Int[Tensor, "clip"]) -> ClipFeatures:
        names = None if embeddings is None else embeddings[clips].to(tokens.device)
        return heads(tokens[clips], rows, project=matcher.project, embeddings=names)

    return levels_one_by_one(episodes, features, matcher)


@torch.no_grad()
def levels_one_by_one(
    episodes: Episodes, features: Callable[[Int[Tensor, "clip"]], ClipFeatures], matcher: Matcher
) -> Levels:
    """Each episode scored by itself, its defects included.

    Args:
        features: of some clips by index, the support of an episode before its queries.
    """
    each = [
        score_episode(
            features(clips),
            way=episodes.way,
            shot=episodes.shot,
            metric=matcher.metric,
            swap_axes=matcher.defects.swap_shot_axes,
            misplaced_semantics=matcher.defects.misplaced_semantics,
            **matcher.options,
        )
        for clips in _clips_of(episodes)
    ]
    return Levels(*(np.stack(level) for level in zip(*each, strict=True)))


@torch.no_grad()
def pooled_scores(
    model: PooledModel, pooled: Callable[[Int[Tensor, "clip"]], Float[Tensor, "clip ..."]], episodes: Episodes
) -> Float[np.ndarray, "episode query way"]:
    """Scores of episodes by the head of a regime, episode by episode.

    Args:
        pooled: features of some clips by index, the support of an episode before its queries.
    """
    model.eval()
    scores = [
        model.scores(pooled(clips), episodes.way, episodes.shot).float().cpu().numpy() for clips in _clips_of(episodes)
    ]
    return np.stack(scores)


def validate(
    model: HCL,
    dataset: Dataset,
    episodes: Episodes,
    matcher: Matcher,
    *,
    sigmas: Mapping[str, float],
    embeddings: Float[Tensor, "clip embedding"] | None = None,
    gather: Gather | None = None,
    **encoding: Any,
) -> Float[np.ndarray, "episode"]:
    """Accuracy of each episode; every worker encodes its share of the clips that the episodes need.

    Args:
        embeddings: of each clip's class name, as in `episode_levels`; those of the whole data set.
    """
    needed, tokens, rows = _encode_needed(model, dataset, episodes, gather or OneProcess(), encoding)
    names = None if embeddings is None else embeddings[torch.from_numpy(needed)]
    levels = episode_levels(model.heads, tokens, rows, _renumbered(episodes, needed), matcher, embeddings=names)
    return accuracies(fused(levels, sigmas), episodes.n_queries)


def validate_pooled(
    model: PooledModel, dataset: Dataset, episodes: Episodes, *, gather: Gather | None = None, **encoding: Any
) -> Float[np.ndarray, "episode"]:
    """The same for the regimes whose head compares pooled features."""
    needed, pooled, _ = _encode_needed(model, dataset, episodes, gather or OneProcess(), encoding)
    scores = pooled_scores(model, lambda clips: pooled[clips], _renumbered(episodes, needed))
    return accuracies(scores, episodes.n_queries)


def _encode_needed(
    model: HCL | PooledModel, dataset: Dataset, episodes: Episodes, gather: Gather, encoding: Mapping[str, Any]
) -> tuple[np.ndarray, Tensor, int]:
    """Every clip of some episodes once, each worker its share: their indices, what `encode` makes of them, the rows."""
    needed = np.unique(np.concatenate([episodes.support.ravel(), episodes.query.ravel()]))
    share = np.array_split(needed, gather.world)[gather.rank]
    encoded = share if len(share) else needed[:1]  # more workers than clips: one more than asked for, for its shape
    tokens, rows = encode(model, dataset, encoded.tolist(), **encoding)
    return needed, gather.rows(tokens[: len(share)]), rows


def _renumbered(episodes: Episodes, needed: np.ndarray) -> Episodes:
    """The episodes on clips that were numbered anew, in the order of `needed`."""
    support, query = (np.searchsorted(needed, clips) for clips in (episodes.support, episodes.query))
    return Episodes(episodes.classes, support, query)


def _clips_of(episodes: Episodes) -> Iterator[Int[Tensor, "clip"]]:
    """The clips of each episode, support first."""
    for support, query in zip(episodes.support, episodes.query, strict=True):
        yield torch.from_numpy(np.concatenate([support.ravel(), query.ravel()]))
