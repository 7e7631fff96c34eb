"""Define fixtures: two tiny data sets in the published layout, an experiment of seconds, and the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from hcl.assembly.experiment_files import to_yaml
from hcl.config import Experiment
from hcl.config.resolve import resolve
from hcl.datasets.splits import Partition, Video, write_split
from hcl.frames.stored_dataset import DataRoot
from orchestration.cli import main
from orchestration.training.run import Run
from orchestration.training.train import _checked, _open_folder, train

CLASSES = {"train": ("ant", "bee", "cat", "dog"), "val": ("eel", "fox", "gnu"), "test": ("hen", "ibis", "jay")}
N_VIDEOS, N_FRAMES, SIDE = 5, 5, 48

TINY: dict[str, Any] = {
    "name": "tiny",
    "data.dataset": "toy",
    "clips.n_frames": 4,
    "clips.size": SIDE,  # two patches per side
    "clips.resize": "squash",
    "model.backbone": "resnet18",
    "model.weights": "none",
    "model.train_backbone": False,
    "model.d_model": 24,
    "model.n_heads": 4,
    "model.dim_feedforward": 32,
    "matching.top_tuples": 3,
    "matching.top_patches": 3,
    "matching.zoom_ranks_test": 2,
    "optim.lr": 1e-3,
    "train.epochs": 2,
    "train.batches_per_epoch": 2,
    "train.classes_per_batch": 4,
    "train.val_episodes": 20,
    "evaluation.way": 2,
    "evaluation.shots": [1, 3],
    "evaluation.queries": 2,
    "evaluation.episodes": 30,
}

TWO: dict[str, Any] = {"train__workers": 2, "train__epochs": 3}


def tiny_experiment(**changes: Any) -> Experiment:
    """Return the tiny experiment with changed settings; a double underscore stands for the dot."""
    return resolve(None, TINY | {path.replace("__", "."): value for path, value in changes.items()}).experiment


def prepare(experiment: Experiment, *, data_root: Path, runs: Path, restart: bool = False) -> Run:
    """The checks of `train`, and the run's folder as it opens it."""
    run = _checked(experiment, DataRoot(data_root), runs)
    _open_folder(run, restart=restart)
    return run


def write_data(root: Path, datasets: tuple[str, ...] = ("toy", "other"), n_videos: int = N_VIDEOS) -> Path:
    """Write splits and frames without videos or manifest, as another tool would leave them.

    Each class has its own colour, so that a model without trained weights is neither at chance nor perfect.
    """
    for seed, dataset in enumerate(datasets):
        rng = np.random.default_rng(seed)
        partitions = {}
        for name, classes in CLASSES.items():
            videos = tuple(
                Video(class_name, f"{class_name}_{index}") for class_name in classes for index in range(n_videos)
            )
            partitions[name] = Partition(dataset, name, classes, videos)
            for video in videos:
                colour = 60 + 12 * classes.index(video.class_name)
                folder = root / "images" / dataset / video.class_name / video.name
                folder.mkdir(parents=True)
                for index in range(N_FRAMES):
                    frame = np.clip(rng.normal(colour + 4 * index, 40, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
                    cv2.imwrite(str(folder / f"{index}.jpg"), frame)
        write_split(root, dataset, partitions)
    return root


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the read-only data root with `toy` and `other`."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def epochs_of_trained() -> list[dict[str, Any]]:
    """Collect the metrics that `train` reports while it makes `trained`."""
    return []


@pytest.fixture(scope="session")
def trained(
    local_ray: ModuleType,
    data_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
    epochs_of_trained: list[dict[str, Any]],
) -> Run:
    """Train three epochs with Ray Train on two workers and a frozen backbone.

    The folder is read-only; other runs may be added to `runs`.
    """
    return train(
        tiny_experiment(**TWO),
        data=DataRoot(data_root),
        runs=tmp_path_factory.mktemp("runs"),
        command="hcl train tiny.yaml",
        on_epoch=epochs_of_trained.append,
    )


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def hcl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run `hcl ARGUMENTS` in this process and an empty working folder; return exit status, output and error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["hcl", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def experiment_file(tmp_path: Path) -> Path:
    """Write the tiny experiment to a file that commands can name."""
    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(tiny_experiment()))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content; empty if there is no folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
