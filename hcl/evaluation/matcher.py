"""From the tokens of clips to the levels of episodes, in this process.

`hcl.training.validation` uses it after each epoch; `orchestration.evaluation` spreads the same steps over actors.
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
        """The keyword arguments of `hcl.evaluation.scores.look_up`."""
        sizes = self.options["tuple_sizes"]
        return {"metric": self.metric, "tuple_sizes": sizes, "triples": self.triples, "over_shots": self.over_shots}

    @property
    def takes_means(self) -> bool:
        """Whether shots and tuple sizes are averaged, which is all that an episode scored by itself can do."""
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
    """The levels of episodes of several shots, by the cheapest way that is exact: all pairs once, or one by one.

    Args:
        embeddings: of each clip's class name, for heads with semantics. Those of support clips alone are read,
            unless a defect is asked for that leaks the queries' (deviation 7).
    """
    mixes = [matcher.defects.reason(one.shot) is not None for one in lists]
    by_pairs: Callable[[Episodes], Levels] | None = None
    if not all(mixes):
        of_pairs = [one for one, is_mixed in zip(lists, mixes, strict=True) if not is_mixed]
        by_pairs = _by_pairs(
            features_of(heads, tokens, rows, project=matcher.project, embeddings=embeddings), of_pairs, matcher
        )
    return [
        mixed_levels(heads, tokens, rows, one, matcher, embeddings=embeddings) if is_mixed else by_pairs(one)  # type: ignore[misc]
        for one, is_mixed in zip(lists, mixes, strict=True)
    ]


def _by_pairs(features: ClipFeatures, lists: Sequence[Episodes], matcher: Matcher) -> Callable[[Episodes], Levels]:
    """How episodes are answered whose clips do not mix: from a table of all pairs, or by their own pairs if fewer."""
    n_pairs = sum(one.query[0].size * one.support[0].size * len(one) for one in lists)
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


def _clips_of(episodes: Episodes) -> Iterator[Int[Tensor, "clip"]]:
    """The clips of each episode, support first."""
    for support, query in zip(episodes.support, episodes.query, strict=True):
        yield torch.from_numpy(np.concatenate([support.ravel(), query.ravel()]))
