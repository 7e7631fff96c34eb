"""From a model and a partition's clips to the levels and accuracies of episodes, in this process.

Training validates with it after each epoch. `orchestration.evaluate` spreads the same steps over actors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from hcl.episodes import Episodes
from hcl.gather import Gather, OneProcess
from hcl.model import HCL, ClipFeatures, MatchingHeads, autocast
from hcl.pooled import PooledModel
from hcl.scores import Levels, accuracies, fused, look_up, score_episode, score_pairs

_HEAD_CLIPS = 64  # clips that go through the matching heads at a time


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


NO_DEFECTS = Defects()


@torch.no_grad()
def encode(
    model: HCL | PooledModel,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    processes: int = 0,
    precision: str = "float32",
) -> tuple[Float[Tensor, "clip ..."], int]:
    """Tokens of some clips in float32, or what another model keeps of them, and the rows of their patch grid."""
    model.eval()
    loader = DataLoader(dataset, sampler=list(indices), batch_size=batch_size, num_workers=processes)  # type: ignore[arg-type]
    tokens, rows = [], 0
    for clips in loader:
        with autocast(device, precision):
            hidden, rows = model.tokens(clips.to(device))
        tokens.append(hidden.float())
    return torch.cat(tokens), rows


@torch.no_grad()
def frames_in_order(
    model: HCL | PooledModel,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    precision: str = "float32",
) -> Float[Tensor, "clip frame_channel"]:
    """Unit vectors of the ordered prototype: the backbone's mean of every frame, one frame after the other."""
    model.eval()
    vectors = []
    for clips in DataLoader(dataset, sampler=list(indices), batch_size=batch_size):  # type: ignore[arg-type]
        with autocast(device, precision):
            grids = model.grids(clips.to(device))
        vectors.append(functional.normalize(grids.float().mean(dim=(-1, -2)).flatten(1), dim=-1))
    return torch.cat(vectors)


@torch.no_grad()
def features_of(
    heads: MatchingHeads,
    tokens: Float[Tensor, "clip frame patch dim"],
    rows: int,
    *,
    project: bool,
    embeddings: Float[Tensor, "clip embedding"] | None = None,
) -> ClipFeatures:
    """Matching features of many clips, a few at a time; not for heads that mix clips."""
    names = [None] * len(tokens) if embeddings is None else embeddings.to(tokens.device).split(_HEAD_CLIPS)
    parts = [
        heads(part, rows, project=project, embeddings=of_part)
        for part, of_part in zip(tokens.split(_HEAD_CLIPS), names, strict=False)
    ]
    levels = range(len(heads.tuple_sizes))
    patches: list[Tensor] = []
    for level in levels:
        is_new = heads.reproject_per_size or level == 0
        patches.append(torch.cat([part.patches[level] for part in parts]) if is_new else patches[0])
    tuples = tuple(torch.cat([part.tuples[level] for part in parts]) for level in levels)
    semantics = None
    if embeddings is not None:
        semantics = tuple(torch.cat([part.semantics[level] for part in parts]) for level in levels)
    return ClipFeatures(tuple(patches), tuples, torch.cat([part.clip for part in parts]), semantics)


@torch.no_grad()
def episode_levels(
    heads: MatchingHeads,
    tokens: Float[Tensor, "clip frame patch dim"],
    rows: int,
    episodes: Episodes,
    *,
    metric: str,
    project: bool,
    defects: Defects = NO_DEFECTS,
    embeddings: Float[Tensor, "clip embedding"] | None = None,
    **matching: Any,
) -> Levels:
    """The levels of all episodes, by the cheapest way that is exact: all pairs once, or episode by episode.

    Args:
        embeddings: of each clip's class name, for heads with semantics. Those of support clips alone are read,
            unless a defect is asked for that leaks the queries' (deviation 7).
        matching: the keyword arguments of `hcl.scores.score_pairs`.
    """
    how: dict[str, Any] = {"project": project, "embeddings": embeddings}
    if defects.reason(episodes.shot):
        return mixed_levels(heads, tokens, rows, episodes, metric=metric, defects=defects, **how, **matching)
    features = features_of(heads, tokens, rows, **how)
    n_episode_pairs = episodes.query[0].size * episodes.support[0].size * len(episodes)
    if len(features) ** 2 > n_episode_pairs:
        return _each(episodes, lambda clips: features[clips], metric=metric, **matching)
    table = {name: values.cpu().numpy() for name, values in score_pairs(features, features, **matching).items()}
    return look_up(table, episodes, metric=metric, tuple_sizes=matching["tuple_sizes"])


