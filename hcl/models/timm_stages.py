"""Cut networks of timm into stages that follow each other, so that the lowest ones can be frozen and cached.

The output of every stage is (frame, channel, row, column). The tokens of a vision transformer, with those of class and
registers in front, stand in one column between its stages, and its patches form the grid after the last one.
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import Any, NamedTuple

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from hcl.errors import BackboneError

GROUPS = 4
"""Groups of blocks of a vision transformer, each of which is a stage after that of the embedding."""


class Stages(NamedTuple):
    """Hold a network in stages.

    Attributes:
        body: the layers in order.
        starts: index in `body` of the first layer of each stage after the first.
        channels: channels of the last output.
        cell: pixels of the frame a side of a cell of the last output.
    """

    body: nn.Sequential
    starts: tuple[int, ...]
    channels: int
    cell: int

    @property
    def n_stages(self) -> int:
        return len(self.starts) + 1


class Tokens(nn.Module):
    """Compute a vision transformer's tokens before its blocks: patches, class and registers, with their positions."""

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Float[Tensor, "frame channel token 1"]:
        return _as_column(self.network.forward_features(frames))


class Blocks(nn.Module):
    """Compute some of a vision transformer's blocks.

    Args:
        rope: rotary positions that the blocks take; it has no parameters.
        n_prefix: tokens before those of the patches.
    """

    def __init__(self, blocks: list[nn.Module], rope: Any, n_prefix: int):
        super().__init__()
        self.blocks, self.rope, self.n_prefix = nn.ModuleList(blocks), rope, n_prefix

    def forward(self, column: Float[Tensor, "frame channel token 1"]) -> Tensor:
        tokens = rearrange(column, "n c t 1 -> n t c")
        positions = {}
        if self.rope is not None:
            side = math.isqrt(tokens.shape[1] - self.n_prefix)
            positions["rope"] = self.rope.get_embed(shape=(side, side))
        for block in self.blocks:
            tokens = block(tokens, **positions)
        return _as_column(tokens)


class PatchGrid(nn.Module):
    """Normalise the last tokens and lay out those of the patches as a square grid."""

    def __init__(self, norm: nn.Module, n_prefix: int):
        super().__init__()
        self.norm, self.n_prefix = norm, n_prefix

    def forward(self, column: Float[Tensor, "frame channel token 1"]) -> Float[Tensor, "frame channel row column"]:
        patches = self.norm(rearrange(column, "n c t 1 -> n t c"))[:, self.n_prefix :]
        return rearrange(patches, "n (y x) c -> n c y x", y=math.isqrt(patches.shape[1]))


class LastLevel(nn.Module):
    """Compute the last level of a network that cannot be cut."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        level: Tensor = self.network(frames)[-1]
        return level


class ChannelsFirst(nn.Module):
    """Move the channels of (frame, row, column, channel) before rows and columns."""

    def forward(self, grid: Tensor) -> Float[Tensor, "frame channel row column"]:
        return rearrange(grid, "n y x c -> n c y x")


def has_groups(network: nn.Module) -> bool:
    """Return true for a vision transformer whose blocks follow each other and share no learnt positions."""
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    features = getattr(type(network), "forward_features", None)
    if features is VisionTransformer.forward_features:
        return True
    return features is Eva.forward_features and not any(True for _ in _rope_parameters(network))


def groups_of(network: Any) -> Stages:
    """Cut a vision transformer into the embedding and four groups of blocks; it is taken apart."""
    blocks, rope, n_prefix = list(network.blocks), getattr(network, "rope", None), network.num_prefix_tokens
    n_groups = min(GROUPS, len(blocks))
    bounds = [group * len(blocks) // n_groups for group in range(n_groups + 1)]
    groups = [Blocks(blocks[first:last], copy.deepcopy(rope), n_prefix) for first, last in pairwise(bounds)]
    end = PatchGrid(network.norm, n_prefix)
    network.blocks, network.norm = type(network.blocks)(), nn.Identity()
    network.fc_norm, network.head, network.attn_pool = nn.Identity(), nn.Identity(), None
    if rope is not None:
        network.rope = None
    cell = network.patch_embed.patch_size[0]
    return Stages(nn.Sequential(Tokens(network), *groups, end), tuple(range(1, n_groups + 1)), network.embed_dim, cell)


def levels_of(network: Any) -> Stages:
    """Cut a network that timm made with `features_only` after each of its levels, or leave it whole.

    Raises:
        BackboneError: timm reads its levels by hooks, which a copy of the network would not have.
    """
    from timm.models._features import FeatureDictNet, FeatureHookNet

    if isinstance(network, FeatureHookNet) or getattr(network, "feature_hooks", None) is not None:
        raise BackboneError(
            "timm reads the levels of this network by hooks, which stages cannot do",
            where="model.backbone",
            remedy="name a vision transformer or another network of timm",
        )
    info = network.feature_info
    if isinstance(network, FeatureDictNet):
        layers, ends = list(network.values()), [name in network.return_layers for name in network]
    elif hasattr(network, "_stage_out_idx"):  # EfficientNet and MobileNet
        stem = [network.conv_stem, network.bn1, *([network.act1] if hasattr(network, "act1") else [])]
        layers, ends = [*stem, *network.blocks], [False] * (len(stem) - 1)
        ends += [index in network._stage_out_idx for index in range(len(network.blocks) + 1)]
        last = max(index for index, ends_level in enumerate(ends) if ends_level)
        layers, ends = layers[: last + 1], ends[: last + 1]
    else:
        layers, ends = [LastLevel(network)], [True]
    starts = tuple(index + 1 for index, ends_level in enumerate(ends[:-1]) if ends_level)
    if str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC"):
        layers.append(ChannelsFirst())
    return Stages(nn.Sequential(*layers), starts, info.channels()[-1], info.reduction()[-1])


def _as_column(tokens: Tensor) -> Float[Tensor, "frame channel token 1"]:
    return rearrange(tokens, "n t c -> n c t 1")


def _rope_parameters(network: nn.Module) -> Any:
    rope = getattr(network, "rope", None)
    return () if rope is None else rope.parameters()
