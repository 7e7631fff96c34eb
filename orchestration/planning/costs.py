"""Estimate what an experiment on a folder of videos takes in time and disk, from a sample of its videos."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from hcl.config import Experiment
from hcl.datasets.folder_survey import FolderSurvey
from orchestration.planning.machine import Machine

_SAMPLE = 24  # videos whose headers are read
_USUAL_FRAMES, _USUAL_PIXELS = 150, 640 * 480
_SHORT_SIDE = 256
_BYTES_PER_PIXEL = 0.3  # of a JPEG of quality 90
_DECODED_PER_S = 20e6  # pixels that one processor decodes, shrinks and writes

# Seconds of one processor for a clip of 8 frames at 224 pixels, measured with metaworld_cpu.
_ENCODE_S, _TRAIN_S, _SCORE_S = 0.16, 0.33, 0.25
_GPU_FACTOR = 20  # a guess: a GPU was not measured


@dataclass(frozen=True)
class Costs:
    """Hold estimates of a whole experiment, from extraction to evaluation.

    Attributes:
        extract_s, train_s, evaluate_s: seconds on this machine.
        frames_gb, cache_gb: disk of frames under the data root, and of caches and checkpoints under the runs folder.
    """

    extract_s: float
    train_s: float
    evaluate_s: float
    frames_gb: float
    cache_gb: float

    @property
    def seconds(self) -> float:
        return self.extract_s + self.train_s + self.evaluate_s

    @property
    def disk_gb(self) -> float:
        return self.frames_gb + self.cache_gb


def estimate_costs(experiment: Experiment, survey: FolderSurvey, n_clips: dict[str, int], machine: Machine) -> Costs:
    """Estimate an experiment's costs, roughly: they rest on figures of one machine and a sample of headers.

    Args:
        n_clips: number of videos of each partition.
    """
    model = experiment.model
    n_training = sum(n_clips[name] for name in experiment.data.train_partitions)
    n_selecting, n_test = n_clips[experiment.data.selection_partition], n_clips[experiment.evaluation.partition]
    views = model.cached_views if _caches(experiment) else 0
    frames, pixels = _frames_of(survey)
    extraction = 0.0 if survey.of_frames else frames * pixels * len(survey.videos) / _DECODED_PER_S / machine.n_cpus
    stored = min(pixels, _SHORT_SIDE**2 * 1.5) * frames * _BYTES_PER_PIXEL * len(survey.videos)
    grids = (views * n_training + n_selecting) * 0.36e6 if views else 0.0
    return Costs(
        extract_s=extraction + (0 if survey.of_frames else 8),
        train_s=training_seconds(experiment, n_training, n_selecting, machine),
        evaluate_s=3 * n_test * _SCORE_S / _speed(experiment, machine) + 20,
        frames_gb=0.0 if survey.of_frames else stored / 1e9,
        cache_gb=grids / 1e9 + 0.3,
    )


def training_seconds(experiment: Experiment, n_training: int, n_selecting: int, machine: Machine) -> float:
    """Estimate the seconds of a training with its validations and encodings, roughly.

    Args:
        n_training, n_selecting: videos that are trained on, and that choose the best epoch.
    """
    train, model = experiment.train, experiment.model
    clips_per_step = 2 * train.classes_per_batch
    if train.traits.is_episodic:
        clips_per_step = train.episodes_per_step * train.episode_way * (train.episode_shot + train.episode_queries)
    steps = train.epochs * train.batches_per_epoch * clips_per_step * _TRAIN_S
    encoding = train.epochs * n_selecting * _ENCODE_S
    if _caches(experiment):
        encoding = (model.cached_views * n_training + n_selecting) * _ENCODE_S
    else:
        steps *= 3  # the whole backbone learns
    size = experiment.clips.n_frames * experiment.clips.size**2 / (8 * 224**2)
    return (steps + encoding) * size / _speed(experiment, machine) + 30


def _caches(experiment: Experiment) -> bool:
    model = experiment.model
    return model.cached_views > 0 and (model.frozen_stages > 0 or not model.train_backbone)


def _speed(experiment: Experiment, machine: Machine) -> float:
    """Return how many times faster this machine is than one processor."""
    return max(1, machine.n_gpus) * _GPU_FACTOR if experiment.train.use_gpu else max(1, min(machine.n_cpus, 8))


def _frames_of(survey: FolderSurvey) -> tuple[float, float]:
    """Return the mean number of frames and of pixels of a frame over a sample of the videos."""
    if survey.of_frames:
        return _USUAL_FRAMES, _USUAL_PIXELS
    step = max(1, len(survey.videos) // _SAMPLE)
    headers = _headers([video.path for video in survey.videos[::step]][:_SAMPLE])
    if not headers:
        return _USUAL_FRAMES, _USUAL_PIXELS
    return tuple(sum(values) / len(headers) for values in zip(*headers, strict=True))  # type: ignore[return-value]


def _headers(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return the frames and the pixels of a frame of the videos whose headers tell them."""
    from hcl.videos.opencv_reader import OpenCVFrames
    from hcl.videos.reader import Distrusted, Unreadable

    found = []
    for path in paths:
        with suppress(Distrusted, Unreadable), closing(OpenCVFrames(path)) as frames:
            header = frames.header
            if header.n_frames > 0 and header.n_pixels > 0:
                found.append((header.n_frames, header.n_pixels))
    return found
