"""Define the settings of the network and of matching two clips."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import model_validator

from hcl.config.definitions import Named
from hcl.config.section import Section, setting


class Model(Section):
    backbone: Annotated[str, Named("backbone")] = setting(
        "resnet50", "network that turns a frame into a grid of patches; the section `backbone` holds its settings"
    )
    weights: str = setting(
        "imagenet",
        "`imagenet` (for a network of timm its pretrained weights, whatever data they are of), `none` (random), or the "
        "path of a state dict of the backbone",
        min_length=1,
    )
    train_backbone: bool = setting(True, "false freezes the whole backbone, its batch norm included")
    frozen_stages: int = setting(
        0,
        "lowest of the backbone's stages (five, if convolutional) that stay frozen while the others are trained",
        unit="stages",
        ge=0,
        le=64,
    )
    tune: Literal["all", "stages", "lora", "adapters"] = setting(
        "stages",
        "what is learnt of the backbone: stages: those that are not frozen; all: the whole of it; lora: low-rank "
        "updates of layers, adapters: small networks after parts of blocks, both in the stages that are not frozen",
    )
    tune_rank: int = setting(8, "with lora and adapters: width of the new layers between their ends", ge=1, le=512)
    tune_targets: Literal["attention", "mlp", "all"] = setting(
        "attention",
        "with lora and adapters: the parts of blocks that they change; all: both and, with lora, every other linear "
        "layer and convolution too, which convolutional networks need",
    )
    cached_views: int = setting(
        2,
        "augmented views of each training clip that frozen stages encode once and cache; 0 encodes every batch",
        unit="views",
        ge=0,
        le=64,
    )
    batch_norm: Literal["train", "frozen", "sync"] = setting(
        "train",
        "train: statistics of a worker's own frames, as released; frozen: pretrained statistics, which do not depend "
        "on the number of workers; sync: statistics of all workers' frames (CUDA only)",
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
        "3d_learned", "embedding added to queries and keys; the 2d ones repeat over time"
    )
    max_positions: int = setting(
        10, "rows of each learned position table: at least the number of frames and the grid's side", ge=2, le=256
    )

    pooled_from: Literal["backbone", "encoder"] = setting(
        "backbone",
        "features that the regimes other than hcl pool: the backbone's grids, as released, or the encoder's tokens",
    )
    embedding_dim: int = setting(768, "width of class-name embeddings, read only with matching.semantic", ge=1, le=8192)

    @property
    def is_adapted(self) -> bool:
        """Return true if the backbone's own weights stay as given, and only new ones learn."""
        return self.tune in ("lora", "adapters")

    @model_validator(mode="after")
    def _tuning_finds_weights(self) -> Self:
        if self.is_adapted and not self.train_backbone:
            raise ValueError(
                f"tune={self.tune} learns in the backbone, all of which train_backbone=false freezes; set "
                "train_backbone=true, which keeps the backbone's own weights here too"
            )
        if self.tune == "all" and (self.frozen_stages or not self.train_backbone):
            raise ValueError(
                f"tune=all contradicts frozen_stages={self.frozen_stages} with train_backbone={self.train_backbone}; "
                "set tune=stages, or frozen_stages=0 and train_backbone=true"
            )
        return self

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
        "features of the global level: the mean of all patches, as published; the frames' mean tokens, or all tokens, "
        "side by side, which keep the order of frames and the position of patches",
    )
    top_tuples: int = setting(10, "best-matching query tuples kept (K_T)", unit="tuples", ge=1)
    top_patches: int = setting(40, "best-matching query patches kept (K_P)", unit="patches", ge=1)
    zoom_ranks_train: int = setting(1, "best tuple matches whose patches the spatial level compares, in training", ge=1)
    zoom_ranks_test: int = setting(5, "best tuple matches whose patches the spatial level compares, at test", ge=1)
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
    mix_scales: bool = setting(
        False,
        "multi-scale patches take their frames from other clips (deviation 3), those of the same worker: with "
        "multi_scale only one worker can train",
    )
    swap_shot_axes: bool = setting(False, "read (support, tuple) as (tuple, support) above 1 shot (deviation 5)")
    semantic: bool = setting(
        False,
        "class-name embeddings weigh the patches that the spatial level chooses from; they learn through the spatial "
        "cycle term alone (loss.sigma_spatial_cycle), because choosing has no gradient",
    )
    misplaced_training_semantics: bool = setting(
        False, "in training apply the patch weights of the first clip to all others (deviation 18)"
    )
    leaking_semantics: bool = setting(
        False,
        "at test weight queries by the embeddings of an episode's first clips, at 5 shots those of the queries' own "
        "classes: a leak, only in mode published (deviation 7)",
    )
    chunk_size: int = setting(
        16, "query clips matched at a time, which bounds memory and never changes a result", unit="clips", ge=1
    )

    @model_validator(mode="after")
    def _sizes_are_distinct(self) -> Self:
        if len(set(self.tuple_sizes)) != len(self.tuple_sizes):
            raise ValueError(f"tuple_sizes must be distinct, got {self.tuple_sizes}")
        return self
