"""Test training with Ray Train: two gloo workers, kills, and errors that reach the caller."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import results
from hcl.assembly.experiment_files import load_resolved
from hcl.config.resolve import override
from hcl.errors import ConfigError, DataError, TrainingError
from hcl.frames.stored_dataset import DataRoot
from hcl.models.checkpoint import load_checkpoint
from orchestration.training import train as training
from orchestration.training.ray_train import fit
from orchestration.training.run import Run
from orchestration.training.run_files import BEST, FAILED, LAST, LOG, PREVIOUS
from orchestration.training.train import train
from orchestration.training.worker import run_epochs
from tests.orchestration.conftest import TWO, prepare, tiny_experiment, tree

TIMED = {"clips_per_second", "data_wait", "train_seconds", "val_seconds", "memory_gb"}


def untimed(run: Run) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name not in TIMED} for row in results.read_epochs(run.folder)
    ]


def assert_same_checkpoints(first: Run, other: Run) -> None:
    for name in (LAST, BEST):
        checkpoint, expected = (load_checkpoint(run.folder / name) for run in (first, other))
        assert checkpoint["epoch"] == expected["epoch"]
        for key, values in checkpoint["model"].items():
            assert torch.equal(values, expected["model"][key]), f"{name}: {key}"


@pytest.mark.ray
def test_a_run_leaves_its_settings_provenance_metrics_and_checkpoints(
    trained: Run, epochs_of_trained: list[dict[str, Any]]
) -> None:
    files = {str(path.relative_to(trained.folder)) for path in trained.folder.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("tensorboard/")}
    assert files - events == {
        "experiment.yaml", "provenance.json", "data_root.json", "metrics.parquet", LOG, LAST, PREVIOUS, BEST,
    }  # fmt: skip
    assert load_resolved(trained.folder / "experiment.yaml") == trained.experiment
    assert "the first of 2 workers" in (trained.folder / LOG).read_text()
    provenance = results.read_provenance(trained.folder)
    assert provenance.command == "hcl train tiny.yaml"
    assert provenance.finished and provenance.finished >= provenance.started
    train_part, val_part = trained.partitions()
    assert provenance.digests == {
        "experiment": trained.experiment.digest(),
        "train": train_part.digest(),
        "val": val_part.digest(),
        "frames.train": trained.stored.frames_identity(train_part),
        "frames.val": trained.stored.frames_identity(val_part),
    }
    assert provenance.resources == {"workers": 2, "cpus": 2, "gpus": 0}
    assert provenance.data["train.videos"] == len(train_part.videos)
    assert provenance.data["val.classes"] == len(val_part.classes)
    rows = results.read_epochs(trained.folder)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert epochs_of_trained == rows
    drawn = EventAccumulator(str(trained.folder / "tensorboard")).Reload().Scalars("val_accuracy")
    assert [point.step for point in drawn] == [1, 2, 3]
    assert [point.value for point in drawn] == pytest.approx([row["val_accuracy"] for row in rows])
    last, best = (load_checkpoint(trained.folder / name) for name in (LAST, BEST))
    assert last["epoch"] == 3
    assert best["epoch"] == max(rows, key=lambda row: row["val_accuracy"])["epoch"]


@pytest.mark.ray
def test_one_process_has_the_losses_and_accuracies_of_two_workers(
    trained: Run, data_root: Path, tmp_path: Path
) -> None:
    """With frozen batch norm, and also with dropout, the number of workers changes only the rounding."""
    experiment = tiny_experiment(**TWO | {"train__workers": 1})
    alone = Run(experiment, DataRoot(data_root), trained.runs, tmp_path)
    run_epochs(alone)
    ours, theirs = untimed(alone), untimed(trained)
    assert experiment.digest() == trained.experiment.digest()
    for name, value in ours[0].items():
        assert theirs[0][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


@pytest.mark.ray
def test_the_same_command_again_does_nothing(
    trained: Run, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "connect", lambda *_: pytest.fail("Ray must not be started"))
    shutil.copytree(trained.folder, tmp_path / "tiny")
    before = tree(tmp_path)
    again = train(trained.experiment, data=DataRoot(data_root), runs=tmp_path, command="another")
    assert again.folder == tmp_path / "tiny"
    assert tree(tmp_path) == before


@pytest.mark.ray
def test_a_run_is_not_gone_on_with_on_other_videos(trained: Run, data_root: Path, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "tiny")
    provenance = results.read_provenance(tmp_path / "tiny")
    results.write_provenance(tmp_path / "tiny", replace(provenance, digests={**provenance.digests, "val": "0"}))
    run = Run(trained.experiment, DataRoot(data_root), tmp_path, tmp_path / "tiny")
    with pytest.raises(ConfigError, match="was started with other data in val"):
        training._provenance(run, "hcl train tiny")


@pytest.mark.ray
def test_a_run_is_not_gone_on_with_on_other_frames_of_the_same_videos(
    trained: Run, data_root: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(trained.folder, tmp_path / "tiny")
    data = shutil.copytree(data_root, tmp_path / "data")
    run = Run(trained.experiment, DataRoot(data), tmp_path, folder)
    provenance = results.read_provenance(folder)
    assert training._provenance(run, "hcl train tiny") == provenance
    (data / "images/toy/eel/eel_0/0.jpg").write_bytes((data / "images/toy/gnu/gnu_0/0.jpg").read_bytes() + b"0")
    run = Run(trained.experiment, DataRoot(data), tmp_path, folder)  # as another command opens the data
    with pytest.raises(ConfigError, match=r"was started with other data in frames\.val\n"):
        training._provenance(run, "hcl train tiny")
    without = {name: digest for name, digest in provenance.digests.items() if not name.startswith("frames.")}
    results.write_provenance(folder, replace(provenance, digests=without))  # as runs did before they kept it
    assert training._provenance(run, "hcl train tiny").digests == without


@pytest.mark.ray
def test_other_settings_are_refused_with_their_difference_and_restart_begins_anew(
    trained: Run, data_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained.folder, tmp_path / "tiny")
    before = tree(tmp_path)
    longer = tiny_experiment(**TWO | {"train__epochs": 5})
    with pytest.raises(ConfigError, match="train.epochs 3 there, 5 now") as caught:
        prepare(longer, data_root=data_root, runs=tmp_path)
    assert "--restart" in caught.value.remedy
    assert tree(tmp_path) == before
    run = prepare(longer, data_root=data_root, runs=tmp_path, restart=True)
    assert list(tree(run.folder)) == ["experiment.yaml"]
    assert load_resolved(run.folder / "experiment.yaml") == longer


def test_a_run_whose_batch_norm_sees_the_number_of_workers_goes_on_with_that_number(
    data_root: Path, tmp_path: Path
) -> None:
    """Otherwise it resumes with any other number."""
    learns = tiny_experiment(train__workers=2, model__train_backbone=True)
    prepare(learns, data_root=data_root, runs=tmp_path)
    prepare(learns, data_root=data_root, runs=tmp_path)
    four = {"train.workers": 4}
    with pytest.raises(ConfigError, match="train.workers 2 there, 4 now"):
        prepare(override(learns, four), data_root=data_root, runs=tmp_path)
    frozen = tiny_experiment(name="frozen", train__workers=2)
    prepare(frozen, data_root=data_root, runs=tmp_path)
    prepare(override(frozen, four), data_root=data_root, runs=tmp_path)


def test_a_checkpoint_of_unknown_settings_is_not_gone_on_from(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny" / "checkpoints").mkdir(parents=True)
    (tmp_path / "tiny" / LAST).touch()
    with pytest.raises(ConfigError, match="holds a checkpoint, but no experiment.yaml that describes it"):
        prepare(tiny_experiment(), data_root=data_root, runs=tmp_path)


def test_restart_keeps_the_old_run_while_the_new_one_cannot_be(data_root: Path, tmp_path: Path) -> None:
    run = prepare(tiny_experiment(), data_root=data_root, runs=tmp_path)
    with pytest.raises(DataError):
        prepare(tiny_experiment(), data_root=tmp_path / "nowhere", runs=tmp_path, restart=True)
    assert list(tree(run.folder)) == ["experiment.yaml"]


def test_clips_that_mix_are_refused_to_several_workers_before_anything_is_written(
    data_root: Path, tmp_path: Path
) -> None:
    mixing = tiny_experiment(matching__multi_scale=True, matching__mix_scales=True)
    with pytest.raises(ConfigError, match="train.workers=2 would not give the losses and gradients of one"):
        prepare(override(mixing, {"train.workers": 2}), data_root=data_root, runs=tmp_path)
    assert tree(tmp_path) == {}
    prepare(mixing, data_root=data_root, runs=tmp_path)


class KillOnce:
    """Kill rank 0, which writes, with SIGKILL when it reports the first epoch."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["epoch"] == 1 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return row


