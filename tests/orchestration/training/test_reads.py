"""Count how often a command and its workers read the files of a data set: once each."""

from __future__ import annotations

import pickle
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hcl.assembly.experiment_files import to_yaml
from hcl.datasets.manifest import VideoRecord, write_manifest
from hcl.frames.checking import check_dataset, keep_effective
from hcl.frames.stored_dataset import DataRoot, StoredDataset
from orchestration.cli.train import train_and_show
from orchestration.evaluation.questions import Target, questions_of
from orchestration.sweeps import trial
from orchestration.training import train as training
from orchestration.training.run import Run
from orchestration.training.worker import run_epochs
from tests.orchestration.conftest import CLASSES, N_FRAMES, N_VIDEOS, SIDE, prepare, tiny_experiment
from tests.orchestration.sweeps.test_sweep import FLOAT, space_of, study_of

LISTS = {f"{part}{ending}" for part in CLASSES for ending in (".list", "_class.txt")}
_opened: Counter[str] | None = None


def _count(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], (str, Path)):
        _opened[Path(arguments[0]).name] += 1


sys.addaudithook(_count)


@contextmanager
def opened_files() -> Iterator[Counter[str]]:
    """Count the files that Python opens, by name."""
    global _opened
    _opened = Counter()
    try:
        yield _opened
    finally:
        _opened = None


@pytest.fixture
def data(data_root: Path, tmp_path: Path) -> Path:
    """A data set with a card, a manifest and an effective split."""
    root = Path(shutil.copytree(data_root, tmp_path / "data"))
    records = [
        VideoRecord(one, f"{one}_{index}", "ok", N_FRAMES, width=SIDE, height=SIDE, digest=f"of {one} {index}")
        for classes in CLASSES.values()
        for one in classes
        for index in range(N_VIDEOS)
    ]
    write_manifest(root / "images" / "toy", records)
    (root / "datasets").mkdir()
    (root / "datasets" / "toy.yaml").write_text("name: toy\n")
    keep_effective(StoredDataset(root, "toy"), check_dataset(StoredDataset(root, "toy")))
    return root


class RayStarts(Exception):
    """Raised in the place of the start of Ray."""


def test_the_checks_of_a_training_read_each_file_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(address: str | None) -> None:
        raise RayStarts

    monkeypatch.setattr(training, "connect", start)
    with opened_files() as opened, pytest.raises(RayStarts):
        train_and_show(tiny_experiment(), DataRoot(data), data=data, runs=tmp_path / "runs")
    names = {"manifest.parquet", "toy.yaml", "effective.json", *LISTS}
    assert {name: opened[name] for name in names} == dict.fromkeys(names, 1)


def test_a_worker_reads_each_file_once(data: Path, tmp_path: Path) -> None:
    experiment = tiny_experiment(model__train_backbone=True, train__epochs=1, train__loader_processes=0)
    run: Run = prepare(experiment, data_root=data, runs=tmp_path / "runs")
    run.partitions()
    sent = pickle.dumps(run)
    assert len(sent) < len(pickle.dumps(experiment)) + 1000  # without rows
    with opened_files() as opened:
        run_epochs(pickle.loads(sent))
    names = {"manifest.parquet", "toy.yaml", "effective.json", *LISTS}
    assert {name: opened[name] for name in names} == dict.fromkeys(names, 1)


def test_the_questions_of_several_runs_read_each_file_once(data: Path, tmp_path: Path) -> None:
    targets = []
    for seed in (1, 2, 3):
        experiment = tiny_experiment(seed=seed, evaluation__shots=[1])
        folder = tmp_path / "runs" / f"seed-{seed}"
        folder.mkdir(parents=True)
        (folder / "experiment.yaml").write_text(to_yaml(experiment))
        targets.append(Target(folder, experiment, methods=("untrained", "prototype")))
    with opened_files() as opened:
        questions = questions_of(targets, DataRoot(data))
    assert len(questions) == 6
    names = {"manifest.parquet", "toy.yaml", "effective.json", "test.list", "test_class.txt"}
    assert {name: opened[name] for name in names} == dict.fromkeys(names, 1)
    assert not opened["train.list"]


def test_each_trial_of_a_process_opens_the_data_set_itself(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, seen = study_of(data, tmp_path / "runs", space_of(loss__sigma_ce=FLOAT), 2), []

    def look(config: dict[str, Any], study: Any, train: Any) -> None:
        seen.append(len(study.data.dataset("toy").partition("train").videos))

    monkeypatch.setattr(trial, "_run_trial", look)
    for _ in range(2):
        trial._run_process({}, study, None, Path.cwd())  # type: ignore[arg-type]
        lists = data / "splits" / "toy" / "train.list"
        lists.write_text("\n".join(lists.read_text().splitlines()[1:]))
    assert seen == [20, 19]
