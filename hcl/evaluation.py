"""From a model and a partition's clips to the levels and accuracies of episodes, in this process.

Training validates with it after each epoch. `orchestration.evaluate` spreads the same steps over actors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    model: HCL,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    processes: int = 0,
    precision: str = "float32",
) -> tuple[Float[Tensor, "clip frame patch dim"], int]:
    """Tokens of some clips in float32, and the rows of their patch grid."""
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
    model: HCL,
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
    heads: MatchingHeads, tokens: Float[Tensor, "clip frame patch dim"], rows: int, *, project: bool
) -> ClipFeatures:
    """Matching features of many clips, a few at a time; not for heads that mix clips."""
    parts = [heads(part, rows, project=project) for part in tokens.split(_HEAD_CLIPS)]
    levels = range(len(heads.tuple_sizes))
    patches: list[Tensor] = []
    for level in levels:
        is_new = heads.reproject_per_size or level == 0
        patches.append(torch.cat([part.patches[level] for part in parts]) if is_new else patches[0])
    tuples = tuple(torch.cat([part.tuples[level] for part in parts]) for level in levels)
    return ClipFeatures(tuple(patches), tuples, torch.cat([part.clip for part in parts]))


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
    **matching: Any,
) -> Levels:
    """The levels of all episodes, by the cheapest way that is exact: all pairs once, or episode by episode.

    Args:
        matching: the keyword arguments of `hcl.scores.score_pairs`.
    """
    if defects.reason(episodes.shot):
        return mixed_levels(heads, tokens, rows, episodes, metric=metric, project=project, defects=defects, **matching)
    features = features_of(heads, tokens, rows, project=project)
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
    **matching: Any,
) -> Levels:
    """Episode by episode from cached tokens, as the release's defects need it."""
    return _each(
        episodes,
        lambda clips: heads(tokens[clips], rows, project=project),
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
    gather: Gather | None = None,
    **encoding: Any,
) -> Float[np.ndarray, "episode"]:
    """Accuracy of each episode; every worker encodes its share of the clips that the episodes need."""
    gather = gather or OneProcess()
    needed = np.unique(np.concatenate([episodes.support.ravel(), episodes.query.ravel()]))
    share = np.array_split(needed, gather.world)[gather.rank]
    tokens, rows = encode(model, dataset, share.tolist(), **encoding)
    local = Episodes(
        episodes.classes, np.searchsorted(needed, episodes.support), np.searchsorted(needed, episodes.query)
    )
    levels = episode_levels(
        model.heads,
        gather.rows(tokens),
        rows,
        local,
        metric=metric,
        project=project,
        defects=defects,
        **matching,
    )
    return accuracies(fused(levels, sigmas), episodes.query.shape[2])


def _each(episodes: Episodes, features: Any, **scoring: Any) -> Levels:
    each = []
    for support, query in zip(episodes.support, episodes.query, strict=True):
        clips = torch.from_numpy(np.concatenate([support.ravel(), query.ravel()]))
        each.append(score_episode(features(clips), way=episodes.way, shot=episodes.shot, **scoring))
    return Levels(*(np.stack(level) for level in zip(*each, strict=True)))
