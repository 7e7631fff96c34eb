"""Test studies: their files, failing trials, killed studies, trials of several workers."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

import results
from hcl.assembly.experiment_files import load_resolved
from hcl.config.resolve import override
from hcl.errors import ConfigError, EpisodeError, HCLError
from hcl.frames.stored_dataset import DataRoot
from hcl.models.checkpoint import load_checkpoint, save_checkpoint
from orchestration.evaluation.fuse import chosen_fusion
from orchestration.sweeps import deadlines
from orchestration.sweeps import sweep as sweeping
from orchestration.sweeps.checks import check_space
from orchestration.sweeps.concurrency import room_for
from orchestration.sweeps.records import Records, best_experiment
from orchestration.sweeps.study import Limits, Study, open_folder
from orchestration.sweeps.sweep import sweep
from orchestration.sweeps.trial import _run_trial
from orchestration.sweeps.trial_source import EPOCHS, ERROR, LOG, Given
from orchestration.sweeps.view import show_end, show_status
from orchestration.training.run_files import LAST
from search_spaces import Space, SpaceError
from tests.orchestration.conftest import tiny_experiment, tree, write_data
from tests.orchestration.sweeps.stub_trials import ENDS, freezing_worker, instant, stub_study, troubled

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
    return Study(experiment, space, DataRoot(data_root), runs, n_trials)


@pytest.fixture(scope="module")
def runs(local_ray: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder for all studies here, so that the frozen backbone encodes only once."""
    return tmp_path_factory.mktemp("studies")


def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "connect", lambda *_: pytest.fail("Ray must not be started"))


@pytest.mark.ray
def test_a_study_with_a_trial_that_fails(runs: Path, data_root: Path) -> None:
    """Four trials run, several at once: the first point first, the second diverges, the others continue."""
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
    study = study_of(data_root, runs, space, 4)
    reported: list[results.TrialRecord] = []
    handler = signal.getsignal(signal.SIGINT)
    record, trials = sweep(study, command="hcl sweep", on_trial=reported.append)

    assert signal.getsignal(signal.SIGINT) is handler, "Ctrl-C after a study is not Tune's"

    assert trials[0].params == first
    assert [trial.state for trial in trials] == ["complete", "failed", "complete", "complete"]
    assert trials[1].params == second
    assert "the loss is not finite" in trials[1].error and trials[1].value is None
    assert sorted(trial.trial for trial in reported if trial.state == "complete") == sorted(
        trial.trial for trial in trials if trial.state == "complete"
    )
    assert {trial.trial for trial in reported} == {trial.trial for trial in trials}
    assert results.read_trials(study.folder) == trials
    assert results.read_sweep(study.folder) == record
    assert record.resources == study.trial_resources() == {"workers": 1, "cpus": 1, "gpus": 0}
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
def test_a_study_whose_trials_all_fail_says_why(runs: Path, data_root: Path) -> None:
    space = space_of(optim__lr={"type": "float", "low": 1e29, "high": 1e30})
    study = study_of(data_root, runs, space, 1, name="hopeless")
    with pytest.raises(HCLError, match="all 1 trials failed: .*the loss is not finite") as caught:
        sweep(study)
    assert caught.value.exit_code == 1
    assert [trial.state for trial in results.read_trials(study.folder)] == ["failed"]
    assert not (study.folder / "best.yaml").exists()


