"""Compute the levels of episodes from the tokens of clips, in this process.

`hcl.training.validation` uses it after each epoch; `orchestration.evaluation` distributes the same steps over actors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hcl.clips.episodes import Episodes
from hcl.evaluation.scores import Levels, look_up, score_episode, score_pairs
from hcl.models.encoding import features_of
from hcl.models.features import ClipFeatures
from hcl.models.hcl import MatchingHeads
from hcl.models.pooled import PooledModel


class Defects(NamedTuple):
    """Select the test-time defects of the release to reproduce; these mix the clips of an episode."""

    mix_scales: bool = False  # deviation 3, with multi-scale patches
    swap_shot_axes: bool = False  # deviation 5, above 1 shot
    misplaced_semantics: bool = False  # deviation 7, with semantics

    def reason(self, shot: int) -> str | None:
        """Explain why an episode's scores are not those of independent pairs; return None if they are."""
        if self.mix_scales:
            return "multi-scale patches take their frames from other clips of the episode (deviation 3)"
        if self.swap_shot_axes and shot > 1:
            return "tuples are chosen across the supports of the episode (deviation 5)"
        if self.misplaced_semantics:
            return "semantic weights come from other clips of the episode (deviation 7)"
        return None


@dataclass(frozen=True)
class Matcher:
    """Hold the settings of HCL's matching in evaluation.

    Attributes:
        metric: `cosine`, `euclidean` or `auto`.
        project: apply the matching heads as in training.
        options: the keyword arguments of `hcl.evaluation.scores.score_pairs`.
        triples, over_shots: as in `hcl.evaluation.scores.look_up`.
    """

    metric: str
    project: bool
    options: Mapping[str, Any]
    defects: Defects = field(default_factory=Defects)
    triples: float = 0.5
    over_shots: str = "mean"

    @property
    def looking(self) -> dict[str, Any]:
        """Return the keyword arguments of `hcl.evaluation.scores.look_up`."""
        sizes = self.options["tuple_sizes"]
        return {"metric": self.metric, "tuple_sizes": sizes, "triples": self.triples, "over_shots": self.over_shots}

    @property
    def takes_means(self) -> bool:
        """Return true if shots and tuple sizes are averaged, which scoring episode by episode requires."""
        return (self.over_shots, self.triples) == ("mean", 0.5)


@torch.no_grad()
def levels_by_shot(
    heads: MatchingHeads,
    tokens: Float[Tensor, "clip frame patch dim"],
    rows: int,
    lists: Sequence[Episodes],
    matcher: Matcher,
    *,
    embeddings: Float[Tensor, "clip embedding"] | None = None,
) -> list[Levels]:
    """Return the levels of episodes of several shots by the cheapest exact way: all pairs once, or episode by episode.

    Args:
        embeddings: embedding of each clip's class name, for heads with semantics. Only those of support clips are read,
            unless the defect that leaks the queries' is reproduced (deviation 7).
    """
    mixes = [matcher.defects.reason(episodes.shot) is not None for episodes in lists]
    by_pairs: Callable[[Episodes], Levels] | None = None
    if not all(mixes):
        of_pairs = [episodes for episodes, is_mixed in zip(lists, mixes, strict=True) if not is_mixed]
        by_pairs = _by_pairs(
            features_of(heads, tokens, rows, project=matcher.project, embeddings=embeddings), of_pairs, matcher
        )
    return [
        mixed_levels(heads, tokens, rows, shot, matcher, embeddings=embeddings) if is_mixed else by_pairs(shot)  # type: ignore[misc]
        for shot, is_mixed in zip(lists, mixes, strict=True)
    ]


def _by_pairs(features: ClipFeatures, lists: Sequence[Episodes], matcher: Matcher) -> Callable[[Episodes], Levels]:
    """Return a function that scores episodes from a table of all pairs, or pair by pair if they have fewer pairs."""
    n_pairs = sum(shot.query[0].size * shot.support[0].size * len(shot) for shot in lists)
    if matcher.takes_means and len(features) ** 2 > n_pairs:
        return lambda episodes: levels_one_by_one(episodes, lambda clips: features[clips], matcher)
    table = {name: values.cpu().numpy() for name, values in score_pairs(features, features, **matcher.options).items()}
    return lambda episodes: look_up(table, episodes, **matcher.looking)


def mixed_levels(
    heads: MatchingHeads,
    tokens: Float[Tensor, "clip frame patch dim"],
    rows: int,
    episodes: Episodes,
    matcher: Matcher,
    *,
    embeddings: Float[Tensor, "clip embedding"] | None = None,
) -> Levels:
    """Score episode by episode from cached tokens, which the release's defects require."""

    def features(clips: Int[Tensor, "clip"]) -> ClipFeatures:
        names = None if embeddings is None else embeddings[clips].to(tokens.device)
        return heads(tokens[clips], rows, project=matcher.project, embeddings=names)

    return levels_one_by_one(episodes, features, matcher)


@torch.no_grad()
def levels_one_by_one(
    episodes: Episodes, features: Callable[[Int[Tensor, "clip"]], ClipFeatures], matcher: Matcher
) -> Levels:
    """Score each episode by itself, with the defects to reproduce.

    Args:
        features: returns the features of clips by index; the support of an episode comes before its queries.
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
    """Return the scores of episodes by the head of a regime, which sees an episode's clips together.

    Args:
        pooled: returns the features of clips by index; the support of an episode comes before its queries.
    """
    model.eval()
    scores, each = [], list(_clips_of(episodes))
    for start in range(0, len(each), _EPISODES):
        some = each[start : start + _EPISODES]
        features = pooled(torch.cat(some)).unflatten(0, (len(some), -1))
        scores.append(model.scores_of_many(features, episodes.way, episodes.shot).float().cpu().numpy())
    return np.concatenate(scores)


_EPISODES = 8  # scored at a time, which bounds memory


def _clips_of(episodes: Episodes) -> Iterator[Int[Tensor, "clip"]]:
    """Yield the clips of each episode, support first."""
    for support, query in zip(episodes.support, episodes.query, strict=True):
        yield torch.from_numpy(np.concatenate([support.ravel(), query.ravel()]))
