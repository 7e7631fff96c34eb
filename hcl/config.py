"""What an experiment is: every setting with its type, bounds, unit and meaning.

`hcl.resolve` builds an `Experiment` from YAML files and overrides; nothing below the edge of the
program takes a configuration object, only plain named arguments.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator


def setting(default: Any, meaning: str, *, unit: str | None = None, **bounds: Any) -> Any:
    """A field with its meaning, its unit and its bounds (pydantic's ge, gt, le, lt, min_length)."""
    extra: dict[str, Any] | None = {"unit": unit} if unit else None
    return Field(default, description=meaning, json_schema_extra=extra, validate_default=True, **bounds)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Data(Section):
    dataset: str = setting(
        "synth_plain", "data set of training and validation: a folder under data/splits", min_length=1
    )
    train_partitions: tuple[Literal["train", "val"], ...] = setting(
        ("train",), "partitions whose classes are trained on; the release trains on train and val", min_length=1
    )
    selection_partition: Literal["val", "test"] = setting(
        "val", "partition that chooses the best epoch; `test` only with protocol `published`"
    )
    protocol: Literal["standard", "published"] = setting(
        "standard", "`published` trains on train+val and selects on test as the release does, and every table marks it"
    )
    embeddings: str = setting(
        "embeddings/{dataset}.npz",
        "matching.semantic: file of class-name embeddings under the data root; {dataset} stands for a data set's name",
        min_length=1,
    )


class Clips(Section):
    n_frames: int = setting(8, "frames of a clip", unit="frames", ge=2, le=64)
    size: int = setting(224, "side of the square that the backbone sees", unit="pixels", ge=32, le=512)
    resize: Literal["squash", "crop"] = setting(
        "crop", "`squash` to a square as released, or `crop` the centre after scaling the short side"
    )
    train_sampling: Literal["segments", "random"] = setting(
        "segments", "one random frame of each of n_frames equal segments, or a sorted random subset as released"
    )
    test_sampling: Literal["segments", "random"] = setting(
        "segments", "the centre of each segment, or a sorted random subset as released (noisy)"
    )
    crop_scale: tuple[float, float] = setting(
        (0.2, 1.0), "area of the random crop in training, as a share of the frame"
    )
    flip: bool = setting(False, "mirror training clips at random; off where left and right are classes")
    jitter: float = setting(0.8, "probability of colour jitter (0.4, 0.4, 0.4, 0.1)", ge=0, le=1)
    grey: float = setting(0.2, "probability of a grey clip", ge=0, le=1)
    per_frame: bool = setting(False, "draw the augmentation for each frame by itself, as released, not once a clip")
    reduced_decoding: bool = setting(
        False, "decode at a half, quarter or eighth of the size where enough pixels are left: faster, other pixels"
    )

    @model_validator(mode="after")
    def _crop_scale_is_a_range(self) -> Self:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale must satisfy 0 < low <= high <= 1, got {low}, {high}")
        return self


class Model(Section):
    backbone: Literal["resnet18", "resnet34", "resnet50", "efficientnet_lite0"] = setting(
        "resnet50", "network that turns a frame into a grid of patches"
    )
    weights: str = setting(
        "imagenet", "`imagenet`, `none` (random), or the path of a state dict of the backbone", min_length=1
    )
    train_backbone: bool = setting(True, "false freezes the whole backbone, its batch norm included")
    frozen_stages: int = setting(
        0,
        "lowest of the backbone's five stages that stay frozen while the others are trained",
        unit="stages",
        ge=0,
        le=4,
    )
    cached_views: int = setting(
        2,
        "frozen stages: augmented views of each training clip that they encode once, and cache; 0 encodes every batch",
        unit="views",
        ge=0,
        le=64,
    )
    batch_norm: Literal["train", "frozen", "sync"] = setting(
        "train",
        "statistics of a worker's own frames, as released; frozen: the pretrained ones, which do not depend on the "
        "number of workers; sync: of all workers' frames (CUDA only)",
    )
    d_model: int = setting(1152, "width of tokens and features", ge=8, le=4096)
    n_layers: int = setting(1, "transformer encoder layers; 0: tokens are the projected patches", ge=0, le=12)
    n_heads: int = setting(8, "attention heads; divides d_model", ge=1, le=64)
    dim_feedforward: int | None = setting(
        None, "width of the encoder's feed-forward part; empty: the backbone's channels", ge=1
    )
    dropout: float = setting(0.1, "dropout in the encoder", ge=0, lt=1)
    pre_norm: bool = setting(False, "normalise before each encoder block, with a final layer norm")
    position_embedding: Literal["3d_learned", "2d_learned", "2d_sine"] = setting(
        "3d_learned", "added to queries and keys; the 2d ones repeat over time"
    )
    max_positions: int = setting(
        10, "rows of each learned position table: the most frames and the largest grid side", ge=2, le=256
    )

    pooled_from: Literal["backbone", "encoder"] = setting(
        "backbone",
        "what the regimes other than hcl pool and compare: the backbone's grids, as released, or the encoder's tokens",
    )
    embedding_dim: int = setting(768, "width of class-name embeddings, read only with matching.semantic", ge=1, le=8192)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads} does not divide d_model={self.d_model}")
        if self.position_embedding == "2d_sine" and self.d_model % 4:
            raise ValueError(f"2d_sine needs d_model to be a multiple of 4, got {self.d_model}")
        if self.position_embedding == "2d_learned" and self.d_model % 2:
            raise ValueError(f"2d_learned needs an even d_model, got {self.d_model}")
        return self


