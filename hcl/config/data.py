"""Define the settings of a run's videos and of the clips made from them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import model_validator

from hcl.config.definitions import Named
from hcl.config.section import Section, setting


class Data(Section):
    dataset: str = setting(
        "synth_plain", "data set of training and validation: a folder under data/splits", min_length=1
    )
    train_partitions: tuple[Literal["train", "val"], ...] = setting(
        ("train",), "partitions whose classes are trained on; the release trains on train and val", min_length=1
    )
    selection_partition: Literal["val", "test"] = setting(
        "val", "partition that selects the best epoch; `test` only with protocol `published`"
    )
    protocol: Literal["standard", "published"] = setting(
        "standard", "`published` trains on train+val and selects on test as the release does, and every table marks it"
    )
    keep_copies: bool = setting(
        False,
        "use all listed videos with equal frames; by default only one of them is used, from test before val before "
        "train, except with protocol `published`",
    )
    embeddings: str = setting(
        "embeddings/{dataset}.npz",
        "matching.semantic: file of class-name embeddings under the data root; {dataset} stands for a data set's name",
        min_length=1,
    )
    cache_dir: str = setting(
        "", "folder on each node's own disk for copies of packed shards; empty: read the shards without copies"
    )
    cache_gb: float = setting(50.0, "maximum size of these copies on a node, in GB", gt=0, le=1e9)


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
    flip: bool = setting(False, "mirror training clips at random; leave it off if left and right are different classes")
    jitter: float = setting(0.8, "probability of colour jitter (0.4, 0.4, 0.4, 0.1)", ge=0, le=1)
    grey: float = setting(0.2, "probability of a grey clip", ge=0, le=1)
    per_frame: bool = setting(False, "draw the augmentation separately for each frame, as released, not once a clip")
    augmentation: Annotated[str, Named("augmentation")] = setting(
        "none",
        "your own augmentation of training clips, in place of crop, flip, jitter and grey; the section `augmentation` "
        "holds its settings",
    )
    reduced_decoding: bool = setting(
        False, "decode at a half, quarter or eighth of the size if enough pixels are left: faster, but pixels differ"
    )

    @model_validator(mode="after")
    def _crop_scale_is_a_range(self) -> Self:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale must satisfy 0 < low <= high <= 1, got {low}, {high}")
        return self
