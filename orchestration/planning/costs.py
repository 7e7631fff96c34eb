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


def estimate_costs(
    experiment: Experiment, survey: FolderSurvey, n_clips: dict[str, int], machine: Machine, *, measured: bool = True
) -> Costs:
    """Estimate an experiment's costs, roughly: they rest on figures of one machine and a sample of headers.

    Args:
        n_clips: number of videos of each partition.
        measured: false assumes videos of a usual size instead of reading headers.
    """
    train, model = experiment.train, experiment.model
    n_training = sum(n_clips[name] for name in experiment.data.train_partitions)
    n_selecting, n_test = n_clips[experiment.data.selection_partition], n_clips[experiment.evaluation.partition]
    speed = max(1, machine.n_gpus) * _GPU_FACTOR if train.use_gpu else max(1, min(machine.n_cpus, 8))
    caches = model.cached_views > 0 and (model.frozen_stages > 0 or not model.train_backbone)
    views = model.cached_views if caches else 0
    steps = train.epochs * train.batches_per_epoch * 2 * train.classes_per_batch * _TRAIN_S
    steps *= 1 if caches else 3  # the whole backbone learns
    encoding = (views * n_training + (train.epochs if not caches else 1) * n_selecting) * _ENCODE_S
    frames, pixels = _frames_of(survey, measured)
    extraction = 0.0 if survey.of_frames else frames * pixels * len(survey.videos) / _DECODED_PER_S / machine.n_cpus
    stored = min(pixels, _SHORT_SIDE**2 * 1.5) * frames * _BYTES_PER_PIXEL * len(survey.videos)
    grids = (views * n_training + n_selecting) * 0.36e6 if caches else 0.0
    return Costs(
        extract_s=extraction + (0 if survey.of_frames else 8),
        train_s=(steps + encoding) / speed + 30,
        evaluate_s=3 * n_test * _SCORE_S / speed + 20,
        frames_gb=0.0 if survey.of_frames else stored / 1e9,
        cache_gb=grids / 1e9 + 0.3,
    )


def _frames_of(survey: FolderSurvey, measured: bool) -> tuple[float, float]:
    """Return the mean number of frames and of pixels of a frame over a sample of the videos."""
    if survey.of_frames or not measured:
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
