"""Many fusions of the levels tried at once on episodes whose pairs are scored already.

A query is right where the fused score of its class exceeds that of every other class; of equal ones the first counts,
as in `hcl.evaluation.scores.accuracies`. The difference of the two is linear in the weights, so that a whole batch of
candidates is one matrix product of margins and weights. Weights are never negative, hence a query whose class leads at
every level is right under all of them, and one that trails another class at every level is wrong under all: only the
others are multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hcl.clips.episodes import Episodes
from hcl.evaluation.scores import LEVELS, Levels, look_up, query_classes, size_weights

_TIE = 1e-30  # what decides a tie and nothing else: no sum of products of margins and weights is as small
_CHUNK = 1 << 16  # fused margins computed at a time: what a cache holds


@dataclass(frozen=True)
class Contested:
    """The queries of some episodes that weights can decide.

    Attributes:
        margins: level by level (global; temporal of each tuple size; spatial of each), the similarity of a query's
            class less that of each other class.
        in_ties: added to fused margins: more than nothing where the query's class stands before the other.
        n_right: queries that are right whatever the weights.
        n_queries: of all episodes.
    """

    margins: Float[Tensor, "level query other"]
    in_ties: Float[Tensor, "query other"]
    n_right: int
    n_queries: int


def contested(
    table: Mapping[str, np.ndarray],
    episodes: Episodes,
    *,
    metric: str,
    over_shots: str,
    tuple_sizes: Sequence[int],
) -> Contested:
    """Return the margins of episodes under one metric and one way to combine shots."""
    levels = [
        look_up(table, episodes, metric=metric, tuple_sizes=(size,), over_shots=over_shots) for size in tuple_sizes
    ]
    stacked = [levels[0].global_, *(one.temporal for one in levels), *(one.spatial for one in levels)]
    return _contested(stacked)


def _contested(levels: Sequence[Float[np.ndarray, "episode query way"]]) -> Contested:
    """Return the margins of similarities, level by level; queries stand class by class."""
    n_episodes, n_queries, n_way = levels[0].shape
    values = np.stack(levels).astype(np.float32).reshape(len(levels), -1, n_way)
    own = np.tile(query_classes(n_way, n_queries // n_way), n_episodes)
    others = np.array([[way for way in range(n_way) if way != one] for one in range(n_way)])[own]
    margins = np.take_along_axis(values, own[None, :, None], axis=2) - np.take_along_axis(values, others[None], axis=2)
    is_first = own[:, None] < others
    leads = (margins > 0) | ((margins == 0) & is_first)
    always = leads.all(axis=(0, 2))
    never = (~leads).all(axis=0).any(axis=1)
    is_open = ~(always | never)
    open_ = torch.from_numpy(np.ascontiguousarray(margins[:, is_open]))
    return Contested(open_, _TIE * torch.from_numpy(is_first[is_open]).to(open_.dtype), int(always.sum()), len(own))


def mean_accuracies(levels: Sequence[Levels], candidates: Sequence[Mapping[str, float]]) -> Float[Tensor, "candidate"]:
    """Return the mean accuracy over shots of many sigmas of the levels, each tuple size in its share.

    Args:
        levels: of the episodes of each shot.
        candidates: sigmas by level.
    """
    sigmas = _stacked(candidates)
    return torch.stack([fused_accuracies(_contested(of_shot), sigmas) for of_shot in levels]).mean(dim=0)


def drawn_sigmas(n: int, first: Sequence[Mapping[str, float]], highest: float = 4.0) -> list[dict[str, float]]:
    """Return sigmas of the levels to be tried: given ones, then others spread evenly (Sobol) beside a global one of 1.

    All are rounded to float32, in which they are compared.
    """
    sigmas = _stacked(first[:n])
    if n > len(first):  # the engine refuses to draw none
        drawn = torch.quasirandom.SobolEngine(2, scramble=True, seed=0).draw(n - len(first))
        sigmas = torch.cat([sigmas, torch.cat([torch.ones(len(drawn), 1), highest * drawn], dim=1)])
    return [dict(zip(LEVELS, candidate, strict=True)) for candidate in sigmas.tolist()]


def level_weights(
    candidates: Sequence[Mapping[str, float]], triples: Sequence[float], tuple_sizes: Sequence[int]
) -> Float[Tensor, "candidate level"]:
    """Return candidates as weights of the levels in the order of `Contested.margins`.

    Args:
        candidates: sigmas by level; not negative, one of them positive.
        triples: of each candidate, as in `hcl.evaluation.scores.look_up`.
    """
    sigmas = _stacked(candidates)
    shares = torch.tensor([size_weights(tuple_sizes, float(share)) for share in torch.tensor(triples)])
    return torch.cat([sigmas[:, :1], sigmas[:, 1:2] * shares, sigmas[:, 2:] * shares], dim=1)


def _stacked(candidates: Sequence[Mapping[str, float]]) -> Float[Tensor, "candidate 3"]:
    """Return sigmas as float32 numbers, in the order of `LEVELS`."""
    return torch.tensor([[sigmas[level] for level in LEVELS] for sigmas in candidates], dtype=torch.float32)


def fused_accuracies(contested: Contested, weights: Float[Tensor, "candidate level"]) -> Float[Tensor, "candidate"]:
    """Return the share of queries that each candidate gets right. In a tie, the first class is the answer."""
    right = torch.full((len(weights),), float(contested.n_right))
    n_others = contested.margins.shape[2]
    size = max(1, _CHUNK // (len(weights) * n_others))
    for part, in_ties in zip(contested.margins.split(size, dim=1), contested.in_ties.split(size), strict=True):
        fused = (weights.to(part.dtype) @ part.flatten(1)).add_(in_ties.flatten())
        right += (fused.unflatten(1, (-1, n_others)).amin(dim=-1) > 0).sum(dim=1)
    return right / contested.n_queries
