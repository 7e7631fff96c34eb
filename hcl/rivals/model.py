"""Put a head of this package on a backbone: the model of the regimes OTAM, TRX, HyRSM, HyRSM++, MoLo and probe."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor

from hcl.models.encoder import Draws as ClipDraws
from hcl.models.pooled import PooledModel
from hcl.models.precision import in_full_precision
from hcl.rivals.heads import Draws, Output

_HEAD_PLACES = 1000
"""Added to the keys of the head's dropout draws, so that the encoder's dropouts draw other numbers."""


class HeadModel(PooledModel):
    """Turn the clips of an episode into what a head computes of them.

    The head (`hcl.rivals.heads.Head`) sees the mean of each frame's features, or all of them if it `takes_maps`.
    """

    def tokens(
        self, clips: Num[Tensor, "clip frame channel _height _width"], draws: ClipDraws = None
    ) -> tuple[Float[Tensor, "clip ..."], int]:
        """Return what the head keeps of each clip, which serves any number of episodes, and the rows of the grid.

        Args:
            clips: frames, or the cached output of the backbone's frozen stages.
        """
        features, rows = self.frames(clips, draws)
        with in_full_precision(features.device):
            return self.head.encode(features.to(self.backbone.mean.dtype)), rows

    def scores_of_many(
        self, encoded: Float[Tensor, "episode clip ..."], way: int, shot: int
    ) -> Float[Tensor, "episode query way"]:
        support, query = _divided(encoded, way, shot)
        logits: Tensor = self.head.match(support, query).logits
        return logits

    def forward(  # type: ignore[override]  # more than scores: what the losses need
        self, clips: Num[Tensor, "clip frame channel _height _width"], way: int, shot: int, draws: ClipDraws = None
    ) -> Output:
        """Return the head's output for one episode of `way` classes; only the features are computed under autocast."""
        features, _ = self.frames(clips, draws)
        with in_full_precision(features.device):
            support, query = _divided(features.to(self.backbone.mean.dtype)[None], way, shot)
            keys = None
            if draws is not None:
                keys = Draws(*_divided(draws[None] + _HEAD_PLACES, way, shot))
            output: Output = self.head(support, query, keys)
        return output

    def frames(
        self, clips: Num[Tensor, "clip frame channel _height _width"], draws: ClipDraws = None
    ) -> tuple[Float[Tensor, "clip frame feature *cell"], int]:
        """Return the features that the head sees, in the precision of the forward pass, and the rows of the grid."""
        grids = self.grids(clips)
        rows = grids.shape[-2]
        if self.encoder is not None:
            grids = rearrange(self.encoder(grids, draws), "v t (y x) d -> v t d y x", y=rows)
        return grids if self.head.takes_maps else grids.mean(dim=(-1, -2)), rows


def _divided(clips: Num[Tensor, "episode clip ..."], way: int, shot: int) -> tuple[Tensor, Tensor]:
    return clips[:, : way * shot].unflatten(1, (way, shot)), clips[:, way * shot :]