class Matching(Section):
    tuple_sizes: tuple[Literal[2, 3], ...] = setting(
        (2,), "frames of a tuple; several sizes are averaged", min_length=1
    )
    global_pooling: Literal["mean", "frames", "patches"] = setting(
        "mean",
        "what the global level compares: the mean of all patches, as published, or the frames' mean tokens, or all "
        "tokens, side by side: they keep when, and where, something is",
    )
    top_tuples: int = setting(10, "best-matching query tuples kept (K_T)", unit="tuples", ge=1)
    top_patches: int = setting(40, "best-matching query patches kept (K_P)", unit="patches", ge=1)
    zoom_ranks_train: int = setting(1, "ranks of the kept tuples that the spatial level looks into, in training", ge=1)
    zoom_ranks_test: int = setting(5, "the same at test", ge=1)
    multi_scale: bool = setting(False, "add 2x2 and 4x4 average-pooled patches to each frame")
    project_at_test: bool = setting(
        True, "use the matching heads at test as in training; the release skips them (deviation 4)"
    )
    renormalise: bool = setting(False, "normalise the means of kept tuples and patches again (deviation 23)")
    metric: Literal["auto", "cosine", "euclidean"] = setting(
        "auto", "test similarity; auto: cosine at 1 shot, negative squared Euclidean above, as published"
    )
    reproject_per_size: bool = setting(
        False, "with several tuple sizes, project the patches once more per size (deviation 2)"
    )
    mix_scales: bool = setting(False, "multi-scale patches take their frames from other clips (deviation 3)")
    swap_shot_axes: bool = setting(False, "read (support, tuple) as (tuple, support) above 1 shot (deviation 5)")
    semantic: bool = setting(
        False,
        "class-name embeddings weigh the patches that the spatial level chooses from; they learn through the spatial "
        "cycle term alone (loss.sigma_spatial_cycle), because choosing has no gradient",
    )
    misplaced_training_semantics: bool = setting(
        False, "in training the patches chosen for the first clip weigh all others (deviation 18)"
    )
    leaking_semantics: bool = setting(
        False,
        "at test the embeddings of an episode's first clips weigh its queries, at 5 shots those of the queries' own "
        "classes: a leak, only in mode published (deviation 7)",
    )
    chunk_size: int = setting(
        16, "query clips matched at a time: bounds memory, never changes a result", unit="clips", ge=1
    )

    @model_validator(mode="after")
    def _sizes_are_distinct(self) -> Self:
        if len(set(self.tuple_sizes)) != len(self.tuple_sizes):
            raise ValueError(f"tuple_sizes must be distinct, got {self.tuple_sizes}")
        return self


