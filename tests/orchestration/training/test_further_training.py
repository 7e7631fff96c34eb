"""Test that a finished run is trained further as if all epochs had been asked for at once, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

import results
from hcl.assembly.experiment_files import load_resolved
from hcl.config import Experiment
from hcl.errors import ConfigError, DataError
from hcl.frames.stored_dataset import DataRoot
from hcl.models.checkpoint import load_checkpoint
from orchestration.state.run_state import run_state
from orchestration.training import grids
from orchestration.training import train as training
from orchestration.training.run import Run
from orchestration.training.run_files import BEST, LAST
from orchestration.training.train import train
from orchestration.training.worker import run_epochs
from results.exports.tracked import tracked_runs
from tests.orchestration.conftest import Command, tiny_experiment, tree
from tests.orchestration.inline import without_ray

TIMED = {"clips_per_second", "data_wait", "train_seconds", "val_seconds", "memory_gb"}


@pytest.fixture(autouse=True)
def _inline() -> Iterator[None]:
    """Train in this process, without Ray."""
    with pytest.MonkeyPatch.context() as patched:
        without_ray(patched, grids)
        patched.setattr(training, "connect", lambda _: nullcontext())
        patched.setattr(training, "fit", run_epochs)
        yield


def experiment_of(epochs: int, **changes: Any) -> Experiment:
    changes = {"model__train_backbone": True, "optim__schedule": "step", "optim__step_size": 1} | changes
    return tiny_experiment(train__epochs=epochs, **changes)


def trained(experiment: Experiment, data_root: Path, runs: Path, **options: Any) -> Run:
    return train(experiment, data=DataRoot(data_root), runs=runs, **options)


def assert_equal(one: Any, other: Any, path: str = "") -> None:
    """Compare the contents of checkpoints bit for bit, apart from times."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for name in one.keys() - TIMED:
            assert_equal(one[name], other[name], f"{path}.{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{path}.{index}")
    else:
        assert one == other, path


@pytest.mark.parametrize(
    "changes",
    [
        {"optim__schedule": "step", "optim__step_size": 1},
        {"optim__schedule": "multi_step", "optim__milestones": [1, 2], "optim__warmup_epochs": 1},
        {"optim__schedule": "constant", "model__train_backbone": False},
    ],
)
def test_two_epochs_and_one_more_are_three_epochs_at_once(
    changes: dict[str, Any], data_root: Path, tmp_path: Path
) -> None:
    run = trained(experiment_of(2, **changes), data_root, tmp_path / "further", command="hcl train tiny.yaml")
    assert load_checkpoint(run.folder / LAST)["epoch"] == 2
    run = trained(experiment_of(3, **changes), data_root, tmp_path / "further", further=True)
    whole = trained(experiment_of(3, **changes), data_root, tmp_path / "whole")
    for name in (LAST, BEST):
        contents = [load_checkpoint(one.folder / name) for one in (run, whole)]
        if name == BEST:  # it describes the settings with which it was written, which had two epochs in all
            contents = [{key: value for key, value in one.items() if "experiment" not in key} for one in contents]
        assert_equal(*contents)
    assert_equal(*(results.read_epochs(one.folder) for one in (run, whole)))
    assert (run.folder / "experiment.yaml").read_bytes() == (whole.folder / "experiment.yaml").read_bytes()


