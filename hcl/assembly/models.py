"""Build the model, the regime and the optimiser of an experiment."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hcl.assembly import arguments
from hcl.assembly.backbones import backbone_of, frozen_stages
from hcl.assembly.regimes import Model, parts_of
from hcl.config import Experiment
from hcl.models.checkpoint import load_checkpoint, load_model
from hcl.models.recomputing import recompute_blocks
from hcl.models.tuning import adapt
from hcl.training.optimisation import learning_rate_factor, make_optimizer, parameter_groups
from hcl.training.regimes import Regime

__all__ = ["Model"]


def make_model(experiment: Experiment, n_classes: int, *, random_weights: bool = False) -> Model:
    """Build the regime's model with its initial weights, which depend only on the experiment's seed.

    Args:
        n_classes: number of training classes.
        random_weights: do not load the backbone's pretrained weights, because a checkpoint will replace them.
            It does not replace those of an adapted backbone (`model.tune`).

    Raises:
        BackboneError: as `backbone_of`; or the backbone has no layers that `model.tune` could adapt.
    """
    settings = experiment.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        backbone = backbone_of(experiment, random_weights=random_weights)
        if settings.is_adapted:
            adapt(
                backbone,
                kind=settings.tune,
                rank=settings.tune_rank,
                targets=settings.tune_targets,
                frozen_stages=frozen_stages(experiment),
                size=experiment.clips.size,
            )
        if experiment.train.channels_last:
            backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        make = parts_of(experiment).model
        return make(
            experiment,
            backbone,
            n_classes,
            frozen_stages=frozen_stages(experiment),
            batch_norm="frozen" if settings.is_adapted else settings.batch_norm,
        )


def make_regime(
    experiment: Experiment,
    *,
    class_embeddings: Tensor | None = None,
    val_embeddings: Tensor | None = None,
) -> Regime:
    """Build the regime of a run: its sampler, its loss and its validation.

    Args:
        class_embeddings: embeddings of the training classes' names, with `matching.semantic`.
        val_embeddings: embeddings of the validation clips' class names.

    Raises:
        ConfigError: as `hcl.assembly.arguments.check_regime`.
    """
    arguments.check_regime(experiment)
    return parts_of(experiment).regime(experiment, class_embeddings=class_embeddings, val_embeddings=val_embeddings)


def clips_per_step(experiment: Experiment) -> int:
    """Return the number of clips in a step of all workers."""
    train = experiment.train
    if train.traits.is_episodic:
        return train.episodes_per_step * train.episode_way * (train.episode_shot + train.episode_queries)
    return 2 * train.classes_per_batch


def clips_per_epoch(experiment: Experiment) -> int:
    """Return the number of clips on which all workers train in an epoch."""
    return experiment.train.batches_per_epoch * clips_per_step(experiment)


def trained_model(experiment: Experiment, checkpoint: Path) -> Model:
    """Build the model with a checkpoint's weights, in evaluation mode. Raises CheckpointError if they do not fit."""
    content = load_checkpoint(checkpoint, holding=["classes"])
    model = make_model(experiment, len(content["classes"]), random_weights=not experiment.model.is_adapted)
    load_model(model, content["model"], source=str(checkpoint), base=content.get("base", ""))
    return model.eval()


def prepare_training(experiment: Experiment, model: Model, *, compile_parts: bool = True) -> None:
    """Prepare a model for training: freeze parts without gradients, set up recomputation, and compile.

    Call it after `optimizer_of`, because an optimiser's state in checkpoints covers all parameters, frozen or not.

    Args:
        compile_parts: false ignores `train.compile`, for a dry run.
    """
    parts_of(experiment).freeze_unused(experiment, model)
    if experiment.train.recompute_backbone:
        recompute_blocks(model.backbone)
    if experiment.train.compile and compile_parts:
        # In place, which keeps the names of the weights. Matching is not compiled: its choices depend on data.
        encoder = () if model.encoder is None else (model.encoder,)
        for part in (*model.backbone.body, *encoder):
            part.compile()


def optimizer_of(experiment: Experiment, model: nn.Module) -> Optimizer:
    """Build the optimiser with its groups. Raises TrainingError if no parameter is trainable."""
    optim = experiment.optim
    groups = parameter_groups(
        model, lr=optim.lr, backbone_lr_factor=optim.backbone_lr_factor, weight_decay=optim.weight_decay
    )
    return make_optimizer(groups, name=optim.optimizer, momentum=optim.momentum)


def rate_factor(experiment: Experiment, epoch: int) -> float:
    """Return the factor of the initial learning rates in an epoch, counted from 0."""
    optim = experiment.optim
    return learning_rate_factor(
        optim.schedule,
        epoch,
        step_size=optim.step_size,
        milestones=optim.milestones,
        gamma=optim.gamma,
        warmup_epochs=optim.warmup_epochs,
        epochs=experiment.train.epochs,
        factors=optim.factors,
    )