@pytest.mark.ray
def test_trials_are_judged_at_their_best_fusion(
    runs: Path, data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = space_of(objective="val_fused_accuracy", loss__sigma_ce=FLOAT)
    study = study_of(data_root, runs, space, 2, name="two_stages", train__val_fusions=30)
    record, trials = sweep(study)
    for trial in trials:
        [row] = results.read_epochs(study.trial_folder(trial.trial))
        assert (trial.value, trial.unfused) == (row["val_fused_accuracy"], row["val_accuracy"])
        assert trial.fusion == chosen_fusion(study.trial_folder(trial.trial))
    best = next(trial for trial in trials if trial.trial == record.best_trial)
    fusion = load_resolved(study.folder / "best.yaml").fusion
    assert fusion.sigma_temporal == best.fusion["fusion.sigma_temporal"]
    show_end(record, trials)
    assert "as trained" in capsys.readouterr().out


@pytest.mark.ray
@pytest.mark.long
def test_a_trial_of_several_workers(runs: Path, data_root: Path) -> None:
    space = space_of({"loss.sigma_ce": 0.5}, loss__sigma_ce=FLOAT)
    study = study_of(data_root, runs, space, 1, name="wide", train__workers=2, train__epochs=2)
    record, [trial] = sweep(study)
    assert (trial.state, trial.epochs, trial.params) == ("complete", 2, {"loss.sigma_ce": 0.5})
    rows = results.read_epochs(study.folder / "trials" / trial.trial)
    assert record.best_value == trial.value == max(row["val_accuracy"] for row in rows)
    log = (study.folder / "trials" / trial.trial / "log.txt").read_text()
    assert log.count("starts") == 1 and "stops" not in log, "its first try has failed"


def test_a_trial_in_the_folder_of_another_begins_anew(data_root: Path, tmp_path: Path) -> None:
    """The folder is of a study of the same name, whose ledger was lost."""
    study = study_of(data_root, tmp_path, space_of(loss__sigma_ce=FLOAT), 1)
    config = {"given": asdict(Given("trial-0000", {"loss.sigma_ce": 0.5}))}
    begins: list[bool] = []
    open_folder(study)
    _run_trial(config, study, lambda run, report: begins.append(run.has_last()))
    last = study.trial_folder("trial-0000") / LAST
    save_checkpoint(last, model=torch.nn.Linear(1, 1), state={"epoch": 0})
    _run_trial(config, study, lambda run, report: begins.append(run.has_last()))
    config["given"]["params"] = {"loss.sigma_ce": 0.25}
    _run_trial(config, study, lambda run, report: begins.append(run.has_last()))
    assert begins == [False, True, False] and not last.exists()


@pytest.mark.ray
@pytest.mark.long
def test_trials_that_fail_die_hang_or_freeze_do_not_stop_a_study(
    local_ray: ModuleType, runs: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug is retried once and reported, a killed process is retried, and a hanging one is killed, with its place.

    A process that is stopped, or in which no Python code runs any more, is killed from outside or by its watchdog.
    """
    monkeypatch.setattr(deadlines, "GRACE_S", 10.0)
    study = stub_study(data_root, runs, 8, name="troubled", epochs=2, stop_rule="none", limits=Limits(time_s=8))
    reported: list[results.TrialRecord] = []
    record, trials = sweep(study, on_trial=reported.append, train=troubled)
    assert [trial.state for trial in trials] == ["complete", "failed", "complete", *3 * ["failed"], *2 * ["complete"]]
    bug, late, frozen, busy = trials[1], *trials[3:6]
    assert bug.error == "KeyError: 'a bug'" and "in troubled" in Path(bug.log or "").read_text()
    assert {timed_out.error for timed_out in (late, frozen, busy)} == {"ran for longer than 8 s"}
    assert all("in troubled" in Path(timed_out.log or "").read_text() for timed_out in (late, busy))
    assert "was killed from outside" in Path(frozen.log or "").read_text()
    assert (study.folder / ENDS).read_text().splitlines().count("trial-0002") == 1
    assert sorted(trial.trial for trial in reported) == [trial.trial for trial in trials]
    assert record.best_value == max(trial.value for trial in trials if trial.value is not None)
    assert_all_free(local_ray)


@pytest.mark.ray
@pytest.mark.long
def test_a_worker_that_freezes_ends_its_trial_with_all_its_workers(
    local_ray: ModuleType, runs: Path, data_root: Path
) -> None:
    """The other worker waits for it in a collective operation; the trial's driver is well, and also waits."""
    limits = Limits(time_s=20, concurrency=1)
    study = stub_study(data_root, runs, 2, name="frozen_worker", stop_rule="none", limits=limits, workers=2)
    _, trials = sweep(study, train=freezing_worker)
    assert [(trial.state, trial.error) for trial in trials] == [
        ("failed", "ran for longer than 20 s"),
        ("complete", None),
    ]
    assert_all_free(local_ray)
    for path in study.folder.glob("trials/trial-0000/pid-*"):
        assert not Path(f"/proc/{path.read_text()}").exists(), "a worker was left behind"


def assert_all_free(ray: ModuleType) -> None:
    """Check that every CPU of the cluster is released within a while."""
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, ray.available_resources()
        time.sleep(0.2)


@pytest.mark.ray
@pytest.mark.long
def test_a_study_becomes_longer_and_knows_an_earlier_one(runs: Path, data_root: Path) -> None:
    first = stub_study(data_root, runs, 3, name="short")
    _, three = sweep(first, train=instant)
    record, five = sweep(
        replace(first, points=({"loss.sigma_temporal": 1.0, "loss.sigma_spatial": 0.5},)), add_trials=2, train=instant
    )
    assert five[:3] == three and len(five) == record.n_trials == 5
    assert five[3].params == {"loss.sigma_temporal": 1.0, "loss.sigma_spatial": 0.5}
    assert record.best_trial == "trial-0003" and sum(record.importances.values()) == pytest.approx(1)
    assert sweep(first, train=instant)[1] == five  # all are finished, so nothing starts
    _, warm = sweep(stub_study(data_root, runs, 1, name="warm"), warm_start=first.folder, train=instant)
    assert len(warm) == 1
    earlier = stub_study(data_root, runs, 1, name="warm").ledger().study.trials
    assert len(earlier) == 6


@pytest.mark.ray
@pytest.mark.long
def test_several_objectives_end_in_a_front(runs: Path, data_root: Path) -> None:
    space = {"trade_offs": [{"metric": "val_ci95", "mode": "min"}]}
    with pytest.raises(ConfigError, match="trials do not report 'val_ci95'"):
        sweep(stub_study(data_root, runs, 4, name="front", space=space))
    space = {"trade_offs": [{"metric": "parameters", "mode": "min"}]}
    record, trials = sweep(stub_study(data_root, runs, 5, name="front", space=space), train=instant)
    assert all(set(trial.values) == {"val_accuracy", "parameters"} for trial in trials)
    points = {trial.trial: (trial.values["val_accuracy"], -trial.values["parameters"]) for trial in trials}
    for name, point in points.items():
        beaten = any(a >= point[0] and b >= point[1] and (a, b) != point for a, b in points.values())
        assert (name in record.pareto) == (not beaten)


@pytest.mark.ray
@pytest.mark.long
def test_a_metric_that_a_regime_does_not_report_fails_with_those_it_has(runs: Path, data_root: Path) -> None:
    study = stub_study(
        data_root, runs, 2, name="unreported", space={"objective": {"metric": "loss_spatial", "mode": "min"}}
    )
    with pytest.raises(HCLError, match="all 2 trials failed: a trial does not report loss_spatial, but reports epoch"):
        sweep(study, train=instant)


def test_status_of_a_study_under_way(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = open_folder(stub_study(data_root, tmp_path, 4, stop_rule="none"))
    ledger = study.ledger()
    names = [given.name for given in (ledger.ask(), ledger.ask(), ledger.ask()) if given]
    ledger.report(names[0], 1, 0.25)
    ledger.finish(names[1], [0.5], notes={EPOCHS: 1})
    ledger.finish(names[2], None, notes={ERROR: "it broke", LOG: "error.log"})
    Records(study, ledger, command="hcl sweep tiny").write()
    show_status(study.folder)
    out = capsys.readouterr().out
    assert "1 complete, 1 failed, 1 running of 4" in out
    assert "trial-0002 failed: it broke (error.log)" in out
    assert "study stopped: 2 of 4 trials, 1 failed; best trial-0001 50.0%; to resume: hcl sweep tiny" in out


def test_params_that_contradict_each_other_are_never_run(data_root: Path, tmp_path: Path) -> None:
    space = space_of(
        model__d_model={"type": "choice", "values": [24, 20]}, model__n_heads={"type": "choice", "values": [4, 3]}
    )
    study = study_of(data_root, tmp_path, space, 4)
    check_space(study)  # each value by itself fits
    assert study.problem_with({"model.d_model": 24, "model.n_heads": 3}) is None
    assert "n_heads=3 does not divide d_model=20" in str(study.problem_with({"model.d_model": 20, "model.n_heads": 3}))
    ledger = replace(study, lag=4).ledger()
    given = [ledger.ask() for _ in range(4)]
    assert all(one and one.params != {"model.d_model": 20, "model.n_heads": 3} for one in given)


def test_workers_that_would_mix_clips_are_given_no_trial(data_root: Path, tmp_path: Path) -> None:
    mixing, choices = {"matching__mix_scales": True, "train__workers": 2}, {"type": "choice", "values": [False, True]}
    study = study_of(data_root, tmp_path, space_of(matching__multi_scale=choices), 4, **mixing)
    with pytest.raises(ConfigError, match="train.workers=2 would not give the losses"):
        check_space(study)
    both = space_of(matching__multi_scale=choices, matching__mix_scales=choices)
    study = study_of(data_root, tmp_path, both, 4, train__workers=2)
    check_space(study)  # each value by itself fits
    assert "train.workers=2" in str(study.problem_with({"matching.multi_scale": True, "matching.mix_scales": True}))


def test_trials_share_a_seed_or_have_their_own(data_root: Path, tmp_path: Path) -> None:
    study = stub_study(data_root, tmp_path, 4)
    runs_of = lambda study: [study.trial_run(Given(f"trial-000{index}", {})).experiment.seed for index in (1, 2, 1)]  # noqa: E731
    assert runs_of(study) == [0, 0, 0]
    first, second, again = runs_of(replace(study, paired=False))
    assert first == again != second


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
            {"clips__jitter": FLOAT},
            ConfigError,
            "has more values than grids of frozen stages",
        ),
        ({"seed": {"type": "int", "low": 2, "high": 50}}, ConfigError, "49 combinations of seed each need grids"),
        (
            {"train__classes_per_batch": {"type": "choice", "values": [4, 8]}},
            EpisodeError,
            "a pair batch of 8 classes cannot be drawn from 4 classes",
        ),
        (
            {"train__val_shot": {"type": "int", "low": 1, "high": 9}},
            ConfigError,
            "would give each trial other episodes",
        ),
        (
            {"evaluation__way": {"type": "int", "low": 2, "high": 3}},
            ConfigError,
            "would give each trial other episodes",
        ),
        ({"loss__sigma_ce": FLOAT, "objective": "accuracy"}, ConfigError, "trials do not report 'accuracy'"),
        ({"loss__sigma_ce": FLOAT, "objective": "val_fused_accuracy"}, ConfigError, "where no fusion is tried"),
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
    with pytest.raises(ConfigError, match="study: holds a study with another space") as caught:
        sweep(other)
    assert "--restart" in caught.value.remedy
    assert tree(tmp_path) == before


def test_a_study_does_not_go_on_once_its_data_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_ray(monkeypatch)
    data = write_data(tmp_path / "data", ("toy",))
    study = study_of(data, tmp_path / "runs", space_of(loss__sigma_ce=FLOAT), 4)
    open_folder(study)
    before = tree(tmp_path / "runs")
    assert open_folder(replace(study, n_trials=3)).n_trials == 4 and tree(tmp_path / "runs") == before
    lists = data / "splits" / "toy" / "val.list"
    lists.write_text(lists.read_text().replace("eel/eel_4\n", ""))
    (data / "images" / "toy" / "bee" / "bee_1" / "0.jpg").write_bytes(b"another")
    with pytest.raises(
        ConfigError, match="study: was started with other data in val, frames.train, frames.val\n"
    ) as caught:
        sweep(study_of(data, tmp_path / "runs", space_of(loss__sigma_ce=FLOAT), 6))  # as another command opens the data
    assert "--restart" in caught.value.remedy
    assert tree(study.folder) == {name.removeprefix("study/"): content for name, content in before.items()}


def test_a_study_that_kept_no_digests_of_its_data_goes_on(data_root: Path, tmp_path: Path) -> None:
    study = study_of(data_root, tmp_path, space_of(loss__sigma_ce=FLOAT), 4)
    open_folder(study)
    kept = yaml.safe_load((study.folder / "study.yaml").read_text())
    assert set(kept.pop("data")) == {"train", "val", "frames.train", "frames.val"}
    (study.folder / "study.yaml").write_text(yaml.safe_dump(kept))
    assert open_folder(study) == replace(study, grace_epochs=1)


def test_a_study_of_several_workers_from_before_they_were_named_is_found(data_root: Path, tmp_path: Path) -> None:
    study = stub_study(data_root, tmp_path / "runs", 4)
    several = replace(study, experiment=override(study.experiment, {"train.workers": 2}))
    assert several.experiment.digest() != study.experiment.digest()
    open_folder(several)
    path = several.folder / "study.yaml"
    path.write_text(path.read_text().replace(several.experiment.digest(), study.experiment.digest()))
    with pytest.raises(ConfigError, match="holds a study with another experiment"):
        open_folder(replace(study, experiment=override(study.experiment, {"train.workers": 4})))
    assert open_folder(several) == replace(several, grace_epochs=1)
    assert several.experiment.digest() in path.read_text()
    assert yaml.safe_load((study.folder / "study.yaml").read_text())["data"]


def test_no_trial_waits_for_workers_that_there_can_never_be(
    local_ray: ModuleType, data_root: Path, tmp_path: Path
) -> None:
    study = study_of(
        data_root, tmp_path, space_of(loss__sigma_ce=FLOAT), 4, train__workers=8, train__classes_per_batch=8
    )
    with pytest.raises(
        HCLError, match="a trial needs 8 workers of 1 CPUs, and 4 fit on the nodes that train"
    ) as caught:
        room_for(study)
    assert caught.value.where == "train.workers"
    assert os.getpid() and caught.value.exit_code == 1