class Loss(Section):
    sigma_ce: float = setting(1.0, "weight of the classification term", ge=0)
    sigma_global: float = setting(1.0, "weight of the global contrastive term", ge=0)
    sigma_temporal: float = setting(0.5, "weight of the temporal contrastive term", ge=0)
    sigma_temporal_cycle: float = setting(0.25, "weight of the temporal cycle term", ge=0)
    sigma_spatial: float = setting(0.5, "weight of the spatial contrastive term", ge=0)
    sigma_spatial_cycle: float = setting(0.0, "weight of the spatial cycle term; 0 leaves it out", ge=0)
    temperature: float = setting(0.07, "temperature of every contrastive term (tau)", gt=0)
    cycle_temperature: float = setting(1.0, "temperature of the cycle's soft nearest neighbour; published 1", gt=0)
    keep_anchor: bool = setting(False, "leave the anchor in the denominator as exp(0), as released (deviation 1)")


class Fusion(Section):
    sigma_global: float = setting(1.0, "weight of the global similarity", ge=0)
    sigma_temporal: float = setting(0.5, "weight of the temporal similarity", ge=0)
    sigma_spatial: float = setting(0.5, "weight of the spatial similarity", ge=0)
    triples: float = setting(
        0.5, "share of tuples of three beside those of two, where both are matched; half is their mean", ge=0, le=1
    )
    over_shots: Literal["mean", "max"] = setting(
        "mean", "a class's similarity from its shots: their mean, or the nearest; `max` concerns `hcl evaluate` alone"
    )

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if self.sigma_global + self.sigma_temporal + self.sigma_spatial == 0:
            raise ValueError("all three sigmas are 0: nothing would be compared")
        return self


class Optim(Section):
    optimizer: Literal["adamw", "adam", "sgd"] = setting("adamw", "optimiser")
    lr: float = setting(1e-4, "learning rate", gt=0)
    backbone_lr_factor: float = setting(0.1, "the backbone's learning rate as a share of lr", ge=0, le=1)
    weight_decay: float = setting(1e-4, "weight decay", ge=0)
    momentum: float = setting(0.9, "momentum of sgd", ge=0, lt=1)
    schedule: Literal["step", "multi_step", "cosine", "constant"] = setting("step", "learning rate over the epochs")
    step_size: int = setting(10, "step: epochs between two drops", unit="epochs", ge=1)
    milestones: tuple[int, ...] = setting((5, 8, 11, 13, 15), "multi_step: epochs of the drops")
    gamma: float = setting(0.1, "factor of a drop", gt=0, le=1)
    warmup_epochs: int = setting(0, "epochs of linear warm-up", unit="epochs", ge=0)
    clip_norm: float = setting(0.1, "largest norm of the gradient; 0 does not clip", ge=0)


RegimeName = Literal["hcl", "classification", "protonet", "cosine", "matching", "relation"]
REGIMES: tuple[str, ...] = get_args(RegimeName)
EPISODIC = REGIMES[2:]
"""Regimes whose steps are episodes; the other two learn from pair batches."""


class Train(Section):
    regime: RegimeName = setting(
        "hcl",
        "how a run learns: HCL's pair batches, a plain classifier of pooled features, or one of four baselines that "
        "learn from episodes",
    )
    episodes_per_step: int = setting(
        4, "episodic regimes: episodes whose gradients are added up in a step, over all workers", unit="episodes", ge=1
    )
    episode_way: int = setting(5, "classes of a training episode", ge=2)
    episode_shot: int = setting(1, "labelled clips a class of a training episode", ge=1)
    episode_queries: int = setting(5, "clips to classify, a class of a training episode", ge=1)
    epochs: int = setting(15, "epochs", unit="epochs", ge=1)
    batches_per_epoch: int = setting(1000, "optimiser steps an epoch", unit="batches", ge=1)
    classes_per_batch: int = setting(24, "classes of a pair batch, two clips each, over all workers", ge=2)
    workers: int = setting(1, "DDP workers", ge=1, le=4096)
    use_gpu: bool = setting(False, "one GPU a worker (NCCL); false: CPU (gloo)")
    precision: Literal["float32", "bfloat16", "float16"] = setting(
        "float32", "autocast of the forward pass; float16 scales the loss, so that small gradients survive"
    )
    channels_last: bool = setting(False, "memory format of the backbone: faster on recent GPUs")
    compile: bool = setting(False, "torch.compile of backbone and encoder: minutes at the start, faster steps after")
    recompute_backbone: bool = setting(
        False, "compute the backbone's blocks again in the backward pass instead of keeping them: memory for time"
    )
    loader_processes: int = setting(0, "processes that read and transform clips, per worker", ge=0, le=128)
    prefetch: int = setting(2, "batches that each of these processes reads ahead", unit="batches", ge=1, le=64)
    checkpoint_every: int = setting(
        100,
        "steps between checkpoints inside an epoch, what a crash may cost; 0: after epochs only",
        unit="batches",
        ge=0,
    )
    val_episodes: int = setting(200, "episodes of the selection partition after each epoch", unit="episodes", ge=1)
    val_shot: int = setting(1, "shots of these episodes", ge=1)

    @model_validator(mode="after")
    def _workers_share_evenly(self) -> Self:
        if self.regime in EPISODIC:
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


