"""From an experiment to modules and to the keyword arguments of plain functions: where configuration ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from hcl import clips
from hcl.backbone import N_STAGES, make_backbone
from hcl.baselines import Classifier, CosineNet, MatchingNet, ProtoNet, RelationNet
from hcl.batches import EpisodeSampler, PairSampler
from hcl.checkpoint import file_digest, load_checkpoint, load_model
from hcl.clips import ClipDataset, Draw, Frames
from hcl.config import EPISODIC, Clips, Experiment
from hcl.embeddings import read_embeddings
from hcl.encoder import Encoder
from hcl.episodes import Episodes, sample_episodes
from hcl.errors import BackboneError
from hcl.evaluation import Defects, Matcher
from hcl.model import HCL, MatchingHeads
from hcl.optimisation import learning_rate_factor, make_optimizer, parameter_groups
from hcl.pooled import PooledModel
from hcl.recomputing import recompute_blocks
from hcl.regimes import Classification, Contrastive, Episodic, Regime
from hcl.splits import Partition

VAL_SEED = 20221023
"""Of the validation episodes; those of the evaluation have `evaluation.seed`."""


Model = HCL | PooledModel


def make_model(experiment: Experiment, n_classes: int, *, random_weights: bool = False) -> Model:
    """The regime's model with its initial weights, which depend on the experiment's seed alone.

    Args:
        n_classes: training classes.
        random_weights: leave the backbone's pretrained weights out: a checkpoint or a baseline fills them.
    """
    settings = experiment.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        backbone = make_backbone(settings.backbone, "none" if random_weights else settings.weights)
        if experiment.train.channels_last:
            backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        how: dict[str, Any] = {"frozen_stages": frozen_stages(experiment), "batch_norm": settings.batch_norm}
        if experiment.train.regime == "hcl":
            encoder, heads = _encoder(experiment, backbone.channels), _matching_heads(experiment)
            return HCL(backbone, encoder, heads, n_classes=n_classes, **how)
        pooled_encoder = _encoder(experiment, backbone.channels) if settings.pooled_from == "encoder" else None
        channels = backbone.channels if pooled_encoder is None else settings.d_model
        return PooledModel(backbone, pooled_encoder, _pooled_head(experiment, channels, n_classes), **how)


def _encoder(experiment: Experiment, channels: int) -> Encoder:
    model = experiment.model
    return Encoder(
        channels,
        d_model=model.d_model,
        n_layers=model.n_layers,
        n_heads=model.n_heads,
        dim_feedforward=model.dim_feedforward,
        dropout=model.dropout,
        pre_norm=model.pre_norm,
        position_embedding=model.position_embedding,
        max_positions=model.max_positions,
    )


def _matching_heads(experiment: Experiment) -> MatchingHeads:
    model, matching = experiment.model, experiment.matching
    return MatchingHeads(
        model.d_model,
        tuple_sizes=matching.tuple_sizes,
        global_pooling=matching.global_pooling,
        multi_scale=matching.multi_scale,
        reproject_per_size=matching.reproject_per_size,
        mix_scales=matching.mix_scales,
        embedding_dim=model.embedding_dim if matching.semantic else None,
        learn_semantics=experiment.loss.sigma_spatial_cycle > 0,
    )


def _pooled_head(experiment: Experiment, channels: int, n_classes: int) -> nn.Module:
    match experiment.train.regime:
        case "classification":
            return Classifier(channels, n_classes)
        case "protonet":
            return ProtoNet()
        case "cosine":
            return CosineNet(experiment.loss.temperature)
        case "matching":
            return MatchingNet(channels)
        case "relation":
            return RelationNet(channels, chunk_size=experiment.matching.chunk_size)
    raise ValueError(f"regime {experiment.train.regime!r} has no pooled head")


def make_regime(
    experiment: Experiment,
    *,
    class_embeddings: Tensor | None = None,
    val_embeddings: Tensor | None = None,
) -> Regime:
    """What a run's steps are made of, what it minimises and how it validates.

    Args:
        class_embeddings: of the training classes' names, with `matching.semantic`.
        val_embeddings: of the validation clips' class names.
    """
    train, seed = experiment.train, experiment.seed
    if train.regime in EPISODIC:
        shape = (train.episode_way, train.episode_shot, train.episode_queries)
        return Episodic(EpisodeSampler(*shape, train.episodes_per_step, seed))
    sampler = PairSampler(train.classes_per_batch, seed)
    if train.regime == "classification":
        return Classification(sampler)
    return Contrastive(
        sampler,
        sigmas=sigmas_of_loss(experiment),
        matching=training_matching(experiment),
        matcher=test_matcher(experiment),
        fusion=sigmas_of_fusion(experiment),
        class_embeddings=class_embeddings,
        clip_embeddings=val_embeddings,
    )


def clips_per_step(experiment: Experiment) -> int:
    """Clips of one step of all workers."""
    train = experiment.train
    if train.regime in EPISODIC:
        return train.episodes_per_step * train.episode_way * (train.episode_shot + train.episode_queries)
    return 2 * train.classes_per_batch


def trained_model(experiment: Experiment, checkpoint: Path) -> Model:
    """The model with a checkpoint's weights, to evaluate. Raises CheckpointError where the two do not fit."""
    content = load_checkpoint(checkpoint)
    model = make_model(experiment, len(content["classes"]), random_weights=True)
    load_model(model, content["model"], source=str(checkpoint))
    return model.eval()


