"""Adapt a backbone by few new weights while its own stay as they are: low-rank updates (LoRA) or bottleneck adapters.

This is code of our own because the library peft cannot build layers without content, which the dry run of memory needs,
has no bottleneck adapters, and takes three packages and seconds of import in every worker.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from einops import einsum
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from hcl.errors import BackboneError
from hcl.models.backbone import Backbone

_PARTS = {"attention": ("attn",), "mlp": ("mlp",), "all": ("attn", "mlp")}
"""Names of the parts of a block in timm, by the value of `model.tune_targets`."""


class LowRank(nn.Module):
    """Add a product of two learnt matrices to the weight of a layer (LoRA, Hu et al., 2021); it is zero at first.

    Args:
        base: the layer, whose own weight is not trained.
        rank: rows of the first matrix. The update is not scaled: its alpha equals its rank.
    """

    def __init__(self, base: nn.Linear | nn.Conv2d, rank: int):
        super().__init__()
        self.base = base
        self.down: nn.Module
        self.up: nn.Module
        if isinstance(base, nn.Linear):
            self.down, self.up = (
                nn.Linear(base.in_features, rank, bias=False),
                nn.Linear(rank, base.out_features, False),
            )
        else:
            place: dict[str, Any] = {name: getattr(base, name) for name in ("stride", "padding", "dilation")}
            self.down = nn.Conv2d(base.in_channels, rank, base.kernel_size, bias=False, **place)  # type: ignore[arg-type]
            self.up = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))  # type: ignore[arg-type]
        nn.init.zeros_(self.up.weight)  # type: ignore[arg-type]

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.base(inputs) + self.up(self.down(inputs))
        return output

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return a layer of the base's kind with the sum of both weights."""
        layer = copy.deepcopy(self.base)
        up, down = self.up.weight, self.down.weight
        layer.weight += einsum(up.flatten(1), down, "out rank, rank ... -> out ...")  # type: ignore[operator, arg-type]
        return layer


class Adapter(nn.Module):
    """Add a small network to the output of a part of a block (Houlsby et al., 2019); it gives zero at first.

    Args:
        part: the part, which is not trained; the last axis of its output holds the channels.
        width: number of channels.
        rank: channels of the small network's hidden layer.
    """

    def __init__(self, part: nn.Module, width: int, rank: int):
        super().__init__()
        self.part, self.down, self.up = part, nn.Linear(width, rank), nn.Linear(rank, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, *inputs: Any, **options: Any) -> Tensor:
        output: Tensor = self.part(*inputs, **options)
        return output + self.up(functional.gelu(self.down(output)))


def adapt(backbone: Backbone, *, kind: str, rank: int, targets: str, frozen_stages: int, size: int) -> None:
    """Stop training of a backbone's own weights, and add new ones to the stages that are not frozen.

    Args:
        kind: `lora` or `adapters`.
        targets: `attention` or `mlp` parts of blocks, or `all`: both, and for `lora` every other layer too.
        size: pixels a side of a frame.

    Raises:
        BackboneError: these stages have no such layers.
    """
    backbone.requires_grad_(False)
    shapes = _output_shapes(backbone, size)
    above = {id(module) for module in backbone.layers_above(frozen_stages).modules()}
    chosen = [(name, module) for name, module in backbone.named_modules() if id(module) in above and name in shapes]
    layers: list[tuple[str, nn.Module]]
    if kind == "lora":
        layers = [(name, LowRank(module, rank)) for name, module in _layers(chosen, targets)]
    else:
        layers = [(name, Adapter(module, shapes[name][-1], rank)) for name, module in _parts(chosen, targets)]
    if not layers:
        raise BackboneError(
            f"has no layers for model.tune={kind} with model.tune_targets={targets} above its {frozen_stages} frozen "
            "stages",
            where="model.backbone",
            remedy="set model.tune_targets=all with model.tune=lora, or tune its stages: model.tune=stages",
        )
    for name, layer in layers:
        backbone.set_submodule(name, layer)
    backbone.given = tuple(
        name for name, value in backbone.state_dict(keep_vars=True).items() if not value.requires_grad
    )


def merge(backbone: nn.Module) -> None:
    """Replace every low-rank update by one layer that computes the same."""
    for name, module in list(backbone.named_modules()):
        if isinstance(module, LowRank):
            backbone.set_submodule(name, module.merged())


def base_digest(backbone: Backbone) -> str:
    """Return the digest of the weights that an adapted backbone was given; empty for one that is not adapted."""
    if not backbone.given:
        return ""
    state, digest = backbone.state_dict(), hashlib.sha256()
    for name in sorted(backbone.given):
        content = state[name].detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(f"{name} {tuple(state[name].shape)} {state[name].dtype}\n".encode())
        digest.update(memoryview(content.numpy()))
    return digest.hexdigest()[:12]


def _layers(chosen: list[tuple[str, nn.Module]], targets: str) -> Iterator[tuple[str, Any]]:
    """Yield plain linear layers and convolutions by name; others, such as grouped ones, compute something else."""
    for name, module in chosen:
        is_plain = type(module) is nn.Linear or (type(module) is nn.Conv2d and module.groups == 1)
        if is_plain and (targets == "all" or set(_PARTS[targets]) & set(name.split("."))):
            yield name, module


def _parts(chosen: list[tuple[str, nn.Module]], targets: str) -> Iterator[tuple[str, nn.Module]]:
    for name, module in chosen:
        if name.split(".")[-1] in _PARTS[targets] and any(type(layer) is nn.Linear for layer in module.modules()):
            yield name, module


def _output_shapes(backbone: Backbone, size: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of the output of every module that is called for a frame, by its name.

    Some networks read the weight of a layer without calling it, so that an update would have no effect there.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                shapes[name] = tuple(output.shape)

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in backbone.named_modules()]
    without_content = {
        name: value.to("meta") for name, value in (*backbone.named_parameters(), *backbone.named_buffers())
    }
    try:
        with torch.no_grad():
            frames = torch.empty(1, 3, size, size, device="meta", dtype=backbone.mean.dtype)
            functional_call(backbone, without_content, (frames,))
    finally:
        for hook in hooks:
            hook.remove()
    return shapes
