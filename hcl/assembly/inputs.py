"""Build the inputs of an experiment's model: clips, validation episodes, class-name embeddings."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hcl.clips import dataset as clips
from hcl.clips.dataset import ClipDataset, Draw, Frames
from hcl.clips.episodes import Episodes, sample_episodes, with_absent_classes
from hcl.config import Clips, Experiment
from hcl.config.paths import setting_of
from hcl.datasets.embeddings import embeddings_file, read_embeddings
from hcl.datasets.splits import Partition
from hcl.frames.shard_cache import ShardCache
from hcl.frames.store import BY_CONTENT, FrameStore
from hcl.frames.stored_dataset import StoredDataset
from hcl.models.checkpoint import file_digest

VAL_SEED = 20221023
"""Seed of the validation episodes; those of the evaluation use `evaluation.seed`."""


def make_dataset(
    experiment: Experiment, frames: Frames, partition: Partition, *, training: bool, random_views: bool = False
) -> ClipDataset:
    """Build the data set of a partition's clips for training or for test.

    Args:
        random_views: at test, let the seeds of a draw choose random views (`test_draws`) instead of the single view.
    """
    settings, own = experiment.clips, experiment.definition("augmentation")
    if training and settings.augmentation != "none":
        transform = own.implementation.make(settings.size, experiment.augmentation)
    elif training:
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


def frame_store(experiment: Experiment, stored: StoredDataset) -> FrameStore:
    """Return a data set's frames, read through this machine's copies of its shards where `data.cache_dir` is set."""
    data = experiment.data
    if not data.cache_dir:
        return stored.frames
    return stored.frames.through(ShardCache(Path(data.cache_dir), int(data.cache_gb * 1e9)))


def test_draws(clip: int, views: int) -> list[Draw]:
    """Return the views of a clip that an evaluation averages over: the single test view, or numbered random ones."""
    return [Draw(clip)] if views == 1 else [Draw(clip, (view,)) for view in range(views)]


def val_episodes(experiment: Experiment, partition: Partition) -> list[Episodes]:
    """Return the episodes of each shot that choose the best epoch: the same after every epoch and in every trial."""
    train = experiment.train
    return _episodes(experiment, partition, train.val_shots, train.val_episodes, VAL_SEED)


def evaluation_episodes(experiment: Experiment, partition: Partition) -> list[Episodes]:
    """Return the episodes of each shot that an evaluation asks. Raises EpisodeError."""
    evaluation = experiment.evaluation
    return _episodes(experiment, partition, evaluation.shots, evaluation.episodes, evaluation.seed)


def calibration_episodes(
    experiment: Experiment, partition: Partition, *, way: int, shot: int
) -> tuple[Episodes, Episodes | None]:
    """Return episodes of about `way` classes and `shot` clips, and the same with queries of absent classes.

    Both are reduced to what the partition can give: one class is kept out of the episodes, and one clip a class is left
    as a query. The second is None if the partition has two classes only.

    Raises:
        EpisodeError: the partition has one class, or a class with a single clip.
    """
    sizes = np.bincount(partition.labels, minlength=len(partition.classes))
    n_classes, smallest = len(partition.classes), int(sizes.min())
    way = max(2, min(way, n_classes - 1))
    shot = max(1, min(shot, smallest - 1))
    drawn = sample_episodes(
        partition.labels,
        way=min(2 * way, max(2, n_classes)),
        shot=shot,
        queries=max(1, min(experiment.evaluation.queries, smallest - shot)),
        episodes=experiment.evaluation.episodes,
        seed=experiment.evaluation.seed,
        class_names=partition.classes,
    )
    return with_absent_classes(drawn, way) if drawn.way > way else (drawn, None)


def _episodes(
    experiment: Experiment, partition: Partition, shots: Sequence[int], n_episodes: int, seed: int
) -> list[Episodes]:
    evaluation = experiment.evaluation
    return [
        sample_episodes(
            partition.labels,
            way=evaluation.way,
            shot=shot,
            queries=evaluation.queries,
            episodes=n_episodes,
            seed=seed,
            class_names=partition.classes,
            overlapping=evaluation.overlapping,
        )
        for shot in shots
    ]


def class_embeddings(
    experiment: Experiment, stored: StoredDataset, partition: Partition
) -> Float[Tensor, "class_index embedding"] | None:
    """Read the embedding of each class name of a partition; None without `matching.semantic`. Raises DataError."""
    if not experiment.matching.semantic:
        return None
    pattern, dim = experiment.data.embeddings, experiment.model.embedding_dim
    path = embeddings_file(stored.data_root, stored.name, pattern)
    is_default = pattern == setting_of("data.embeddings").default
    options = "" if is_default else f"--set {shlex.quote(f'data.embeddings={pattern}')}"
    return read_embeddings(path, partition.classes, dataset=partition.dataset, dim=dim, options=options)


def clip_embeddings(
    experiment: Experiment, stored: StoredDataset, partition: Partition
) -> Float[Tensor, "clip embedding"] | None:
    """Read the embedding of each clip's class name; None without `matching.semantic`. Raises DataError."""
    of_class = class_embeddings(experiment, stored, partition)
    return None if of_class is None else of_class[torch.tensor(partition.labels)]


def embeddings_identity(experiment: Experiment, stored: StoredDataset) -> str:
    """Return the digest of the class-name embeddings that an experiment reads; empty where it reads none."""
    if not experiment.matching.semantic:
        return ""
    path = embeddings_file(stored.data_root, stored.name, experiment.data.embeddings)
    return file_digest(path) if path.exists() else ""


def recorded_frames(recorded: str, here: str) -> str:
    """Return a recorded identity of frames in the form in which it can be compared with the current one.

    It is empty if they cannot be compared: earlier versions identified other tools' frames by sizes.
    """
    if recorded.removeprefix(BY_CONTENT) == here.removeprefix(BY_CONTENT):
        return here
    return "" if here.startswith(BY_CONTENT) and not recorded.startswith(BY_CONTENT) else recorded


def _min_side(settings: Clips, training: bool) -> int:
    return clips.train_min_side(settings.size, settings.crop_scale) if training else settings.size
