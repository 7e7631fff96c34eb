"""Define videos of three partitions, their frames, and a run whose weights are random."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hcl.assembly import models
from hcl.assembly.experiment_files import to_yaml
from hcl.config import Experiment
from hcl.datasets.manifest import write_manifest
from hcl.datasets.splits import Partition, Video, write_split
from hcl.frames.decoding import FrameOptions
from hcl.frames.extraction import extract_video
from hcl.models.checkpoint import save_checkpoint
from orchestration.evaluation import scorer, scoring
from orchestration.prediction import predict, predictor
from orchestration.training import grids
from orchestration.training.run_files import BEST
from tests.orchestration.conftest import CLASSES, tiny_experiment
from tests.orchestration.inline import without_ray

N_VIDEOS = 4
EXTRACTED = FrameOptions(short_side=40, quality=85)  # other options than the default ones


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run actors as objects of this process."""
    without_ray(monkeypatch, scoring, scorer, grids, predict, predictor)


@pytest.fixture(scope="session")
def video_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data root with videos, frames, manifest and split; each class has its own colour."""
    root = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(3)
    partitions, records = {}, []
    for name, classes in CLASSES.items():
        videos = tuple(Video(one, f"{one}_{index}") for one in classes for index in range(N_VIDEOS))
        partitions[name] = Partition("toy", name, classes, videos)
        for video in videos:
            source = root / "videos" / "toy" / video.class_name / f"{video.name}.avi"
            write_video(source, 60 + 30 * classes.index(video.class_name), rng)
            destination = root / "images" / "toy" / video.class_name / video.name
            records.append(extract_video(source, destination, EXTRACTED))
    write_split(root, "toy", partitions)
    write_manifest(root / "images" / "toy", records)
    return root


def write_video(path: Path, colour: int, rng: np.random.Generator, n_frames: int = 9) -> None:
    """Write a video of noise around a grey level, with a bar that moves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 56))
    for index in range(n_frames):
        frame = np.clip(rng.normal(colour, 30, (56, 64, 3)), 0, 255).astype(np.uint8)
        frame[:, 5 * index : 5 * index + 8] = 255
        writer.write(frame)
    writer.release()


MakeRun = Callable[..., tuple[Path, Experiment]]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Return a function that makes a run of random weights in `runs/tiny`, and returns its folder and experiment."""

    def make(**changes: Any) -> tuple[Path, Experiment]:
        experiment = tiny_experiment(**changes)
        folder = tmp_path / "runs" / "tiny"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "experiment.yaml").write_text(to_yaml(experiment))
        classes = list(CLASSES["train"])
        model = models.make_model(experiment, len(classes))
        save_checkpoint(folder / BEST, model=model, state={"classes": classes, "epoch": 1})
        return folder, experiment

    return make