class Evaluation(Section):
    datasets: tuple[str, ...] = setting((), "data sets evaluated; empty: the training data set only")
    partition: Literal["val", "test"] = setting("test", "partition that the episodes come from")
    way: int = setting(5, "classes of an episode", ge=2)
    shots: tuple[Annotated[int, Field(ge=1)], ...] = setting((1, 2, 3, 4, 5), "labelled clips a class", min_length=1)
    queries: int = setting(5, "clips to classify, a class", ge=1)
    episodes: int = setting(1000, "episodes of each cell", unit="episodes", ge=1)
    seed: int = setting(0, "seed of the episodes", ge=0)
    overlapping: bool = setting(
        False, "draw support and query independently and never class 0, as released (deviations 9, 10)"
    )
    views: int = setting(
        1,
        "readings of each clip that similarities are averaged over: 1 takes clips.test_sampling, more are random",
        unit="views",
        ge=1,
        le=64,
    )
    precision: Literal["float32", "bfloat16"] = setting(
        "float32",
        "bfloat16 keeps patches in half precision and chooses among them by rounded products; means stay in float32",
    )
    keep_features: bool = setting(
        True, "leave the encoded features under runs/cache once all pairs are scored, for other questions about them"
    )
    protocol: Literal["standard", "published"] = setting(
        "standard", "`published` asks as the printed results were asked (`--protocol published`), and tables mark it"
    )


