"""Define the attention layers of HyRSM and MoLo, under the parameter names of the released checkpoints."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from hcl.rivals.heads import N_HEADS, Keys, thinned


class SelfAttention(nn.Module):
    """Relate the tokens of each clip with each other; heads are consecutive blocks of channels."""

    def __init__(self, channels: int, n_heads: int = N_HEADS):
        super().__init__()
        check_heads(channels, n_heads)
        self.n_heads = n_heads
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Float[Tensor, "clip token channel"]) -> Float[Tensor, "clip token channel"]:
        parts = rearrange(self.to_qkv(x), "v n (part h e) -> part v h n e", part=3, h=self.n_heads)
        return self.to_out(attend(*parts.unbind()))


class NormedAttention(nn.Module):
    """Apply layer norm and attention, and add the result to the tokens: x + dropout(attention(norm(x)))."""

    def __init__(self, channels: int, n_heads: int = N_HEADS, *, dropout: float, place: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fn = SelfAttention(channels, n_heads)
        self.rate, self.place = dropout, place

    def forward(self, x: Float[Tensor, "clip token channel"], keys: Keys = None) -> Float[Tensor, "clip token channel"]:
        return x + thinned(self.fn(self.norm(x)), keys, self.place, self.rate)


class EpisodeAttention(nn.Module):
    """Relate a query with the supports of its episode, for each query alone; without positions.

    Args:
        attention_dropout, dropout: rates on the attention weights and on the output.
        place: index of the first of the two dropouts in the model.
    """

    def __init__(self, channels: int, n_heads: int = N_HEADS, *, attention_dropout: float, dropout: float, place: int):
        super().__init__()
        check_heads(channels, n_heads)
        self.n_heads, self.attention_dropout, self.dropout, self.place = n_heads, attention_dropout, dropout, place
        self.w_qs, self.w_ks, self.w_vs = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.layer_norm = nn.LayerNorm(channels)
        self.fc = nn.Linear(channels, channels)
        for linear in (self.w_qs, self.w_ks, self.w_vs):
            nn.init.normal_(linear.weight, std=math.sqrt(2 / (channels + channels / n_heads)))
        nn.init.xavier_normal_(self.fc.weight)

    def forward(
        self,
        items: Float[Tensor, "episode item channel"],
        query: Float[Tensor, "episode query channel"],
        keys: Keys = None,
    ) -> Float[Tensor, "episode query token channel"]:
        """Return the tokens of each query: those of the items, which see the query, and last its own.

        Items are projected once for all queries of their episode.

        Args:
            keys: of the queries, for dropout.
        """
        n_queries = query.shape[1]
        parts = [
            rearrange(_with_query(linear(items), linear(query)), "b q n (h e) -> (b q) h n e", h=self.n_heads)
            for linear in (self.w_qs, self.w_ks, self.w_vs)
        ]
        joined = attend(*parts, keys=keys, place=self.place, rate=self.attention_dropout)
        related = thinned(self.fc(joined), keys, self.place + 1, self.dropout)
        tokens = rearrange(related, "(b q) n c -> b q n c", q=n_queries) + _with_query(items, query)
        return self.layer_norm(tokens)


def attend(
    query: Float[Tensor, "clip head token dim"],
    key: Float[Tensor, "clip head token dim"],
    value: Float[Tensor, "clip head token dim"],
    *,
    keys: Keys = None,
    place: int = 0,
    rate: float = 0.0,
) -> Float[Tensor, "clip token channel"]:
    """Return scaled dot-product attention with the heads side by side, with dropout on the attention weights.

    Written out, because torch's fused attention draws its own dropout.
    """
    weights = (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(dim=-1)
    return rearrange(thinned(weights, keys, place, rate) @ value, "v h n e -> v n (h e)")


def check_heads(channels: int, n_heads: int) -> None:
    """Raise ValueError if the channels cannot be divided among the heads."""
    if channels % n_heads:
        raise ValueError(f"{channels} channels cannot be divided among {n_heads} heads of attention")


def _with_query(
    items: Float[Tensor, "episode item channel"], query: Float[Tensor, "episode query channel"]
) -> Float[Tensor, "episode query token channel"]:
    """Return the tokens of each query: all items and the query itself."""
    shared = items[:, None].expand(-1, query.shape[1], -1, -1)
    return torch.cat([shared, query[:, :, None]], dim=2)
