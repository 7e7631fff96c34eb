"""The model, the way to learn and the optimiser of an experiment."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hcl.assembly import arguments
from hcl.assembly.regimes import Model, parts_of
from hcl.config import Experiment
from hcl.errors import BackboneError
from hcl.models.backbone import N_STAGES, make_backbone
from hcl.models.checkpoint import file_digest, load_checkpoint, load_model
from hcl.models.recomputing import recompute_blocks
from hcl.training.optimisation import learning_rate_factor, make_optimizer, parameter_groups
from hcl.training.regimes import Regime

__all__ = ["Model"]


def make_model(experiment: Experiment, n_classes: int, *, random_weights: bool = False) -> Model:
    """Make the regime's model with its initial weights, which depend on the experiment's seed alone.

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
        make = parts_of(experiment).model
        return make(
            experiment,
            backbone,
            n_classes,
            frozen_stages=frozen_stages(experiment),
            batch_norm=settings.batch_norm,
        )


def make_regime(
    experiment: Experiment,
    *,
    class_embeddings: Tensor | None = None,
    val_embeddings: Tensor | None = None,
) -> Regime:
    """Make the way to learn: what a run's steps are made of, what it minimises and how it validates.

    Args:
        class_embeddings: of the training classes' names, with `matching.semantic`.
        val_embeddings: of the validation clips' class names.

    Raises:
        ConfigError: as `hcl.assembly.arguments.check_workers`.
    """
    arguments.check_workers(experiment)
    return parts_of(experiment).regime(experiment, class_embeddings=class_embeddings, val_embeddings=val_embeddings)


def clips_per_step(experiment: Experiment) -> int:
    """Return the number of clips of one step of all workers."""
    train = experiment.train
    if train.traits.is_episodic:
        return train.episodes_per_step * train.episode_way * (train.episode_shot + train.episode_queries)
    return 2 * train.classes_per_batch


def clips_per_epoch(experiment: Experiment) -> int:
    """Return the number of clips that all workers train on in an epoch."""
    return experiment.train.batches_per_epoch * clips_per_step(experiment)


def trained_model(experiment: Experiment, checkpoint: Path) -> Model:
    """Make the model with a checkpoint's weights, to evaluate. Raises CheckpointError where the two do not fit."""
    content = load_checkpoint(checkpoint, holding=["classes"])
    model = make_model(experiment, len(content["classes"]), random_weights=True)
    load_model(model, content["model"], source=str(checkpoint))
    return model.eval()


def prepare_training(experiment: Experiment, model: Model, *, compile_parts: bool = True) -> None:
    """Prepare a model for training: freeze parts that learn nothing, recompute others, and compile.

    Call it after `optimizer_of`: a checkpoint's optimiser knows all parameters, whatever is left out of the loss.

    Args:
        compile_parts: false leaves `train.compile` out: a dry run has nothing to compile.
    """
    parts_of(experiment).freeze_unused(experiment, model)
    if experiment.train.recompute_backbone:
        recompute_blocks(model.backbone)
    if experiment.train.compile and compile_parts:
        # In place, so that the names of the weights stay. Matching is left as it is: what it chooses depends on data.
        encoder = () if model.encoder is None else (model.encoder,)
        for part in (*model.backbone.body, *encoder):
            part.compile()


def frozen_stages(experiment: Experiment) -> int:
    """Return how many of the backbone's lowest stages are not trained: none, some, or all."""
    return experiment.model.frozen_stages if experiment.model.train_backbone else N_STAGES


def caches_grids(experiment: Experiment) -> bool:
    """Return true where the output of the frozen stages is computed once for every clip, and kept."""
    return frozen_stages(experiment) > 0 and experiment.model.cached_views > 0


def optimizer_of(experiment: Experiment, model: nn.Module) -> Optimizer:
    """Make the optimiser with its groups. Raises TrainingError where nothing is to be trained."""
    optim = experiment.optim
    groups = parameter_groups(
        model, lr=optim.lr, backbone_lr_factor=optim.backbone_lr_factor, weight_decay=optim.weight_decay
    )
    return make_optimizer(groups, name=optim.optimizer, momentum=optim.momentum)


def rate_factor(experiment: Experiment, epoch: int) -> float:
    """Return the factor of the initial learning rates during an epoch, counted from 0."""
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


def weights_digest(experiment: Experiment) -> str:
    """Return the digest of the file that `model.weights` names; empty where it names none. Raises BackboneError."""
    weights = experiment.model.weights
    return "" if weights in ("imagenet", "none") else weights_identity(weights)


def weights_identity(weights: str) -> str:
    """Return `model.weights`, or the digest of the file that it names. Raises BackboneError for a missing file."""
    if weights in ("imagenet", "none"):
        return weights
    try:
        return file_digest(Path(weights))
    except OSError as error:
        raise BackboneError(
            f"cannot be read: {error.strerror}", where=f"model.weights={weights}", remedy="check the path"
        ) from error
