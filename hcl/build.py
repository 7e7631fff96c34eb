"""From an experiment to modules and to the keyword arguments of plain functions: where configuration ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hcl import clips
from hcl.backbone import N_STAGES, make_backbone
from hcl.checkpoint import file_digest
from hcl.clips import ClipDataset, Frames
from hcl.config import Clips, Experiment
from hcl.encoder import Encoder
from hcl.episodes import Episodes, sample_episodes
from hcl.errors import BackboneError
from hcl.evaluation import Defects
from hcl.model import HCL, MatchingHeads
from hcl.splits import Partition

VAL_SEED = 20221023
"""Of the validation episodes; those of the evaluation have `evaluation.seed`."""


def make_model(experiment: Experiment, n_classes: int, *, random_weights: bool = False) -> HCL:
    """The model with its initial weights, which depend on the experiment's seed alone.

    Args:
        n_classes: training classes.
        random_weights: leave the backbone's pretrained weights out: a checkpoint or a baseline fills them.
    """
    model, matching = experiment.model, experiment.matching
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        backbone = make_backbone(model.backbone, "none" if random_weights else model.weights)
        encoder = Encoder(
            backbone.channels,
            d_model=model.d_model,
            n_layers=model.n_layers,
            n_heads=model.n_heads,
            dim_feedforward=model.dim_feedforward,
            dropout=model.dropout,
            pre_norm=model.pre_norm,
            position_embedding=model.position_embedding,
            max_positions=model.max_positions,
        )
        heads = MatchingHeads(
            model.d_model,
            tuple_sizes=matching.tuple_sizes,
            multi_scale=matching.multi_scale,
            reproject_per_size=matching.reproject_per_size,
            mix_scales=matching.mix_scales,
        )
        if experiment.train.channels_last:
            backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return HCL(
            backbone,
            encoder,
            heads,
            n_classes=n_classes,
            frozen_stages=frozen_stages(experiment),
            batch_norm=model.batch_norm,
        )


def frozen_stages(experiment: Experiment) -> int:
    """Lowest stages of the backbone that are not trained: none, some, or all."""
    return experiment.model.frozen_stages if experiment.model.train_backbone else N_STAGES


def caches_grids(experiment: Experiment) -> bool:
    """Whether what the frozen stages make of every clip is encoded once and kept."""
    return frozen_stages(experiment) > 0 and experiment.model.cached_views > 0


def weights_identity(weights: str) -> str:
    """What `model.weights` names: itself, or the content of the file. Raises BackboneError for a missing file."""
    if weights in ("imagenet", "none"):
        return weights
    try:
        return file_digest(Path(weights))
    except OSError as error:
        raise BackboneError(
            f"cannot be read: {error.strerror}", where=f"model.weights={weights}", remedy="check the path"
        ) from error


def sigmas_of_loss(experiment: Experiment) -> dict[str, float]:
    """The weight of each term of `hcl.losses.TERMS`."""
    loss = experiment.loss
    return {
        "ce": loss.sigma_ce,
        "global": loss.sigma_global,
        "temporal": loss.sigma_temporal,
        "temporal_cycle": loss.sigma_temporal_cycle,
        "spatial": loss.sigma_spatial,
        "spatial_cycle": loss.sigma_spatial_cycle,
    }


def sigmas_of_fusion(experiment: Experiment) -> dict[str, float]:
    return experiment.fusion.model_dump()


def training_matching(experiment: Experiment) -> dict[str, Any]:
    """The keyword arguments of `hcl.losses.contrastive_terms`."""
    matching, loss = experiment.matching, experiment.loss
    return {
        "tuple_sizes": matching.tuple_sizes,
        "top_tuples": matching.top_tuples,
        "top_patches": matching.top_patches,
        "zoom_ranks": matching.zoom_ranks_train,
        "temperature": loss.temperature,
        "cycle_temperature": loss.cycle_temperature,
        "keep_anchor": loss.keep_anchor,
        "renormalise": matching.renormalise,
        "spatial": loss.sigma_spatial > 0,
        "spatial_cycle": loss.sigma_spatial_cycle > 0,
        "chunk_size": matching.chunk_size,
    }


def test_matching(experiment: Experiment) -> dict[str, Any]:
    """The keyword arguments of `hcl.scores.score_pairs`."""
    matching = experiment.matching
    return {
        "tuple_sizes": matching.tuple_sizes,
        "top_tuples": matching.top_tuples,
        "top_patches": matching.top_patches,
        "zoom_ranks": matching.zoom_ranks_test,
        "renormalise": matching.renormalise,
        "chunk_size": matching.chunk_size,
    }


def defects(experiment: Experiment) -> Defects:
    matching = experiment.matching
    return Defects(
        mix_scales=matching.multi_scale and matching.mix_scales,
        swap_shot_axes=matching.swap_shot_axes,
    )


def val_episodes(experiment: Experiment, partition: Partition) -> Episodes:
    """The episodes that choose the best epoch: the same after every epoch and in every trial."""
    evaluation, train = experiment.evaluation, experiment.train
    return sample_episodes(
        partition.labels,
        way=evaluation.way,
        shot=train.val_shot,
        queries=evaluation.queries,
        episodes=train.val_episodes,
        seed=VAL_SEED,
        class_names=partition.classes,
        overlapping=evaluation.overlapping,
    )


def make_dataset(experiment: Experiment, frames: Frames, partition: Partition, *, training: bool) -> ClipDataset:
    """The partition's clips as training or as test sees them."""
    settings = experiment.clips
    if training:
        transform = clips.train_transform(
            settings.size,
            crop_scale=settings.crop_scale,
            flip=settings.flip,
            jitter=settings.jitter,
            grey=settings.grey,
        )
    else:
        transform = clips.test_transform(settings.size, settings.resize)
    return ClipDataset(
        frames,
        partition.videos,
        n_frames=settings.n_frames,
        sampling=settings.train_sampling if training else settings.test_sampling,
        transform=transform,
        per_frame=training and settings.per_frame,
        random=training,
        min_side=_min_side(settings, training) if settings.reduced_decoding else 0,
    )


def _min_side(settings: Clips, training: bool) -> int:
    return clips.train_min_side(settings.size, settings.crop_scale) if training else settings.size
