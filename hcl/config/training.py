"""Define the settings of training: regime, losses, optimiser and steps."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hcl.config.definitions import Named
from hcl.config.extensions import latest
from hcl.config.regimes import Traits
from hcl.config.section import Section, setting

_Shot = Annotated[int, Field(ge=1)]
Shots = _Shot | Annotated[tuple[_Shot, ...], Field(min_length=1)]


class Loss(Section):
    sigma_ce: float = setting(1.0, "weight of the classification term", ge=0)
    sigma_global: float = setting(1.0, "weight of the global contrastive term", ge=0)
    sigma_temporal: float = setting(0.5, "weight of the temporal contrastive term", ge=0)
    sigma_temporal_cycle: float = setting(0.25, "weight of the temporal cycle term", ge=0)
    sigma_spatial: float = setting(0.5, "weight of the spatial contrastive term", ge=0)
    sigma_spatial_cycle: float = setting(0.0, "weight of the spatial cycle term; 0 leaves it out", ge=0)
    temperature: float = setting(0.07, "temperature of every contrastive term (tau)", gt=0)
    cycle_temperature: float = setting(
        0.01,
        "temperature of the cycle's soft nearest neighbour; at the published 1 it is close to the mean of all "
        "(deviation 24)",
        gt=0,
    )
    keep_anchor: bool = setting(False, "leave the anchor in the denominator as exp(0), as released (deviation 1)")


class Optim(Section):
    optimizer: Literal["adamw", "adam", "sgd"] = setting("adamw", "optimiser of the weights")
    lr: float = setting(1e-4, "initial learning rate; the backbone's is backbone_lr_factor times this", gt=0, le=1e30)
    backbone_lr_factor: float = setting(0.1, "the backbone's learning rate as a share of lr", ge=0, le=1)
    weight_decay: float = setting(1e-4, "weight decay of every weight that is trained", ge=0)
    momentum: float = setting(0.9, "momentum of sgd", ge=0, lt=1)
    schedule: Literal["step", "multi_step", "cosine", "constant"] = setting("step", "learning rate over the epochs")
    step_size: int = setting(10, "step: epochs between two drops", unit="epochs", ge=1)
    milestones: tuple[int, ...] = setting((5, 8, 11, 13, 15), "multi_step: epochs of the drops")
    gamma: float = setting(0.1, "factor of a drop", gt=0, le=1)
    factors: tuple[Annotated[float, Field(gt=0, le=1)], ...] = setting(
        (), "multi_step: share of lr from each milestone on; empty: gamma to the power of the milestones passed"
    )
    warmup_epochs: int = setting(0, "epochs of linear warm-up", unit="epochs", ge=0)
    clip_norm: float = setting(0.1, "largest norm of the gradient; 0 does not clip", ge=0)

    @model_validator(mode="after")
    def _each_milestone_has_a_factor(self) -> Self:
        if self.factors and len(self.factors) != len(self.milestones):
            raise ValueError(
                f"optim.factors={list(self.factors)} needs one factor for each of optim.milestones="
                f"{list(self.milestones)}"
            )
        return self


class Train(Section):
    regime: Annotated[str, Named("regime")] = setting(
        "hcl",
        "training regime: HCL's pair batches, a plain classifier of pooled features, one of the baselines that learn "
        "from episodes, or your own; the section `regime` holds its settings",
    )
    episodes_per_step: int = setting(
        4, "episodic regimes: episodes whose gradients a step accumulates, over all workers", unit="episodes", ge=1
    )
    episode_way: int = setting(5, "classes of a training episode", ge=2)
    episode_shot: int = setting(1, "labelled clips a class of a training episode", ge=1)
    episode_queries: int = setting(5, "clips to classify, a class of a training episode", ge=1)
    epochs: int = setting(15, "epochs of a run; each ends with a validation and a checkpoint", unit="epochs", ge=1)
    batches_per_epoch: int = setting(1000, "optimiser steps an epoch", unit="batches", ge=1)
    classes_per_batch: int = setting(24, "classes of a pair batch, two clips each, over all workers", ge=2)
    workers: int = setting(1, "processes of DDP that share every step", ge=1, le=4096)
    min_workers: int | None = setting(
        None,
        "minimum number of workers with which a run continues after it has lost nodes; empty: train.workers",
        ge=1,
    )
    cpus_per_worker: int = setting(1, "CPUs that a worker takes, and threads that it computes with", ge=1, le=256)
    use_gpu: bool = setting(False, "one GPU a worker (NCCL); false: CPU (gloo)")
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = setting(
        "float32",
        "precision of the tokens, by autocast; heads, matching and losses stay in float32. float16 scales the loss, so "
        "that small gradients do not vanish; tf32 is float32, but a GPU's convolutions round their operands, as is "
        "torch's default",
    )
    channels_last: bool = setting(False, "memory format of the backbone: faster on recent GPUs")
    compile: bool = setting(False, "torch.compile of backbone and encoder: minutes at the start, then faster steps")
    recompute_backbone: bool = setting(
        False, "compute the backbone's blocks again in the backward pass instead of keeping them: slower, less memory"
    )
    loader_processes: int = setting(0, "processes that read and transform clips, per worker", ge=0, le=128)
    prefetch: int = setting(2, "batches that each of these processes reads ahead", unit="batches", ge=1, le=64)
    checkpoint_every: int = setting(
        100,
        "steps between checkpoints inside an epoch, which a crash loses at most; 0: after epochs only",
        unit="batches",
        ge=0,
    )
    val_episodes: int = setting(200, "episodes of the selection partition after each epoch", unit="episodes", ge=1)
    val_shot: Shots = setting(1, "shots of these episodes; of several, as [1, 5], the mean accuracy selects")
    val_fusions: int = setting(
        0,
        "number of weights of the levels tried on these episodes, without further training: the best select the epoch "
        "(val_fused_accuracy) and are kept in fusion.yaml; 0: only the experiment's own",
        ge=0,
        le=100_000,
    )

    @property
    def val_shots(self) -> tuple[int, ...]:
        """Return `val_shot` as a tuple."""
        return (self.val_shot,) if isinstance(self.val_shot, int) else self.val_shot

    @property
    def traits(self) -> Traits:
        """The properties of the regime."""
        return latest("regime", self.regime).traits

    @model_validator(mode="after")
    def _validates_what_it_has(self) -> Self:
        if len(set(self.val_shots)) < len(self.val_shots):
            raise ValueError(f"val_shot={list(self.val_shots)} names a shot twice")
        if self.val_fusions and not self.traits.has_levels:
            raise ValueError(f"val_fusions weighs the levels of HCL, which regime={self.regime} does not have")
        return self

    @property
    def worker_counts(self) -> tuple[int, ...]:
        """The numbers of workers that the run may have, which share a batch evenly; the largest first."""
        shared = self.episodes_per_step if self.traits.is_episodic else self.classes_per_batch
        least = self.min_workers or self.workers
        return tuple(count for count in range(self.workers, least - 1, -1) if shared % count == 0)

    @model_validator(mode="after")
    def _least_is_no_more(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers={self.min_workers} is more than workers={self.workers}")
        return self

    @model_validator(mode="after")
    def _workers_share_evenly(self) -> Self:
        if self.traits.is_episodic:
            if self.episodes_per_step % self.workers:
                raise ValueError(
                    f"episodes_per_step={self.episodes_per_step} cannot be shared evenly by workers={self.workers}"
                )
            return self
        if self.classes_per_batch % self.workers:
            raise ValueError(
                f"classes_per_batch={self.classes_per_batch} cannot be shared evenly by workers={self.workers}: "
                "workers take equal shares, so that the mean of their losses is the loss of the batch"
            )
        return self
