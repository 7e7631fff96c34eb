"""Turn patch grids into tokens by a projection, position embeddings and a transformer over all frames and patches.

See METHOD "Features" 2 to 4. The position embedding is added to queries and keys of each attention, never to values.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hcl.models.dropout import dropped

LAYER_NORM_EPS = 1e-5
"""Epsilon of the transformer's layer norms; the matching heads use `hcl.models.hcl.HEAD_NORM_EPS`."""


class LearnedPositions(nn.Module):
    """Embed positions by learnt tables, initialised uniform(0, 1): (temporal,) column and row parts side by side.

    Args:
        d_model: width of the embedding, divided into d - 2*(d//3), d//3, d//3 with time and d/2, d/2 without.
        max_positions: rows of each table: the maximum of the number of frames and the grid's sides.
        temporal: embed the frame's number as well (`3d_learned`).
    """

    def __init__(self, d_model: int, max_positions: int, *, temporal: bool):
        super().__init__()
        d_space = d_model // 3 if temporal else d_model // 2
        self.row = nn.Embedding(max_positions, d_space)
        self.column = nn.Embedding(max_positions, d_space)
        self.temporal = nn.Embedding(max_positions, d_model - 2 * d_space) if temporal else None
        for table in self.children():
            nn.init.uniform_(table.weight)  # type: ignore[arg-type]

    def forward(self, frames: int, rows: int, columns: int) -> Float[Tensor, "token dim"]:
        """Return the embedding of each token. Raises ValueError if a table has too few rows."""
        if max(frames, rows, columns) > self.row.num_embeddings:
            raise ValueError(
                f"{frames} frames of {rows} x {columns} patches need max_positions >= {max(frames, rows, columns)}, "
                f"the tables have {self.row.num_embeddings}"
            )
        parts = [
            repeat(self.column.weight[:columns], "x d -> (t y x) d", t=frames, y=rows),
            repeat(self.row.weight[:rows], "y d -> (t y x) d", t=frames, x=columns),
        ]
        if self.temporal is not None:
            parts.insert(0, repeat(self.temporal.weight[:frames], "t d -> (t y x) d", y=rows, x=columns))
        return torch.cat(parts, dim=-1)


class SinePositions(nn.Module):
    """Embed row and column, normalised to 2 pi, by sines and cosines of geometric wavelengths, equal for all frames."""

    def __init__(self, d_model: int):
        super().__init__()
        self.d_half = d_model // 2
        self.anchor = nn.Buffer(torch.zeros(1), persistent=False)  # carries device and dtype

    def forward(self, frames: int, rows: int, columns: int) -> Float[Tensor, "token dim"]:
        row = self._table(rows)
        column = self._table(columns)
        return torch.cat(
            [
                repeat(row, "y d -> (t y x) d", t=frames, x=columns),
                repeat(column, "x d -> (t y x) d", t=frames, y=rows),
            ],
            dim=-1,
        )

    def _table(self, length: int) -> Float[Tensor, "position half"]:
        position = torch.arange(1, length + 1, device=self.anchor.device, dtype=self.anchor.dtype)
        position = position / (length + 1e-6) * 2 * math.pi
        channel = torch.arange(self.d_half, device=self.anchor.device, dtype=self.anchor.dtype)
        angle = position[:, None] / 10000 ** (2 * torch.div(channel, 2, rounding_mode="floor") / self.d_half)
        return rearrange([angle[:, 0::2].sin(), angle[:, 1::2].cos()], "two position d -> position (d two)")


def make_positions(kind: str, d_model: int, max_positions: int) -> nn.Module:
    """Build the module of `3d_learned`, `2d_learned` or `2d_sine`: (frames, rows, columns) -> (token, d_model)."""
    if kind == "2d_sine":
        return SinePositions(d_model)
    return LearnedPositions(d_model, max_positions, temporal=kind == "3d_learned")


Draws = Int[Tensor, "clip"] | None
"""Key of each clip's dropout draws (`hcl.models.dropout`); None means no dropout."""

_PLACES = 4  # dropouts in a layer: attention weights, attention output, hidden units, output


