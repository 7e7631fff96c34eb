"""Classify by attention between tuples of frames (TRX: Perrett et al., CVPR 2021).

The numbers of oddities are those of `hcl/rivals/README.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hcl.models.tuples import tuple_frames
from hcl.rivals.heads import Draws, Keys, Output, Targets, active, clip_keys, divided, joined, matching_loss, thinned
from hcl.rivals.positions import trx_positions


@dataclass(frozen=True)
class TrxSettings:
    """Hold the settings of TRX; the defaults are the released ones.

    Attributes:
        tuple_sizes: the cardinalities; each has its own weights, and their logits are averaged.
        key_dim: width of keys and values.
        position_scale: factor of the sines and cosines that are added to the features.
        dropout: rate on the features, drawn anew for each cardinality (oddity 7).
        unused_norm: keep the weights of the released `norm_v`, which nothing reads (oddity 4).
        loss: `sum` adds the cross entropy of an episode's queries, as the authors' code does; `mean` averages it, as
            re-implementations do, so that steps of SGD are smaller by the number of queries (oddity 6).
        chunk_size: tuples of an episode's queries compared at a time. More than one chunk is computed a second time in
            the backward pass, which bounds memory; it never changes a result.
    """

    tuple_sizes: tuple[int, ...] = (2, 3)
    key_dim: int = 1152
    position_scale: float = 0.1
    dropout: float = 0.1
    unused_norm: bool = True
    loss: Literal["sum", "mean"] = "sum"
    chunk_size: int = 4096

    CORRECTED: ClassVar[Mapping[str, Any]] = {"unused_norm": False}


class TupleTransformer(nn.Module):
    """Compare tuples of one size: a query's tuple with the mixture of a class's tuples that its attention selects.

    The linear maps of a tuple's concatenated frames are sums of maps of single frames. They are computed once a frame
    and place in the tuple, instead of once a tuple: 3.5 times fewer products for pairs of 8 frames, 7 for triplets.

    Args:
        channels: width of the frame features.
        size: frames in a tuple.
        unused_norm, chunk_size: as in `TrxSettings`.
    """

    def __init__(self, channels: int, size: int, key_dim: int, *, unused_norm: bool, chunk_size: int):
        super().__init__()
        self.size, self.chunk_size = size, chunk_size
        self.k_linear = nn.Linear(channels * size, key_dim)
        self.v_linear = nn.Linear(channels * size, key_dim)
        self.norm_k = nn.LayerNorm(key_dim)
        if unused_norm:
            self.norm_v = nn.LayerNorm(key_dim).requires_grad_(False)

    @property
    def width(self) -> int:
        """Return the width of a frame's encoding: key and value for each place in a tuple."""
        return 2 * self.size * self.k_linear.out_features

    def encode(self, frames: Float[Tensor, "clip frame channel"]) -> Float[Tensor, "clip frame encoding"]:
        """Return what each frame adds to the key and to the value of a tuple at each place."""
        weight = torch.cat(
            [rearrange(each.weight, "e (n c) -> (n e) c", n=self.size) for each in (self.k_linear, self.v_linear)]
        )
        return frames @ weight.T

    def tuples(
        self, encoded: Float[Tensor, "*clip frame encoding"]
    ) -> tuple[Float[Tensor, "*clip tuple key"], Float[Tensor, "*clip tuple key"]]:
        """Return the keys and the values of all tuples."""
        parts = rearrange(encoded, "... t (two n e) -> two n ... t e", two=2, n=self.size)
        frames = tuple_frames(encoded.shape[-2], self.size, encoded.device)
        keys, values = (
            sum((part[place][..., frames[:, place], :] for place in range(self.size)), linear.bias)
            for part, linear in zip(parts, (self.k_linear, self.v_linear), strict=True)
        )
        return self.norm_k(keys), values

    def forward(
        self,
        support: Float[Tensor, "episode way shot frame encoding"],
        query: Float[Tensor, "episode query frame encoding"],
    ) -> Float[Tensor, "episode query way"]:
        """Return minus the mean squared distance of a query's tuples to their mixtures of each class's tuples."""
        keys, values = (rearrange(part, "b w s n e -> b w (s n) e") for part in self.tuples(support))
        query_keys, query_values = (rearrange(part, "b q n e -> b (q n) e") for part in self.tuples(query))
        n_rows = query_keys.shape[1]
        compare = partial(_squared_distances, keys, values)
        if self.chunk_size < n_rows:
            compare = partial(checkpoint, compare, use_reentrant=False, preserve_rng_state=False)
        chunks = zip(query_keys.split(self.chunk_size, 1), query_values.split(self.chunk_size, 1), strict=True)
        distances = torch.cat([compare(*chunk) for chunk in chunks], dim=2)
        return -reduce(distances, "b w (q n) -> b q w", "mean", q=query.shape[1])


