"""Studies: what they write, trials that fail, studies that are killed, trials of several workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import ray
import yaml

import results
from hcl.checkpoint import load_checkpoint
from hcl.errors import ConfigError, EpisodeError, HCLError
from hcl.resolve import load_resolved, override
from orchestration import sweep as sweeping
from orchestration.runs import LAST, Run
from orchestration.study import Study, best_experiment, check_space, open_folder
from orchestration.sweep import sweep
from search_spaces import Space, SpaceError
from tests.orchestration.conftest import tiny_experiment, tree

FLOAT = {"type": "float", "low": 0.0, "high": 1.0}


def space_of(*first_points: dict[str, Any], objective: str = "val_accuracy", **parameters: Any) -> Space:
    content = {path.replace("__", "."): parameter for path, parameter in parameters.items()}
    return Space.model_validate(
        {
            "name": "test",
            "about": "for tests",
            "objective": {"metric": objective},
            "parameters": content,
            "first_points": first_points,
        }
    )


def study_of(data_root: Path, runs: Path, space: Space, n_trials: int, **changes: Any) -> Study:
    experiment = tiny_experiment(**{"name": "study", "train__epochs": 1} | changes)
    return Study(experiment, space, data_root, runs, n_trials)


def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "connect", lambda *_: pytest.fail("Ray must not be started"))


@pytest.mark.ray
def test_a_study_with_a_trial_that_fails(trained: Run, data_root: Path) -> None:
    """Four trials, several at once: the first point first, the second diverges, the others go on."""
    rates = {"type": "choice", "values": [1e-3, 1e30]}
    first, second = {"loss.sigma_ce": 0.25, "optim.lr": 1e-3}, {"loss.sigma_ce": 0.5, "optim.lr": 1e30}
    space = space_of(
        first,
        second,
        {"loss.sigma_ce": 0.75, "optim.lr": 1e-3},
        {"optim.lr": 1e-3},
        loss__sigma_ce=FLOAT,
        optim__lr=rates,
    )
    study = study_of(data_root, trained.runs, space, 4)
    told: list[results.TrialRecord] = []
    record, trials = sweep(study, command="hcl sweep", on_trial=told.append)

    assert trials[0].params == first
    assert [trial.state for trial in trials] == ["complete", "failed", "complete", "complete"]
    assert trials[1].params == second
    assert "the loss is not finite" in trials[1].error and trials[1].value is None
    assert sorted(trial.trial for trial in told if trial.state == "complete") == sorted(
        trial.trial for trial in trials if trial.state == "complete"
    )
    assert {trial.trial for trial in told} == {trial.trial for trial in trials}
    assert results.read_trials(study.folder) == trials
    assert results.read_sweep(study.folder) == record
    scored = [trial for trial in trials if trial.value is not None]
    best = max(scored, key=lambda trial: trial.value)
    assert (record.best_trial, record.best_value, record.n_trials) == (best.trial, best.value, 4)
    chosen = load_resolved(study.folder / "best.yaml")
    assert chosen == best_experiment(study, trials)
    assert (chosen.name, chosen.loss.sigma_ce) == ("study-best", best.params["loss.sigma_ce"])
    for trial in scored:
        folder = study.folder / "trials" / trial.trial
        [row] = results.read_epochs(folder)
        assert row["val_accuracy"] == trial.value
        assert load_checkpoint(folder / LAST)["epoch"] == 1
        assert load_resolved(folder / "experiment.yaml").loss.sigma_ce == trial.params["loss.sigma_ce"]


@pytest.mark.ray
def test_a_study_whose_trials_all_fail_says_why(trained: Run, data_root: Path) -> None:
    space = space_of(optim__lr={"type": "float", "low": 1e29, "high": 1e30})
    study = study_of(data_root, trained.runs, space, 1, name="hopeless")
    with pytest.raises(HCLError, match="all 1 trials failed: .*the loss is not finite") as caught:
        sweep(study)
    assert caught.value.exit_code == 1
    assert not (study.folder / "sweep.json").exists() and not (study.folder / "best.yaml").exists()


@pytest.mark.ray
def test_a_trial_of_several_workers(trained: Run, data_root: Path) -> None:
    space = space_of({"loss.sigma_ce": 0.5}, loss__sigma_ce=FLOAT)
    study = study_of(data_root, trained.runs, space, 1, name="wide", train__workers=2, train__epochs=2)
    record, [trial] = sweep(study)
    assert (trial.state, trial.epochs, trial.params) == ("complete", 2, {"loss.sigma_ce": 0.5})
    rows = results.read_epochs(study.folder / "trials" / trial.trial)
    assert record.best_value == trial.value == max(row["val_accuracy"] for row in rows)


SCRIPT = """
import sys
from pathlib import Path
from tests.orchestration.test_sweep import interrupted_study
from orchestration.sweep import sweep
sweep(interrupted_study(Path(sys.argv[1]), Path(sys.argv[2])), address=sys.argv[3])
"""


def interrupted_study(data_root: Path, runs: Path) -> Study:
    space = space_of({"loss.sigma_ce": 0.125}, loss__sigma_ce=FLOAT)
    study = study_of(data_root, runs, space, 10, name="interrupted", train__epochs=4, train__batches_per_epoch=8)
    return replace(study, stop_early=False)


@pytest.mark.ray
@pytest.mark.slow
def test_kill_9_of_the_driver_keeps_finished_trials(trained: Run, data_root: Path) -> None:
    study = interrupted_study(data_root, trained.runs)
    address = ray.get_runtime_context().gcs_address
    driver = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(data_root), str(trained.runs), address],
        env=os.environ | {"TUNE_GLOBAL_CHECKPOINT_S": "1"},  # how often Tune writes its state
    )
    try:
        finished = wait_for_trials(study, 3, driver)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    before = {name: (study.folder / "trials" / name / LAST).stat().st_mtime_ns for name in finished}
    _, trials = sweep(study)
    assert len(trials) == 10
    assert trials[0].params == {"loss.sigma_ce": 0.125}
    assert {trial.state for trial in trials} == {"complete"}
    by_name = {trial.trial: trial for trial in trials}
    kept = [name for name in finished if name in by_name]
    assert len(kept) >= 2  # the last one may have ended after Tune wrote its state
    for name, moment in before.items():
        assert (study.folder / "trials" / name / LAST).stat().st_mtime_ns == moment
        assert results.read_epochs(study.folder / "trials" / name)[-1]["epoch"] == 4
    again = sweep(study)[1]
    assert again == trials


def wait_for_trials(study: Study, n_trials: int, driver: subprocess.Popen[bytes]) -> list[str]:
    """Names of trials that have ended by their own checkpoint, most of them by Tune's state too."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert driver.poll() is None, "the study ended before it could be killed"
        paths = list((study.folder / "trials").glob(f"*/{LAST}"))
        done = [path.parent.parent.name for path in paths if load_checkpoint(path)["epoch"] == 4]
        snapshots = sorted((study.folder / "study").glob("experiment_state-*.json"))
        if len(done) >= n_trials and snapshots and snapshots[-1].read_text().count("TERMINATED") >= n_trials:
            return done
        time.sleep(0.2)
    pytest.fail("no trial ended in time")


