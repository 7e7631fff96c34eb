"""After each epoch: the accuracy of the episodes that choose the best one, and the best weights of the levels."""

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
from hcl.training.workers import Gather, OneProcess


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
        sigmas: the weights of the levels, by the names of `hcl.matching.similarity.fuse`.
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
