"""The model of every regime but `hcl`: backbone, encoder where asked for, and a head that compares pooled features."""

from __future__ import annotations

from typing import Any

from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn

from hcl.models.backbone import Backbone, OnBackbone
from hcl.models.encoder import Draws, Encoder
from hcl.models.precision import in_full_precision

Pooled = Float[Tensor, "clip ..."]
"""What a head compares of each clip: a vector, or a map for RelationNet."""


class PooledModel(OnBackbone):
    """Clips to scores of an episode or to logits of the training classes.

    Args:
        backbone: see `hcl.models.backbone`.
        encoder: tokens are pooled instead of the backbone's grids; None as released.
        head: a module of `hcl.models.baselines`.
        frozen_stages, batch_norm: see `hcl.models.backbone.OnBackbone`.
    """

    def __init__(
        self,
        backbone: Backbone,
        encoder: Encoder | None,
        head: nn.Module,
        *,
        frozen_stages: int | None = 0,
        batch_norm: str = "train",
    ):
        super().__init__(backbone, frozen_stages=frozen_stages, batch_norm=batch_norm)
        self.encoder = encoder
        self.head: Any = head  # no class of its own: `pool`, and `classify` or a call, are all that is asked of it

    def tokens(
        self, clips: Num[Tensor, "clip frame channel _height _width"], draws: Draws = None
    ) -> tuple[Pooled, int]:
        """All that the head needs of each clip, to be kept for any number of episodes, and the rows of the grid.

        Args:
            clips: frames, or what the backbone's frozen stages have made of them.
            draws: in training with dropout in the encoder.
        """
        grids = self.grids(clips)
        rows = grids.shape[-2]
        if self.encoder is not None:
            grids = rearrange(self.encoder(grids, draws), "v t (y x) d -> v t d y x", y=rows)
        return self.head.pool(grids), rows

    def scores(self, pooled: Pooled, way: int, shot: int) -> Float[Tensor, "query way"]:
        """Of an episode's clips: support class by class, then the queries."""
        support, query = pooled[: way * shot], pooled[way * shot :]
        return self.head(query, support.unflatten(0, (way, shot)))

    def forward(
        self,
        clips: Num[Tensor, "clip frame channel _height _width"],
        way: int | None = None,
        shot: int = 1,
        draws: Draws = None,
    ) -> Float[Tensor, "clip_or_query class_or_way"]:
        """Scores of an episode of `way` classes, or, without it, logits of the training classes.

        Under autocast the pooled features alone are computed in its precision, as they are at test.
        """
        pooled, _ = self.tokens(clips, draws)
        with in_full_precision(pooled.device):
            pooled = pooled.to(self.backbone.mean.dtype)
            return self.head.classify(pooled) if way is None else self.scores(pooled, way, shot)