def test_values_that_contradict_each_other_fail_their_trial_alone(data_root: Path, tmp_path: Path) -> None:
    space = space_of(
        model__d_model={"type": "choice", "values": [24, 20]}, model__n_heads={"type": "choice", "values": [4, 3]}
    )
    study = study_of(data_root, tmp_path, space, 4)
    check_space(study)  # each value by itself fits
    assert study.trial_run("a", {"model.d_model": 24, "model.n_heads": 3}).experiment.model.n_heads == 3
    with pytest.raises(ConfigError, match="n_heads=3 does not divide d_model=20"):
        study.trial_run("b", {"model.d_model": 20, "model.n_heads": 3})


def test_a_study_never_chooses_on_test_classes(data_root: Path, tmp_path: Path) -> None:
    study = study_of(data_root, tmp_path, space_of(optim__lr={"type": "float", "low": 1e-4, "high": 1e-3}), 2)
    published = {"data.protocol": "published", "data.selection_partition": "test"}
    with pytest.raises(ConfigError, match="choose settings on the test classes"):
        check_space(replace(study, experiment=override(study.experiment, published)))


@pytest.mark.parametrize(
    ("parameters", "kind", "message"),
    [
        ({"loss__sigma_cee": FLOAT}, SpaceError, "unknown setting `loss.sigma_cee`, did you mean `sigma_ce`?"),
        ({"optim__lr": FLOAT}, ConfigError, "got 0.0, expected a number, above 0"),
        ({"model__n_heads": {"type": "int", "low": 2, "high": 5}}, ConfigError, "n_heads=5 does not divide"),
        (
            {"clips__n_frames": {"type": "int", "low": 2, "high": 5}},
            ConfigError,
            "cannot be searched where frozen stages",
        ),
        ({"seed": {"type": "int", "low": 2, "high": 5}}, ConfigError, "cannot be searched where frozen stages"),
        (
            {"train__classes_per_batch": {"type": "choice", "values": [4, 8]}},
            EpisodeError,
            "a pair batch of 8 classes cannot be drawn from 4 classes",
        ),
        (
            {"train__val_shot": {"type": "int", "low": 1, "high": 9}},
            ConfigError,
            "would give each trial other questions",
        ),
        (
            {"evaluation__way": {"type": "int", "low": 2, "high": 3}},
            ConfigError,
            "would give each trial other questions",
        ),
        ({"loss__sigma_ce": FLOAT, "objective": "accuracy"}, ConfigError, "trials do not report 'accuracy'"),
    ],
)
def test_a_space_that_does_not_fit_is_refused_before_ray(
    parameters: Any, kind: type[Exception], message: str, data_root: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    no_ray(monkeypatch)
    study = study_of(data_root, tmp_path / "runs", space_of(**parameters), 4)
    with pytest.raises(kind, match=message.replace("?", r"\?")) as caught:
        sweep(study)
    assert not (tmp_path / "runs").exists()
    assert caught.value.where and caught.value.remedy


def test_another_study_in_the_folder_is_refused_and_left_alone(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_ray(monkeypatch)
    study = study_of(data_root, tmp_path, space_of(loss__sigma_ce=FLOAT), 4)
    open_folder(study)
    before = tree(tmp_path)
    assert yaml.safe_load(before["study/study.yaml"])["n_trials"] == 4
    other = study_of(data_root, tmp_path, space_of(loss__sigma_global=FLOAT), 4)
    with pytest.raises(ConfigError, match="study: holds a study of another experiment, space") as caught:
        sweep(other)
    assert "--restart" in caught.value.remedy
    assert tree(tmp_path) == before


def test_no_trial_waits_for_workers_that_there_can_never_be(
    local_ray: ModuleType, data_root: Path, tmp_path: Path
) -> None:
    study = study_of(
        data_root, tmp_path, space_of(loss__sigma_ce=FLOAT), 4, train__workers=8, train__classes_per_batch=8
    )
    with pytest.raises(HCLError, match="a trial needs 8 CPUs, the cluster has 4") as caught:
        sweeping._concurrency(study)
    assert caught.value.where == "train.workers"
    assert os.getpid() and caught.value.exit_code == 1
