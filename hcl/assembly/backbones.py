"""Build the backbone that an experiment names, and identify its weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.func import functional_call

from hcl.config import Experiment
from hcl.errors import BackboneError
from hcl.models.backbone import Backbone, OwnBackbone
from hcl.models.checkpoint import file_digest


def backbone_of(experiment: Experiment, *, random_weights: bool = False) -> Backbone:
    """Build the backbone of an experiment; random weights are drawn from torch's global generator.

    Args:
        random_weights: leave the pretrained weights out.

    Raises:
        BackboneError: the weights or a package are missing or do not fit, or the grid is not as its traits say.
    """
    definition = experiment.definition("backbone")
    weights = "none" if random_weights else experiment.model.weights
    backbone: Backbone = definition.implementation.make(weights, experiment.backbone)
    if not isinstance(definition.implementation, OwnBackbone):
        _check_grid(experiment, backbone)
    return backbone


def frozen_stages(experiment: Experiment) -> int:
    """Return the number of the backbone's lowest stages that are not trained."""
    every: int = experiment.definition("backbone").traits.stages
    return experiment.model.frozen_stages if experiment.model.train_backbone else every


def caches_grids(experiment: Experiment) -> bool:
    """Return true if the output of the frozen stages is computed once for every clip and cached."""
    return frozen_stages(experiment) > 0 and experiment.model.cached_views > 0


def weights_identity(experiment: Experiment) -> str:
    """Return what identifies the pretrained weights: a name, or the digest of a file. Raises BackboneError."""
    implementation, weights = experiment.definition("backbone").implementation, experiment.model.weights
    if hasattr(implementation, "weights_identity"):
        return str(implementation.weights_identity(weights, experiment.backbone))
    return identity_of_weights(weights)


def identity_of_weights(weights: str) -> str:
    """Return `imagenet` and `none` unchanged, and the digest of a file. Raises BackboneError for a missing file."""
    if weights in ("imagenet", "none"):
        return weights
    try:
        return file_digest(Path(weights))
    except OSError as error:
        raise BackboneError(
            f"cannot be read: {error.strerror}", where=f"model.weights={weights}", remedy="check the path"
        ) from error


def weights_digest(experiment: Experiment) -> str:
    """Return the digest of the file with the pretrained weights; empty if a name identifies them."""
    identity = weights_identity(experiment)
    return "" if identity in ("imagenet", "none") else identity


def _check_grid(experiment: Experiment, backbone: Backbone) -> None:
    """Raise BackboneError if the backbone computes another grid than its traits say; only shapes are computed."""
    definition, side, size = experiment.definition("backbone"), experiment.grid_side, experiment.clips.size
    where = f"model.backbone={definition.title}"
    shapes = {name: value.to("meta") for name, value in (*backbone.named_parameters(), *backbone.named_buffers())}
    try:
        with torch.no_grad():
            frames = torch.empty(1, 3, size, size, device="meta")
            shape = tuple(functional_call(backbone, shapes, (frames,)).shape)
    except Exception as error:  # whatever the code of others raises
        raise BackboneError(
            f"cannot compute frames of {size} x {size} pixels ({type(error).__name__}: {error})",
            where=where,
            remedy="set another clips.size, for many networks that of their pretraining, or name another backbone",
        ) from error
    expected = (1, backbone.channels, side, side)
    if shape != expected or backbone.n_stages != definition.traits.stages:
        raise BackboneError(
            f"gives features of {shape} in {backbone.n_stages} stages; by its traits {expected} in "
            f"{definition.traits.stages}",
            where=where,
            remedy="mend its `traits` (hcl.config.backbones.Grid) or its `channels`",
        )