def prepare_training(experiment: Experiment, model: Model, *, compile_parts: bool = True) -> None:
    """What training alone does to a model: parts that are computed twice, parts that are compiled.

    Args:
        compile_parts: false leaves `train.compile` out: a dry run has nothing to compile.
    """
    if experiment.train.recompute_backbone:
        recompute_blocks(model.backbone)
    if experiment.train.compile and compile_parts:
        # In place, so that the names of the weights stay. Matching is left as it is: what it chooses depends on data.
        encoder = () if model.encoder is None else (model.encoder,)
        for part in (*model.backbone.body, *encoder):
            part.compile()


def frozen_stages(experiment: Experiment) -> int:
    """Lowest stages of the backbone that are not trained: none, some, or all."""
    return experiment.model.frozen_stages if experiment.model.train_backbone else N_STAGES


def caches_grids(experiment: Experiment) -> bool:
    """Whether what the frozen stages make of every clip is encoded once and kept."""
    return frozen_stages(experiment) > 0 and experiment.model.cached_views > 0


def optimizer_of(experiment: Experiment, model: nn.Module) -> Optimizer:
    """The optimiser with its groups. Raises TrainingError where nothing is to be trained."""
    optim = experiment.optim
    groups = parameter_groups(
        model, lr=optim.lr, backbone_lr_factor=optim.backbone_lr_factor, weight_decay=optim.weight_decay
    )
    return make_optimizer(groups, name=optim.optimizer, momentum=optim.momentum)


def rate_factor(experiment: Experiment, epoch: int) -> float:
    """What the initial learning rates are multiplied by during an epoch, counted from 0."""
    optim = experiment.optim
    return learning_rate_factor(
        optim.schedule,
        epoch,
        step_size=optim.step_size,
        milestones=optim.milestones,
        gamma=optim.gamma,
        warmup_epochs=optim.warmup_epochs,
        epochs=experiment.train.epochs,
    )


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


def embeddings_file(experiment: Experiment, data_root: Path, dataset: str) -> Path | None:
    """The class-name embeddings of a data set; None without `matching.semantic`."""
    if not experiment.matching.semantic:
        return None
    return data_root / experiment.data.embeddings.replace("{dataset}", dataset)


def embeddings_identity(experiment: Experiment, data_root: Path, dataset: str) -> str:
    """The digest of the class-name embeddings that an experiment reads; empty where it reads none."""
    path = embeddings_file(experiment, data_root, dataset)
    return file_digest(path) if path is not None and path.exists() else ""


def class_embeddings(
    experiment: Experiment, data_root: Path, partition: Partition
) -> Float[Tensor, "class_index embedding"] | None:
    """The embedding of each class name of a partition; None without `matching.semantic`. Raises DataError."""
    path = embeddings_file(experiment, data_root, partition.dataset)
    if path is None:
        return None
    return read_embeddings(path, partition.classes, dataset=partition.dataset, dim=experiment.model.embedding_dim)


def clip_embeddings(
    experiment: Experiment, data_root: Path, partition: Partition
) -> Float[Tensor, "clip embedding"] | None:
    """The embedding of each clip's class name; None without `matching.semantic`. Raises DataError."""
    of_class = class_embeddings(experiment, data_root, partition)
    return None if of_class is None else of_class[torch.tensor(partition.labels)]


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
    """The keyword arguments of `hcl.similarity.fuse`."""
    return experiment.fusion.model_dump(include={"sigma_global", "sigma_temporal", "sigma_spatial"})


def looking_up(experiment: Experiment) -> dict[str, Any]:
    """The keyword arguments of `hcl.scores.look_up`."""
    matching, fusion = experiment.matching, experiment.fusion
    return {
        "metric": matching.metric,
        "tuple_sizes": matching.tuple_sizes,
        "triples": fusion.triples,
        "over_shots": fusion.over_shots,
    }


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
        "misplaced_semantics": matching.misplaced_training_semantics,
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
        "precision": experiment.evaluation.precision,
    }


def test_matcher(experiment: Experiment) -> Matcher:
    """How episodes are compared, in validation and in evaluation."""
    matching = experiment.matching
    return Matcher(matching.metric, matching.project_at_test, test_matching(experiment), defects(experiment))


def defects(experiment: Experiment) -> Defects:
    matching = experiment.matching
    return Defects(
        mix_scales=matching.multi_scale and matching.mix_scales,
        swap_shot_axes=matching.swap_shot_axes,
        misplaced_semantics=matching.semantic and matching.leaking_semantics,
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


def test_draws(clip: int, views: int) -> list[Draw]:
    """The readings of a clip that an evaluation averages over: the one test view, or random ones named by number."""
    return [Draw(clip)] if views == 1 else [Draw(clip, (view,)) for view in range(views)]


def make_dataset(
    experiment: Experiment, frames: Frames, partition: Partition, *, training: bool, random_views: bool = False
) -> ClipDataset:
    """The partition's clips as training or as test sees them.

    Args:
        random_views: at test, readings that the seeds of a draw name (`test_draws`), in place of the one view.
    """
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
        random=training or random_views,
        min_side=_min_side(settings, training) if settings.reduced_decoding else 0,
    )


def _min_side(settings: Clips, training: bool) -> int:
    return clips.train_min_side(settings.size, settings.crop_scale) if training else settings.size