@torch.no_grad()
def mixed_levels(
    heads: MatchingHeads,
    tokens: Float[Tensor, "clip frame patch dim"],
    rows: int,
    episodes: Episodes,
    *,
    metric: str,
    project: bool,
    defects: Defects,
    embeddings: Float[Tensor, "clip embedding"] | None = None,
    **matching: Any,
) -> Levels:
    """Episode by episode from cached tokens, as the release's defects need it."""

    def features(clips: Tensor) -> ClipFeatures:
        names = None if embeddings is None else embeddings[clips].to(tokens.device)
        return heads(tokens[clips], rows, project=project, embeddings=names)

    return _each(
        episodes,
        features,
        metric=metric,
        swap_axes=defects.swap_shot_axes,
        misplaced_semantics=defects.misplaced_semantics,
        **matching,
    )


def validate(
    model: HCL,
    dataset: Dataset,
    episodes: Episodes,
    *,
    metric: str,
    project: bool,
    sigmas: Mapping[str, float],
    matching: Mapping[str, Any],
    defects: Defects = NO_DEFECTS,
    embeddings: Float[Tensor, "clip embedding"] | None = None,
    gather: Gather | None = None,
    **encoding: Any,
) -> Float[np.ndarray, "episode"]:
    """Accuracy of each episode; every worker encodes its share of the clips that the episodes need.

    Args:
        embeddings: of each clip's class name, as in `episode_levels`; those of the whole data set.
    """
    needed, tokens, rows = _encode_needed(model, dataset, episodes, gather or OneProcess(), encoding)
    levels = episode_levels(
        model.heads,
        tokens,
        rows,
        _renumbered(episodes, needed),
        metric=metric,
        project=project,
        defects=defects,
        embeddings=None if embeddings is None else embeddings[torch.from_numpy(needed)],
        **matching,
    )
    return accuracies(fused(levels, sigmas), episodes.query.shape[2])


def validate_pooled(
    model: PooledModel, dataset: Dataset, episodes: Episodes, *, gather: Gather | None = None, **encoding: Any
) -> Float[np.ndarray, "episode"]:
    """The same for the regimes whose head compares pooled features."""
    needed, pooled, _ = _encode_needed(model, dataset, episodes, gather or OneProcess(), encoding)
    scores = pooled_episode_scores(model, pooled, _renumbered(episodes, needed))
    return accuracies(scores, episodes.query.shape[2])


@torch.no_grad()
def pooled_episode_scores(
    model: PooledModel, pooled: Float[Tensor, "clip ..."], episodes: Episodes
) -> Float[np.ndarray, "episode query way"]:
    """Scores of episodes from their clips' pooled features, episode by episode."""
    model.eval()
    scores = [
        model.scores(pooled[clips], episodes.way, episodes.shot).float().cpu().numpy() for clips in _clips_of(episodes)
    ]
    return np.stack(scores)


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


def _clips_of(episodes: Episodes) -> Iterator[Tensor]:
    """The clips of each episode, support first."""
    for support, query in zip(episodes.support, episodes.query, strict=True):
        yield torch.from_numpy(np.concatenate([support.ravel(), query.ravel()]))


def _each(episodes: Episodes, features: Callable[[Tensor], ClipFeatures], **scoring: Any) -> Levels:
    each = [
        score_episode(features(clips), way=episodes.way, shot=episodes.shot, **scoring) for clips in _clips_of(episodes)
    ]
    return Levels(*(np.stack(level) for level in zip(*each, strict=True)))
