"""From a model and a partition's clips to the levels and accuracies of episodes, in this process.

Training validates with it after each epoch. `orchestration.evaluation.evaluate` spreads the same steps over actors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from hcl.encoding import encode, features_of
from hcl.episodes import Episodes
from hcl.fusion import mean_accuracies
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
        triples, over_shots: as in `hcl.scores.look_up`.
    """

    metric: str
    project: bool
    options: Mapping[str, Any]
    defects: Defects = field(default_factory=Defects)
    triples: float = 0.5
    over_shots: str = "mean"

    @property
    def looking(self) -> dict[str, Any]:
        """The keyword arguments of `hcl.scores.look_up`."""
        sizes = self.options["tuple_sizes"]
        return {"metric": self.metric, "tuple_sizes": sizes, "triples": self.triples, "over_shots": self.over_shots}

    @property
    def takes_means(self) -> bool:
        """Whether shots and tuple sizes are averaged, which is all that an episode scored by itself can do."""
        return (self.over_shots, self.triples) == ("mean", 0.5)


class Validation(NamedTuple):
    """What validation found.

    Attributes:
        accuracies: of each episode, one array a shot.
        sigmas: the weights of the levels (global, temporal, spatial) that were best of those tried, and the mean
            accuracy over the shots with them; None where none were tried.
    """

    accuracies: list[Float[np.ndarray, "episode"]]
    sigmas: tuple[float, float, float] | None = None
    fused_accuracy: float | None = None


def episode_levels(
    heads: MatchingHeads,
    tokens: Float[Tensor, "clip frame patch dim"],
    rows: int,
    episodes: Episodes,
    matcher: Matcher,
    *,
    embeddings: Float[Tensor, "clip embedding"] | None = None,
) -> Levels:
    """The levels of all episodes; see `levels_by_shot`."""
    return levels_by_shot(heads, tokens, rows, [episodes], matcher, embeddings=embeddings)[0]


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


def validate(
    model: HCL,
    dataset: Dataset,
    episodes: Sequence[Episodes],
    matcher: Matcher,
    *,
    sigmas: Mapping[str, float],
    candidates: Float[Tensor, "candidate 3"] | None = None,
    embeddings: Float[Tensor, "clip embedding"] | None = None,
    gather: Gather | None = None,
    **encoding: Any,
) -> Validation:
    """Accuracy of each episode; every worker encodes its share of the clips that the episodes need, each clip once.

    Args:
        episodes: of one or several shots.
        sigmas: the weights of the levels, by the names of `hcl.similarity.fuse`.
        candidates: further weights, of which the best are told.
        embeddings: of each clip's class name, as in `levels_by_shot`; those of the whole data set.
    """
    needed, tokens, rows = _encode_needed(model, dataset, episodes, gather or OneProcess(), encoding)
    names = None if embeddings is None else embeddings[torch.from_numpy(needed)]
    asked = [_renumbered(one, needed) for one in episodes]
    levels = levels_by_shot(model.heads, tokens, rows, asked, matcher, embeddings=names)
    own = [accuracies(fused(one, sigmas), many.n_queries) for one, many in zip(levels, episodes, strict=True)]
    if candidates is None:
        return Validation(own)
    values = mean_accuracies(levels, candidates)
    best = int(values.argmax())
    return Validation(own, tuple(candidates[best].tolist()), float(values[best]))  # type: ignore[arg-type]


def validate_pooled(
    model: PooledModel, dataset: Dataset, episodes: Sequence[Episodes], *, gather: Gather | None = None, **encoding: Any
) -> Validation:
    """The same for the regimes whose head compares pooled features."""
    needed, pooled, _ = _encode_needed(model, dataset, episodes, gather or OneProcess(), encoding)
    scores = [pooled_scores(model, lambda clips: pooled[clips], _renumbered(one, needed)) for one in episodes]
    return Validation([accuracies(one, many.n_queries) for one, many in zip(scores, episodes, strict=True)])


def _encode_needed(
    model: HCL | PooledModel,
    dataset: Dataset,
    episodes: Sequence[Episodes],
    gather: Gather,
    encoding: Mapping[str, Any],
) -> tuple[np.ndarray, Tensor, int]:
    """Every clip of some episodes once, each worker its share: their indices, what `encode` makes of them, the rows."""
    needed = clips_needed(episodes)
    share = np.array_split(needed, gather.world)[gather.rank]
    encoded = share if len(share) else needed[:1]  # more workers than clips: one more than asked for, for its shape
    tokens, rows = encode(model, dataset, encoded.tolist(), **encoding)
    return needed, gather.rows(tokens[: len(share)]), rows


def clips_needed(episodes: Sequence[Episodes]) -> Int[np.ndarray, "clip"]:
    """The clips that some episodes read, each once."""
    return np.unique(np.concatenate([part.ravel() for one in episodes for part in (one.support, one.query)]))


def _renumbered(episodes: Episodes, needed: np.ndarray) -> Episodes:
    """The episodes on clips that were numbered anew, in the order of `needed`."""
    support, query = (np.searchsorted(needed, clips) for clips in (episodes.support, episodes.query))
    return Episodes(episodes.classes, support, query)


def _clips_of(episodes: Episodes) -> Iterator[Int[Tensor, "clip"]]:
    """The clips of each episode, support first."""
    for support, query in zip(episodes.support, episodes.query, strict=True):
        yield torch.from_numpy(np.concatenate([support.ravel(), query.ravel()]))
