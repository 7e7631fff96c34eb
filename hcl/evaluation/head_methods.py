"""Score episodes by the trained head of a regime: all clips of an episode together, or pairs of clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Num
from torch import Tensor

from hcl.clips.episodes import Episodes
from hcl.evaluation.matcher import pooled_scores
from hcl.evaluation.methods import SCORE, Kept, Scores, Take
from hcl.evaluation.scores import look_up_global
from hcl.models.pooled import PooledModel
from hcl.models.precision import autocast
from hcl.rivals.heads import pair_scores


@dataclass(frozen=True)
class PooledHead:
    """Score by the head of a regime on pooled features."""

    kept: str = "pooled"
    of_pairs: Mapping[str, Any] = field(default_factory=dict)
    reads_names: bool = False

    def keep(
        self, model: PooledModel, clips: Num[Tensor, "clip frame ..."], embeddings: Tensor | None, *, precision: str
    ) -> dict[str, Tensor]:
        with autocast(clips.device, precision):
            pooled, _ = model.tokens(clips)
        return {"pooled": pooled.float()}

    def one_by_one(self, model: PooledModel, take: Take, episodes: Episodes) -> Scores:
        return {SCORE: pooled_scores(model, lambda clips: take(clips)["pooled"], episodes)}

    def reason(self, shot: int) -> str | None:
        return "a regime's head sees all supports of an episode at once"

    def metric(self, shot: int) -> str:
        return ""

    def fuse(self, scores: Scores) -> Float[np.ndarray, "episode query way"]:
        return scores[SCORE]


@dataclass(frozen=True)
class HeadByPairs(PooledHead):
    """Score by a head whose scores follow from pairs of clips, at the shots for which it says so.

    Attributes:
        head: a head of `hcl.rivals` whose matching reads no weights.
    """

    head: Any = field(default=None, compare=False)

    def pairs(self, query: Kept, support: Kept) -> dict[str, Float[Tensor, "query support"]]:
        return {SCORE: pair_scores(self.head, query["pooled"], support["pooled"])}

    def look_up(self, table: Mapping[str, Float[np.ndarray, "clip clip"]], episodes: Episodes) -> Scores:
        return {SCORE: look_up_global(table[SCORE], episodes, "cosine")}

    def reason(self, shot: int) -> str | None:
        return None if self.head.scores_by_pairs(shot) else super().reason(shot)
