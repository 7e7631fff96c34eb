"""Validation after each epoch: the accuracy of the episodes that choose the best one, and the best level weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from hcl.clips.episodes import Episodes
from hcl.evaluation.fusion import mean_accuracies
from hcl.evaluation.matcher import Matcher, levels_by_shot, pooled_scores
from hcl.evaluation.scores import accuracies, fused
from hcl.models.encoding import encode
from hcl.models.hcl import HCL
from hcl.models.pooled import PooledModel
from hcl.training.process_group import ProcessGroup, SingleProcess


class Validation(NamedTuple):
    """The result of a validation.

    Attributes:
        accuracies: of each episode, one array a shot.
        sigmas: the weights of the levels, by name, that were best of those tried; None where none were tried.
        fused_accuracy: the mean accuracy over the shots with them.
    """

    accuracies: list[Float[np.ndarray, "episode"]]
    sigmas: Mapping[str, float] | None = None
    fused_accuracy: float | None = None


def validate(
    model: HCL,
    dataset: Dataset,
    episodes: Sequence[Episodes],
    matcher: Matcher,
    *,
    sigmas: Mapping[str, float],
    candidates: Sequence[Mapping[str, float]] = (),
    embeddings: Float[Tensor, "clip embedding"] | None = None,
    group: ProcessGroup | None = None,
    **encoding: Any,
) -> Validation:
    """Return the accuracy of each episode; every worker encodes its share of the clips that the episodes need, once.

    Args:
        episodes: of one or several shots.
        sigmas: the weight of each level, by the names of `hcl.matching.similarity.LEVELS`.
        candidates: further weights, of which the best are returned.
        embeddings: of each clip's class name, as in `levels_by_shot`; those of the whole data set.
    """
    needed, tokens, rows = _encode_needed(model, dataset, episodes, group or SingleProcess(), encoding)
    names = None if embeddings is None else embeddings[torch.from_numpy(needed)]
    renumbered = [_renumbered(of_shot, needed) for of_shot in episodes]
    levels = levels_by_shot(model.heads, tokens, rows, renumbered, matcher, embeddings=names)
    own = [accuracies(fused(of_shot, sigmas), asked.n_queries) for of_shot, asked in zip(levels, episodes, strict=True)]
    if not candidates:
        return Validation(own)
    means = mean_accuracies(levels, candidates)
    best = int(means.argmax())
    return Validation(own, candidates[best], float(means[best]))


def validate_pooled(
    model: PooledModel,
    dataset: Dataset,
    episodes: Sequence[Episodes],
    *,
    group: ProcessGroup | None = None,
    **encoding: Any,
) -> Validation:
    """Return the accuracy of each episode by a head that compares pooled features."""
    needed, pooled, _ = _encode_needed(model, dataset, episodes, group or SingleProcess(), encoding)
    scores = [pooled_scores(model, lambda clips: pooled[clips], _renumbered(of_shot, needed)) for of_shot in episodes]
    return Validation([accuracies(of_shot, asked.n_queries) for of_shot, asked in zip(scores, episodes, strict=True)])


def _encode_needed(
    model: HCL | PooledModel,
    dataset: Dataset,
    episodes: Sequence[Episodes],
    group: ProcessGroup,
    encoding: Mapping[str, Any],
) -> tuple[np.ndarray, Tensor, int]:
    """Encode every clip of some episodes once, each worker its share; return their indices, tokens and grid rows."""
    needed = clips_needed(episodes)
    share = np.array_split(needed, group.world_size)[group.rank]
    encoded = share if len(share) else needed[:1]  # more workers than clips: one more than asked for, for its shape
    tokens, rows = encode(model, dataset, encoded.tolist(), **encoding)
    return needed, group.all_gather_rows(tokens[: len(share)]), rows


def clips_needed(episodes: Sequence[Episodes]) -> Int[np.ndarray, "clip"]:
    """Return the clips that some episodes read, each once."""
    return np.unique(
        np.concatenate([part.ravel() for of_shot in episodes for part in (of_shot.support, of_shot.query)])
    )


def _renumbered(episodes: Episodes, needed: np.ndarray) -> Episodes:
    """Return the episodes on clips that are numbered in the order of `needed`."""
    support, query = (np.searchsorted(needed, clips) for clips in (episodes.support, episodes.query))
    return Episodes(episodes.classes, support, query)