def test_the_run_s_folder_says_what_happened(data_root: Path, tmp_path: Path) -> None:
    short, long = experiment_of(1), experiment_of(2)
    run = trained(short, data_root, tmp_path, command="hcl train tiny.yaml")
    [before] = tracked_runs(results.load(run.folder))
    first = results.read_provenance(run.folder)
    trained(long, data_root, tmp_path, further=True, command="hcl train tiny.yaml --epochs 2")
    assert load_resolved(run.folder / "experiment.yaml").train.epochs == 2
    provenance = results.read_provenance(run.folder)
    assert provenance.command == "hcl train tiny.yaml" and provenance.started == first.started and provenance.finished
    assert provenance.digests == {**first.digests, "experiment": long.digest()}
    assert provenance.extended is not None
    extension = {**provenance.extended[0]}
    assert len(provenance.extended) == 1 and extension.pop("started") >= provenance.started
    assert extension == {
        "from": 1, "to": 2, "after": 1, "digest": short.digest(), "command": "hcl train tiny.yaml --epochs 2",
    }  # fmt: skip
    [after] = tracked_runs(results.load(run.folder))
    assert after.identity == before.identity, "a tracking server has it as the same run"
    trained(long, data_root, tmp_path, further=True)
    assert results.read_provenance(run.folder) == provenance, "repeated, the command does nothing"
    trained(experiment_of(3), data_root, tmp_path, further=True)
    extended = results.read_provenance(run.folder).extended
    assert extended and [(one["from"], one["to"]) for one in extended] == [(1, 2), (2, 3)]
    assert run_state(run.folder).text() == "done: 3 of 3 epochs"


def test_a_command_that_is_killed_before_the_first_new_epoch_is_repeated(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: object) -> None:
        raise KeyboardInterrupt

    run = trained(experiment_of(1), data_root, tmp_path)
    for place in ("_write_settings", "fit"):
        with monkeypatch.context() as patched:
            patched.setattr(training, place, killed)
            with pytest.raises(KeyboardInterrupt):
                trained(experiment_of(2), data_root, tmp_path, further=True)
    assert "stopped: 1 of 2 epochs" in run_state(run.folder).text()
    trained(experiment_of(2), data_root, tmp_path)
    provenance = results.read_provenance(run.folder)
    assert provenance.extended is not None and len(provenance.extended) == 1
    assert load_checkpoint(run.folder / LAST)["epoch"] == 2


def test_a_cosine_is_refused_with_the_reason_and_nothing_changes(data_root: Path, tmp_path: Path) -> None:
    cosine = {"optim__schedule": "cosine"}
    run = trained(experiment_of(1, **cosine), data_root, tmp_path)
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match="schedule=cosine lowers the learning rate towards the last epoch") as caught:
        trained(experiment_of(2, **cosine), data_root, tmp_path, further=True)
    assert "epochs were trained for 1 in all, not for 2" in caught.value.problem and "step" in str(caught.value.remedy)
    assert tree(tmp_path) == before and run_state(run.folder).status == "done"


def test_other_settings_fewer_epochs_and_other_data_are_refused(data_root: Path, tmp_path: Path) -> None:
    run = trained(experiment_of(2), data_root, tmp_path)
    before = tree(tmp_path)
    for experiment in (experiment_of(3, optim__lr=0.5), experiment_of(1)):
        with pytest.raises(ConfigError, match="holds a run with other settings"):
            trained(experiment, data_root, tmp_path, further=True)
    with pytest.raises(ConfigError, match="holds a run with other settings: train.epochs 2 there, 3 now") as caught:
        trained(experiment_of(3), data_root, tmp_path)
    assert "train it further (--epochs 3)" in str(caught.value.remedy)
    with pytest.raises(DataError):
        trained(experiment_of(3), tmp_path / "nowhere", tmp_path, further=True)
    assert tree(tmp_path) == before and load_resolved(run.folder / "experiment.yaml").train.epochs == 2


def test_the_command_trains_further_and_the_page_says_so(hcl: Command, data_root: Path, experiment_file: Path) -> None:
    train_it = ("train", experiment_file, "--set", "optim.schedule=constant", "--data", data_root)
    assert hcl(*train_it, "--epochs", "1").code == 0
    code, _, err = hcl("train", "runs/tiny/experiment.yaml", "--epochs", "2")
    assert code == 0, err
    state = hcl("status", "tiny").out
    assert state == "tiny: done: 2 of 2 epochs\n"
    assert "from 1, to 2" in " ".join(hcl("results", "show", "tiny").out.split())
    commands = hcl("reproduce", "runs/tiny").out
    assert "trained further, as typed: hcl train runs/tiny/experiment.yaml --epochs 2" in commands
    assert hcl("report", "tiny", "--to", "page").code == 0
    assert "Trained further after epoch 1: from 1 to 2 epochs." in Path("page/index.html").read_text()
