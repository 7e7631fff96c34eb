"""Define the transformer of one of MoLo's two streams, under the parameter names of the released checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hcl.rivals.attention import NormedAttention
from hcl.rivals.heads import Keys, thinned
from hcl.rivals.positions import hyrsm_positions

DROPOUTS = 4
"""The number of dropouts in a stream."""


class FeedForward(nn.Module):
    """Add a network with one hidden layer to the tokens and apply ReLU; there is no layer norm, as released."""

    def __init__(self, channels: int, hidden: int, *, dropout: float, place: int):
        super().__init__()
        # The second linear map is the fourth entry in the released checkpoints.
        self.net = nn.ModuleDict({"0": nn.Linear(channels, hidden), "3": nn.Linear(hidden, channels)})
        self.rate, self.place = dropout, place

    def forward(self, x: Float[Tensor, "clip token channel"], keys: Keys) -> Float[Tensor, "clip token channel"]:
        hidden = thinned(nn.functional.gelu(self.net["0"](x)), keys, self.place, self.rate)
        return (x + thinned(self.net["3"](hidden), keys, self.place + 1, self.rate)).relu()


class Stream(nn.Module):
    """Relate the tokens of a clip in one transformer layer, after scaling them and adding positions.

    Args:
        scale, position_factor: factors of the features and of the positions.
        dropouts: rates after the positions, after the attention, and at the two places of the feed-forward network.
        place: index of the first of the stream's `DROPOUTS` dropouts in the model.
    """

    def __init__(
        self,
        channels: int,
        *,
        n_heads: int,
        hidden: int,
        scale: float,
        position_factor: float,
        dropouts: tuple[float, float, float],
        place: int,
    ):
        super().__init__()
        self.scale, self.position_factor, self.place = scale, position_factor, place
        self.position_dropout, frame_dropout, hidden_dropout = dropouts
        attention = NormedAttention(channels, n_heads, dropout=frame_dropout, place=place + 1)
        network = FeedForward(channels, hidden, dropout=hidden_dropout, place=place + 2)
        self.layers = nn.ModuleList([nn.ModuleList([attention, network])])

    def forward(
        self, frames: Float[Tensor, "clip frame channel"], token: Float[Tensor, "1 1 channel"], keys: Keys
    ) -> Float[Tensor, "clip token channel"]:
        """Return the tokens: the clip's own, which stands for all of it, and those of its frames."""
        tokens = torch.cat([token.to(frames.dtype).expand(len(frames), -1, -1), frames], dim=1)
        placed = self.scale * tokens + self.position_factor * hyrsm_positions(tokens.shape[1], tokens)
        layers: Any = self.layers
        ((attention, network),) = layers
        return network(attention(thinned(placed, keys, self.place, self.position_dropout), keys), keys)
