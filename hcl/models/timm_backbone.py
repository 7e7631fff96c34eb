"""Make a backbone of a network of timm: `timm:NAME` (hcl/models/VIT.md).

Vision transformers are cut into groups of blocks, and their patches are the grid. Other networks give the levels of
timm's `features_only`.
"""

from __future__ import annotations

import functools
import shlex
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from hcl.config.backbones import Grid
from hcl.config.paths import did_you_mean
from hcl.config.section import Section
from hcl.errors import BackboneError, ConfigError
from hcl.models.backbone import Backbone
from hcl.models.timm_stages import Stages, groups_of, has_groups, levels_of
from hcl.models.timm_weights import digest_of_weights, load_weights, weights_file

_LISTING = f"python -c {shlex.quote('import timm; print(*timm.list_models())')}"


class TimmBackbone:
    """Make the backbone of one name of timm.

    Args:
        name: as in `timm.list_models()`, with a tag if other pretrained weights than the default ones are meant.

    Raises:
        BackboneError: timm is not installed, or it knows this network but it cannot be cut.
        ConfigError: timm knows no such network.
    """

    def __init__(self, name: str):
        _check_name(name)
        self.name, self._outline = name, _outline_of(name)

    @property
    def traits(self) -> Grid:
        return self._outline.grid

    def make(self, weights: str, settings: Section) -> Backbone:
        """Build the backbone; random weights are drawn from torch's global generator.

        Args:
            weights: `imagenet` for timm's pretrained weights of this name, whatever data they are of; `none` for
                random ones; or the path of a file, as timm or the network's authors save it.

        Raises:
            BackboneError: the weights cannot be had or do not fit.
        """
        path = None if weights == "none" else weights_file(self.name, weights)
        network = self._outline.build(self.name)
        if path is not None:
            load_weights(network, self._outline.whole, path)
        stages = _cut(network)
        return Backbone(stages.body, stages.channels, self._outline.mean, self._outline.std, stages.starts)

    def weights_identity(self, weights: str, settings: Section) -> str:
        """Return the digest of the file of the weights, or `none`. Raises BackboneError if there is no such file."""
        return weights if weights == "none" else digest_of_weights(weights_file(self.name, weights))


@dataclass(frozen=True)
class _Outline:
    """Hold what is known of a network of timm without memory for its weights.

    Attributes:
        whole: the network as timm makes it, on the device `meta`.
        options: arguments with which timm makes what is cut into stages.
        mean, std: normalisation of each channel in its pretraining, for values between 0 and 1.
    """

    whole: nn.Module
    options: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    grid: Grid

    def build(self, name: str) -> nn.Module:
        """Build the network with random weights."""
        with _ZerosForUnknown():
            return _create(name, **self.options)


class _ZerosForUnknown(TorchDispatchMode):
    """Let timm read zeros from tensors without content.

    In a dry run (`hcl.training.memory`) tensors have none, and timm reads the rates of its blocks from a tensor.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return 0.0
        return func(*args, **(kwargs or {}))


@functools.cache
def _outline_of(name: str) -> _Outline:
    from timm.data import resolve_model_data_config

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        whole, options = _whole(name)
        if not has_groups(whole):
            options = {"features_only": True}
        stages = _cut(_create(name, **options))
        has_norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in stages.body.modules())
        grid = Grid(stages.cell, stages=stages.n_stages, batch_norms=has_norms, **_rest_of_pixels(stages))
    data = resolve_model_data_config(whole)
    return _Outline(whole, options, tuple(map(float, data["mean"])), tuple(map(float, data["std"])), grid)


def _whole(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """Return a network without its classifier, and the arguments that made it; for any size of frames if possible."""
    options: dict[str, Any] = {"num_classes": 0}
    try:
        return _create(name, **options, dynamic_img_size=True), options | {"dynamic_img_size": True}
    except TypeError:
        return _create(name, **options), options


def _create(name: str, **options: Any) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(name, pretrained=False, **options)
    return network


def _cut(network: nn.Module) -> Stages:
    return groups_of(network) if has_groups(network) else levels_of(network)


def _rest_of_pixels(stages: Stages) -> dict[str, bool]:
    """Return what becomes of pixels that fill no cell, as arguments of `Grid`, measured with frames of three cells."""
    sides = {_side(stages, 3 * stages.cell + rest) for rest in (1, stages.cell // 2 + 1, stages.cell - 1)}
    if sides in ({3}, {4}):
        return {"rounds_up": sides == {4}}
    return {"whole_cells": True}


def _side(stages: Stages, size: int) -> int | None:
    """Return the side of the grid of a frame; None if the network takes no frames of this size."""
    try:
        with torch.no_grad():
            return int(stages.body.eval()(torch.empty(1, 3, size, size)).shape[-1])
    except Exception:  # whatever a network raises that needs whole cells
        return None


def _check_name(name: str) -> None:
    try:
        import timm
    except ImportError as error:
        raise BackboneError(
            "backbones `timm:NAME` need the package timm (the extra `vit`)",
            where="model.backbone",
            remedy="pip install 'hcl-orchestrator[vit]'",
        ) from error
    if timm.is_model(name) and ("." not in name or name in timm.list_pretrained()):
        return
    raise ConfigError(
        f"timm {timm.__version__} knows no network {name!r}"
        f"{did_you_mean(name, [*timm.list_models(), *timm.list_pretrained()])}",
        where=f"model.backbone=timm:{name}",
        remedy=f"list all of them: {_LISTING}",
    )
