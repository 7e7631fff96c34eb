"""Define the model of every regime but `hcl`: a backbone, an optional encoder and a head that compares features."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn

from hcl.models.backbone import Backbone, OnBackbone
from hcl.models.encoder import Draws, Encoder
from hcl.models.precision import in_full_precision

Pooled = Float[Tensor, "clip ..."]
"""Pooled features of each clip: a vector, or a map for RelationNet."""


class PooledModel(OnBackbone):
    """Turn clips into scores of an episode or into logits of the training classes.

    Args:
        backbone: see `hcl.models.backbone`.
        encoder: its tokens are pooled; with None, as released, the backbone's grids are pooled.
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
        self.head: Any = head  # any module with `pool` and with `classify` or a call

    def tokens(
        self, clips: Num[Tensor, "clip frame channel _height _width"], draws: Draws = None
    ) -> tuple[Pooled, int]:
        """Return the pooled features of each clip, which serve any number of episodes, and the rows of the grid.

        Args:
            clips: frames, or the cached output of the backbone's frozen stages.
            draws: keys of the clips, required in training with dropout in the encoder.
        """
        grids = self.grids(clips)
        rows = grids.shape[-2]
        if self.encoder is not None:
            grids = rearrange(self.encoder(grids, draws), "v t (y x) d -> v t d y x", y=rows)
        return self.head.pool(grids), rows

    def scores(self, pooled: Pooled, way: int, shot: int) -> Float[Tensor, "query way"]:
        """Return the scores of an episode's clips, ordered as the support set class by class, then the queries."""
        return self.scores_of_many(pooled[None], way, shot)[0]

    def scores_of_many(
        self, pooled: Float[Tensor, "episode clip ..."], way: int, shot: int
    ) -> Float[Tensor, "episode query way"]:
        """Return the scores of several episodes of the same shape; a head that takes many at once gets all of them."""
        support, query = pooled[:, : way * shot].unflatten(1, (way, shot)), pooled[:, way * shot :]
        if getattr(self.head, "takes_many", False):
            return self.head(query, support)
        return torch.stack([self.head(*episode) for episode in zip(query, support, strict=True)])

    def forward(
        self,
        clips: Num[Tensor, "clip frame channel _height _width"],
        way: int | None = None,
        shot: int = 1,
        draws: Draws = None,
    ) -> Float[Tensor, "clip_or_query class_or_way"]:
        """Return the scores of an episode of `way` classes or, without `way`, the logits of the training classes.

        Under autocast only the pooled features are computed in its precision, as in evaluation.
        """
        pooled, _ = self.tokens(clips, draws)
        with in_full_precision(pooled.device):
            pooled = pooled.to(self.backbone.mean.dtype)
            return self.head.classify(pooled) if way is None else self.scores(pooled, way, shot)