def _squared_distances(
    keys: Float[Tensor, "episode way tuple key"],
    values: Float[Tensor, "episode way tuple key"],
    query_keys: Float[Tensor, "episode row key"],
    query_values: Float[Tensor, "episode row key"],
) -> Float[Tensor, "episode way row"]:
    """Return the squared distance of each row's value to the class's values, weighted by attention over all of them."""
    affinity = query_keys[:, None] @ keys.transpose(-1, -2) / math.sqrt(keys.shape[-1])
    prototypes = affinity.softmax(dim=-1) @ values
    return (query_values[:, None] - prototypes).square().sum(dim=-1)


class Trx(nn.Module):
    """Average the logits of tuples of each size.

    Args:
        channels: width of the frame features.
    """

    takes_maps = False

    def __init__(self, channels: int, settings: TrxSettings | None = None):
        super().__init__()
        self.settings = settings = settings or TrxSettings()
        self.transformers = nn.ModuleList(
            TupleTransformer(
                channels, size, settings.key_dim, unused_norm=settings.unused_norm, chunk_size=settings.chunk_size
            )
            for size in settings.tuple_sizes
        )

    @property
    def weights(self) -> dict[str, float]:
        return {"match": 1.0}

    def scores_by_pairs(self, shot: int) -> bool:
        return shot == 1  # attention compares the tuples of all shots

    def encode(
        self, clips: Float[Tensor, "clip frame channel"], keys: Keys = None
    ) -> Float[Tensor, "clip frame encoding"]:
        """Return each frame's parts of the keys and values of all tuples, for every size one after another."""
        placed = clips + self.settings.position_scale * trx_positions(clips.shape[1], clips)
        rate = self.settings.dropout
        parts = [each.encode(thinned(placed, keys, place, rate)) for place, each in enumerate(self.transformers)]  # type: ignore[operator]
        return torch.cat(parts, dim=-1)

    def match(
        self,
        support: Float[Tensor, "episode way shot frame encoding"],
        query: Float[Tensor, "episode query frame encoding"],
        draws: Draws | None = None,
    ) -> Output:
        return Output(torch.stack(self.logits_by_size(support, query)).mean(dim=0))

    def logits_by_size(
        self,
        support: Float[Tensor, "episode way shot frame encoding"],
        query: Float[Tensor, "episode query frame encoding"],
    ) -> list[Float[Tensor, "episode query way"]]:
        """Return the logits that tuples of each size give."""
        widths: list[int] = [each.width for each in self.transformers]  # type: ignore[misc]
        parts = zip(self.transformers, support.split(widths, -1), query.split(widths, -1), strict=True)
        return [transformer(*clips) for transformer, *clips in parts]

    def forward(
        self,
        support: Float[Tensor, "episode way shot frame channel"],
        query: Float[Tensor, "episode query frame channel"],
        draws: Draws | None = None,
    ) -> Output:
        draws = active(draws, training=self.training, rates=(self.settings.dropout,))
        encoded = self.encode(joined(support, query), clip_keys(draws))
        return self.match(*divided(encoded, support, query))

    def losses(self, output: Output, targets: Targets) -> dict[str, Float[Tensor, ""]]:
        return {"match": matching_loss(output.logits, targets.labels, summed=self.settings.loss == "sum")}