class Experiment(Section):
    name: str = setting("hcl", "name of the run's folder", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    mode: Literal["corrected", "published"] = setting(
        "corrected", "`published` presets every deviation of the released code"
    )
    seed: int = setting(0, "seed of weights, batches and augmentation", ge=0, lt=2**31)
    data: Data = Data()
    clips: Clips = Clips()
    model: Model = Model()
    matching: Matching = Matching()
    loss: Loss = Loss()
    fusion: Fusion = Fusion()
    optim: Optim = Optim()
    train: Train = Train()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        published = self.data.protocol == "published"
        peeks = self.data.selection_partition == "test" or self.data.selection_partition in self.data.train_partitions
        if peeks and not published:
            raise ValueError(
                f"data.selection_partition={self.data.selection_partition} with data.train_partitions="
                f"{self.data.train_partitions} would choose the model on classes it must not see; "
                "set data.protocol=published to do it all the same, and every table will mark it"
            )
        if self.clips.n_frames > self.model.max_positions:
            raise ValueError(
                f"clips.n_frames={self.clips.n_frames} exceeds model.max_positions={self.model.max_positions}"
            )
        side = -(-self.clips.size // 32)  # every backbone here shrinks a frame by 32
        if side > self.model.max_positions and self.model.position_embedding != "2d_sine":
            raise ValueError(
                f"clips.size={self.clips.size} gives {side} x {side} patches, more than model.max_positions="
                f"{self.model.max_positions}"
            )
        if self.clips.n_frames < max(self.matching.tuple_sizes):
            raise ValueError(f"clips.n_frames={self.clips.n_frames} is too few for tuples {self.matching.tuple_sizes}")
        if self.evaluation.protocol == "published" and (wrong := _unlike(self, PUBLISHED_EVALUATION)):
            raise ValueError(
                f"evaluation.protocol=published means {wrong[0]}={wrong[1]}, not {wrong[2]}; "
                "leave it alone, or evaluate with evaluation.protocol=standard"
            )
        if self.model.batch_norm == "sync" and not self.train.use_gpu:
            raise ValueError(
                "model.batch_norm=sync needs train.use_gpu=true: torch synchronises statistics on CUDA only"
            )
        return self

    @model_validator(mode="after")
    def _regime_can_learn(self) -> Self:
        regime, model = self.train.regime, self.model
        if regime in ("protonet", "cosine") and model.pooled_from == "backbone" and not model.train_backbone:
            raise ValueError(
                f"train.regime={regime} learns nothing on a frozen backbone: it has no weights of its own; "
                "set model.pooled_from=encoder or model.train_backbone=true"
            )
        if regime == "relation" and (side := -(-self.clips.size // 32)) < 4:
            raise ValueError(
                f"train.regime=relation halves the feature grid twice and needs 4 cells a side, clips.size="
                f"{self.clips.size} gives {side}; set clips.size=128 or more"
            )
        if self.matching.semantic and regime != "hcl":
            raise ValueError(f"matching.semantic concerns train.regime=hcl alone, got {regime}")
        return self

    @model_validator(mode="after")
    def _semantics_can_be_computed(self) -> Self:
        matching = self.matching
        if not matching.semantic:
            return self
        several = len(matching.tuple_sizes) > 1
        if several and matching.reproject_per_size and self.model.d_model != self.model.embedding_dim:
            raise ValueError(
                "matching.reproject_per_size projects the embeddings once more per tuple size, which needs "
                f"model.d_model={self.model.d_model} to equal model.embedding_dim={self.model.embedding_dim} "
                "(deviation 18); set matching.reproject_per_size=false, or one of matching.tuple_sizes"
            )
        if not matching.leaking_semantics:
            return self
        if self.mode != "published":
            raise ValueError(
                "matching.leaking_semantics reads the classes of the queries: it stands in mode published only, "
                f"mode is {self.mode}"
            )
        if several:
            raise ValueError(
                f"matching.leaking_semantics cannot be computed with matching.tuple_sizes={matching.tuple_sizes}: the "
                "release raises; set matching.leaking_semantics=false, or one size"
            )
        fewest = self.evaluation.way * min(*self.evaluation.shots, self.train.val_shot)
        if fewest < matching.zoom_ranks_test:
            raise ValueError(
                f"matching.leaking_semantics needs as many support clips as matching.zoom_ranks_test="
                f"{matching.zoom_ranks_test}, an episode has {fewest}"
            )
        return self

    def digest(self) -> str:
        """Twelve hexadecimal digits that name these settings, whatever file or option they came from.

        The run's name and the settings of the machine are left out: more workers do not make another experiment.
        """
        content = self.model_dump(mode="json", exclude=MACHINE_SETTINGS)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


MACHINE_SETTINGS: Any = {
    "name": True,
    "train": {"workers", "loader_processes", "prefetch", "use_gpu", "recompute_backbone", "checkpoint_every"},
    "matching": {"chunk_size"},
    "evaluation": {"keep_features"},
}
"""What changes how an experiment is run and not what comes out.

Recomputing the backbone gives the same gradients bit for bit, so it stands here. `train.precision`, `channels_last` and
`compile` do not: they round differently, which after a thousand steps is another model.
"""

PUBLISHED: dict[str, Any] = {
    # What `mode: published` sets beneath the experiment's own values: METHOD's rows marked P.
    "clips.resize": "squash",
    "clips.train_sampling": "random",
    "clips.test_sampling": "random",
    "clips.flip": True,
    "clips.per_frame": True,
    "matching.project_at_test": False,
    "matching.reproject_per_size": True,
    "matching.mix_scales": True,
    "matching.swap_shot_axes": True,
    "matching.misplaced_training_semantics": True,
    "matching.leaking_semantics": True,
    "loss.keep_anchor": True,
    "evaluation.overlapping": True,
}

PUBLISHED_EVALUATION: dict[str, Any] = {
    # What `hcl evaluate --protocol published` sets, to compare with the printed results.
    "evaluation.protocol": "published",
    "evaluation.partition": "test",
    "evaluation.way": 5,
    "evaluation.queries": 5,
    "evaluation.episodes": 3000,
    "evaluation.overlapping": True,
    "evaluation.views": 1,
    "clips.test_sampling": "random",
    "matching.metric": "auto",
}


def _unlike(experiment: Experiment, values: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """The first of some settings that an experiment has otherwise: its path, the value given, the experiment's."""
    for path, value in values.items():
        section, field = path.split(".")
        found = getattr(getattr(experiment, section), field)
        if found != value:
            return path, value, found
    return None