@pytest.mark.ray
def test_kill_9_of_a_worker_changes_no_weight(trained: Run, data_root: Path, tmp_path: Path) -> None:
    run = prepare(tiny_experiment(**TWO, name="killed"), data_root=data_root, runs=trained.runs)
    fit(run, report=KillOnce(tmp_path / "killed"))
    assert (tmp_path / "killed").exists()
    assert untimed(run) == untimed(trained)
    assert_same_checkpoints(run, trained)


@pytest.mark.ray
@pytest.mark.long
def test_an_error_of_any_worker_reaches_the_caller_and_a_later_command_goes_on(
    local_ray: ModuleType, data_root: Path, tmp_path: Path
) -> None:
    """One of the two workers reads a damaged frame; once that is repaired the same command succeeds."""
    data = tmp_path / "data"
    shutil.copytree(data_root, data)
    experiment = tiny_experiment(name="damaged", model__train_backbone=True, train__workers=2, train__epochs=1)
    broken = sorted((data / "images" / "toy").glob("eel/*/*.jpg"))
    whole = {path: path.read_bytes() for path in broken}
    for path in broken:
        path.write_bytes(b"no image")
    began = time.monotonic()
    with pytest.raises(DataError, match=r"eel_\d/\d.jpg: is not an image") as caught:
        train(experiment, data=DataRoot(data), runs=tmp_path / "runs")
    assert "extract them again" in caught.value.remedy
    assert time.monotonic() - began < 90  # not retried again and again
    folder = tmp_path / "runs" / "damaged"
    assert not (folder / LAST).exists()
    assert list(folder.glob(".ray_train")) == []
    for path, content in whole.items():
        path.write_bytes(content)
    train(experiment, data=DataRoot(data), runs=tmp_path / "runs")
    assert load_checkpoint(folder / LAST)["epoch"] == 1
    assert not (folder / FAILED).exists()


@pytest.mark.ray
@pytest.mark.long
def test_a_loss_that_is_not_finite_reaches_the_caller_as_a_training_error(trained: Run, data_root: Path) -> None:
    experiment = tiny_experiment(name="diverged", optim__lr=1e30)
    with pytest.raises(TrainingError, match="the loss is not finite") as caught:
        train(experiment, data=DataRoot(data_root), runs=trained.runs)
    assert "optim.lr" in caught.value.remedy
    assert results.read_provenance(trained.runs / "diverged").finished is None
