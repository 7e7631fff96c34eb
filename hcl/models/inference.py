"""Speed up backbones that are not trained: merge low-rank updates, fold batch norms, lay channels last in memory.

The features equal those of the original to about 1e-5 of their largest value. On a CPU they cost about half the time.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import TypeVar

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hcl.models.backbone import Backbone, OnBackbone
from hcl.models.tuning import merge

M = TypeVar("M", bound=OnBackbone)


def for_inference(model: M, *, has_grids: bool = False) -> M:
    """Return a model in evaluation mode with a fast copy of the backbone; all other parts are shared.

    Make it again after the weights of the original have changed.

    Args:
        has_grids: its clips are the cached output of the frozen stages. If all stages are frozen, the model itself is
            returned, because its backbone computes nothing.
    """
    if has_grids and model.frozen_stages == model.backbone.n_stages:
        return model.eval()
    twin = copy.copy(model)
    twin.__dict__ = {**model.__dict__, "_modules": {**model._modules, "backbone": fast_backbone(model.backbone)}}
    twin.training = False
    return twin


def fast_backbone(backbone: Backbone) -> Backbone:
    """Return a copy in evaluation mode, with the stages of the original, that is not to be trained."""
    fast = copy.deepcopy(backbone).eval().requires_grad_(False)
    for module in fast.modules():
        module.__dict__.pop("forward", None)  # one that computes blocks again for a backward pass
    merge(fast)
    with torch.no_grad():
        if not _fold(fast.body):
            for block in fast.body:
                _fold(block)
    return fast.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fold(layers: nn.Module) -> bool:
    """Replace each convolution whose output only a batch norm reads by one that computes both.

    Return false if the layers cannot be traced, because their forward depends on values; they stay as they are.
    """
    try:
        graph = _LayerTracer().trace(layers)
    except Exception:  # whatever a forward raises that is given placeholders instead of tensors
        return False
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        users = list(node.users)
        if node.op == "call_module" and len(users) == 1 and users[0].op == "call_module":
            first, second = str(node.target), str(users[0].target)
            conv, norm = layers.get_submodule(first), layers.get_submodule(second)
            if not (isinstance(conv, nn.Conv2d) and isinstance(norm, _BatchNorm) and norm.running_mean is not None):
                continue
            if calls[first] == calls[second] == 1:
                layers.set_submodule(first, fuse_conv_bn_eval(conv, norm))
                layers.set_submodule(second, nn.Identity())
    return True


class _LayerTracer(fx.Tracer):
    """Trace into blocks, but not into layers, whatever package they come from."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        has_parts = next(module.children(), None) is not None
        return not has_parts or isinstance(module, nn.Conv2d) or super().is_leaf_module(module, qualified_name)