class EncoderLayer(nn.Module):
    """Apply self-attention and a feed-forward network with residuals, normalised after each (default) or before.

    Args:
        number: index of the layer in its encoder, so that each layer drops different values.
    """

    def __init__(
        self, d_model: int, n_heads: int, dim_feedforward: int, dropout: float, *, pre_norm: bool, number: int = 0
    ):
        super().__init__()
        self.pre_norm, self.rate, self.first_place = pre_norm, dropout, _PLACES * number
        self.attention = nn.MultiheadAttention(d_model, n_heads, batch_first=True)
        self.linear1 = nn.Linear(d_model, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, d_model)
        self.norm1 = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)
        self.norm2 = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)

    def forward(
        self, x: Float[Tensor, "clip token dim"], positions: Float[Tensor, "token dim"], draws: Draws = None
    ) -> Float[Tensor, "clip token dim"]:
        """Return the layer's output. Raises ValueError if dropout is active and `draws` is None."""
        if not (self.training and self.rate):
            draws = None
        elif draws is None:
            raise ValueError(f"dropout of {self.rate} in training needs the draws of each clip")
        if self.pre_norm:
            x = x + self._attend(self.norm1(x), positions, draws)
            return x + self._feed_forward(self.norm2(x), draws)
        x = self.norm1(x + self._attend(x, positions, draws))
        return self.norm2(x + self._feed_forward(x, draws))

    def _attend(self, x: Tensor, positions: Tensor, draws: Draws) -> Tensor:
        placed = x + positions
        if draws is None:
            return self.attention(placed, placed, x, need_weights=False)[0]
        return self._dropped(self._attend_with_dropout(placed, x, draws), draws, 1)

    def _attend_with_dropout(
        self, placed: Float[Tensor, "clip token dim"], x: Float[Tensor, "clip token dim"], draws: Draws
    ) -> Float[Tensor, "clip token dim"]:
        """Compute the attention of `nn.MultiheadAttention` with our dropout instead of torch's generator."""
        attention = self.attention
        weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
        query, key, value = (
            rearrange(functional.linear(part, weight, bias), "v n (h d) -> v h n d", h=attention.num_heads)
            for part, weight, bias in zip((placed, placed, x), weights, biases, strict=True)
        )
        affinity = (query / math.sqrt(attention.head_dim)) @ key.transpose(-1, -2)
        joined = self._dropped(affinity.softmax(dim=-1), draws, 0) @ value
        return attention.out_proj(rearrange(joined, "v h n d -> v n (h d)"))

    def _feed_forward(self, x: Tensor, draws: Draws) -> Tensor:
        hidden = self._dropped(functional.gelu(self.linear1(x)), draws, 2)
        return self._dropped(self.linear2(hidden), draws, 3)

    def _dropped(self, x: Tensor, draws: Draws, place: int) -> Tensor:
        return x if draws is None else dropped(x, draws, self.first_place + place, self.rate)


class Encoder(nn.Module):
    """Turn grids of backbone features (clip, frame, channel, row, column) into tokens (clip, frame, patch, d_model).

    Args:
        channels: channels of the backbone's grid.
        n_layers: with 0 there is neither attention between tokens nor a position embedding.
        dim_feedforward: width inside each layer; the release uses the backbone's channels.
        The rest as in `hcl.config.Model`.
    """

    def __init__(
        self,
        channels: int,
        *,
        d_model: int,
        n_layers: int = 1,
        n_heads: int = 8,
        dim_feedforward: int | None = None,
        dropout: float = 0.1,
        pre_norm: bool = False,
        position_embedding: str = "3d_learned",
        max_positions: int = 10,
    ):
        super().__init__()
        self.input_proj = nn.Linear(channels, d_model)  # a 1x1 convolution, applied to tokens
        self.positions = make_positions(position_embedding, d_model, max_positions) if n_layers else None
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, n_heads, dim_feedforward or channels, dropout, pre_norm=pre_norm, number=number)
            for number in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS) if pre_norm else nn.Identity()
        for matrix in self.layers.parameters():  # DETR's initialisation, on the transformer only
            if matrix.dim() > 1:
                nn.init.xavier_uniform_(matrix)

    def forward(
        self, grids: Float[Tensor, "clip frame channel row column"], draws: Draws = None
    ) -> Float[Tensor, "clip frame patch dim"]:
        """Return the tokens. Raises ValueError as `EncoderLayer` does."""
        _, frames, _, rows, columns = grids.shape
        x = self.input_proj(rearrange(grids, "v t c y x -> v (t y x) c"))
        if self.positions is not None:
            positions = self.positions(frames, rows, columns)
            for layer in self.layers:
                x = layer(x, positions, draws)
        return rearrange(self.norm(x), "v (t p) d -> v t p d", t=frames)
