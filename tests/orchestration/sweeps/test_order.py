"""Test what a study keeps of its order: its lag, whether it is reproducible, and when trials may be stopped."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import results
from hcl.config.resolve import override
from hcl.errors import ConfigError
from orchestration.sweeps import concurrency
from orchestration.sweeps import sweep as sweeping
from orchestration.sweeps.checks import check_study
from orchestration.sweeps.concurrency import Room, choose_lag, default_lag
from orchestration.sweeps.faults import Halt
from orchestration.sweeps.ray_tune import _EarlyStopping
from orchestration.sweeps.recorder import Recorder
from orchestration.sweeps.study import Limits, Study, open_folder
from orchestration.sweeps.sweep import sweep
from orchestration.sweeps.trial import BEST_EPOCH, HISTORY, LAST_VALUE, OBJECTIVE, VALUES, _Reporter
from orchestration.sweeps.trial_source import BEST, EPOCHS, LAST
from orchestration.sweeps.view import show_status
from search_spaces.space import Objective
from tests.orchestration.sweeps.stub_trials import stub_study
from tests.orchestration.sweeps.without_tune import without_tune


def described(study: Study) -> dict[str, Any]:
    return yaml.safe_load((study.folder / "study.yaml").read_text())


def make_old(study: Study) -> None:
    """Remove from a study's folder what earlier versions did not write."""
    kept = {
        name: value for name, value in described(study).items() if name not in ("reproducible", "lag", "grace_epochs")
    }
    (study.folder / "study.yaml").write_text(yaml.safe_dump(kept))


@pytest.fixture
def four_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "wait_for_nodes", lambda *_, **__: None)
    monkeypatch.setattr(concurrency, "room_for", lambda study: min(4, study.limits.concurrency or 4))


def test_the_lag_is_twice_what_runs_at_once_when_the_study_starts_and_stays(
    data_root: Path, tmp_path: Path, four_fit: None
) -> None:
    study = open_folder(stub_study(data_root, tmp_path, 20, lag=None))
    assert described(study)["lag"] is None, "not known before the cluster is"
    started = choose_lag(study)
    assert started.lag == described(study)["lag"] == 8
    declared = replace(study, limits=Limits(concurrency=16))
    assert choose_lag(open_folder(declared)).lag == 8, "later commands cannot change it"
    assert default_lag(declared, at_once=4) == 32, "what is declared counts, not the machine"
    assert default_lag(replace(declared, n_trials=5), at_once=4) == 10
    assert default_lag(replace(declared, limits=Limits()), at_once=1) == 0, "it waits for all before it anyway"
    given = replace(study, lag=3)
    with pytest.raises(ConfigError, match="--lag 3: the study in .* was started with lag 8, which later"):
        open_folder(given)
    assert open_folder(replace(study, lag=8)).lag == 8


def test_samplers_that_do_not_learn_have_no_lag(data_root: Path, tmp_path: Path, four_fit: None) -> None:
    study = open_folder(stub_study(data_root, tmp_path, 20, lag=None, sampler="random"))
    assert choose_lag(study) == study and "lag" not in described(study) and described(study)["reproducible"] is True
    assert study.ledger().lag == 0, "it compares with earlier trials alone"


def test_an_order_is_kept_whatever_a_later_command_leaves_out(data_root: Path, tmp_path: Path) -> None:
    loose = stub_study(data_root, tmp_path, 4, lag=None, as_they_come=True, epochs=9, grace_epochs=5)
    open_folder(loose)
    again = open_folder(replace(loose, as_they_come=False, grace_epochs=None))
    assert (again.as_they_come, again.grace_epochs, again.ledger().lag) == (True, 5, None)
    with pytest.raises(ConfigError, match="takes trials as they come"):
        open_folder(replace(again, lag=2))
    with pytest.raises(ConfigError, match="--grace-epochs 4: .* was started with 5"):
        open_folder(replace(again, grace_epochs=4))
    strict = open_folder(stub_study(data_root, tmp_path, 4, name="strict"))
    with pytest.raises(ConfigError, match="--as-they-come: .* was started as a reproducible study") as caught:
        open_folder(replace(strict, as_they_come=True))
    assert caught.value.remedy


def test_a_lag_without_order_is_refused(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--lag: has no meaning where trials are chosen by all results at once"):
        check_study(stub_study(data_root, tmp_path, 4, as_they_come=True, lag=2))


@pytest.mark.parametrize(
    "entries",
    [{"lag": -1}, {"lag": "x"}, {"lag": True}, {"reproducible": None}, {"reproducible": 1}, {"grace_epochs": 0}],
)
def test_entries_that_nobody_has_written_are_refused(entries: dict[str, Any], data_root: Path, tmp_path: Path) -> None:
    study = open_folder(stub_study(data_root, tmp_path, 4))
    (study.folder / "study.yaml").write_text(yaml.safe_dump({**described(study), **entries}))
    with pytest.raises(ConfigError, match="does not describe a study"):
        open_folder(study)


def test_a_study_of_an_earlier_version_goes_on_as_it_came_and_says_so_once(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = stub_study(data_root, tmp_path, 4, lag=None, epochs=4)
    open_folder(study)
    make_old(study)
    resumed = open_folder(study)
    assert "an earlier version started this study" in capsys.readouterr().err
    assert (resumed.as_they_come, resumed.first_rung, resumed.ledger().lag) == (True, 1, None)
    assert open_folder(study) == resumed and not capsys.readouterr().err
    make_old(study)
    with pytest.raises(ConfigError, match="takes trials as they come"):
        open_folder(replace(study, lag=4))


def test_the_first_rung_follows_the_epochs_and_warm_up_of_the_trials(data_root: Path, tmp_path: Path) -> None:
    study = stub_study(data_root, tmp_path, 4, epochs=30)
    assert study.first_rung == 10 and described(open_folder(study))["grace_epochs"] == 10
    assert replace(study, grace_epochs=2).first_rung == 2
    warm = replace(study, experiment=override(study.experiment, {"optim.warmup_epochs": 12}))
    assert warm.first_rung == 13
    fixed = {
        "parameters": {
            "loss.sigma_ce": {"type": "float", "low": 0, "high": 1},
            "train.epochs": {"type": "fixed", "value": 12},
        }
    }
    shorter = stub_study(data_root, tmp_path, 4, epochs=30, space=fixed)
    assert (shorter.first_rung, shorter.most_epochs) == (4, 12)
    assert shorter.epochs_of({"train.epochs": 12}) == 12 and shorter.epochs_of({}) == 30
    unstopped = open_folder(replace(study, experiment=override(study.experiment, {"name": "all"}), stop_rule="none"))
    assert "grace_epochs" not in described(unstopped)


def test_more_room_than_the_lag_allows_is_told(
    data_root: Path, tmp_path: Path, four_fit: None, capsys: pytest.CaptureFixture[str]
) -> None:
    room = Room(stub_study(data_root, tmp_path, 4))
    for most in (None, 4, 5):
        room.tell_limit(most)
    assert not capsys.readouterr().err
    room.tell_limit(3)
    assert "4 trials fit at once, but at most 3 run: the study keeps the lag of 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("as_they_come", "text"), [(False, "reproducible by its seed and --lag 4"), (True, "not reproducible")]
)
def test_the_record_and_the_status_say_whether_a_study_is_reproducible(
    as_they_come: bool, text: str, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    without_tune(monkeypatch)
    study = stub_study(data_root, tmp_path, 3, as_they_come=as_they_come, lag=None if as_they_come else 4)
    record, _ = sweep(study)
    assert (record.reproducible, record.lag) == (not as_they_come, study.lag)
    show_status(study.folder)
    assert text in capsys.readouterr().out


def test_a_study_starts_with_the_lag_of_its_cluster(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, four_fit: None
) -> None:
    without_tune(monkeypatch)
    lags: list[int | None] = []
    run_trials = sweeping.run_trials
    monkeypatch.setattr(
        sweeping, "run_trials", lambda study, ledger, *rest: (lags.append(ledger.lag), run_trials(study, ledger, *rest))
    )
    record, _ = sweep(stub_study(data_root, tmp_path, 3, lag=None))
    assert lags == [6] and record.lag == 6


# --- reports --------------------------------------------------------------------------------------------------------


def test_a_trial_reports_the_values_of_all_its_epochs(tmp_path: Path) -> None:
    rows = [
        {"epoch": epoch, "val_accuracy": value, "val_loss": 1 - value}
        for epoch, value in enumerate((0.5, 0.25, 0.75), 1)
    ]
    for row in rows:
        results.append_epoch(tmp_path, row)
    report = _Reporter((Objective(metric="val_accuracy"), Objective(metric="val_loss", mode="min")), tmp_path)(rows[-1])
    assert [(entry["epoch"], entry[OBJECTIVE], entry[BEST_EPOCH], entry[LAST_VALUE]) for entry in report[HISTORY]] == [
        (1, 0.5, 1, 0.5),
        (2, 0.5, 1, 0.25),
        (3, 0.75, 3, 0.75),
    ]
    assert (report[OBJECTIVE], report[VALUES], report[BEST_EPOCH]) == (0.75, [0.75, 0.25], 3)
    losses = _Reporter((Objective(metric="val_loss", mode="min"),), tmp_path)(rows[1])
    assert [entry[OBJECTIVE] for entry in losses[HISTORY]] == [0.5, 0.5]


def test_epochs_whose_reports_were_lost_are_made_up_for_and_a_late_stop_counts_at_its_rung(
    data_root: Path, tmp_path: Path
) -> None:
    """A trial that was resumed reports its last epoch alone; the better trial before it reaches the rung afterwards."""
    study = open_folder(stub_study(data_root, tmp_path, 4, epochs=6))
    ledger, events = study.ledger(), []
    given = [ledger.ask(), ledger.ask()]
    halt, room = Halt(study.folder), type("Room", (), {"now": lambda self: 2})()
    recorder = Recorder(study, ledger, room, lambda name, event: events.append((name, event)), halt)  # type: ignore[arg-type]
    stopping = _EarlyStopping(ledger, halt)

    def trial(index: int, values: list[float]) -> Any:
        history = [
            {"epoch": epoch, OBJECTIVE: value, VALUES: [value], BEST_EPOCH: epoch, LAST_VALUE: value}
            for epoch, value in enumerate(values, 1)
        ]
        config = {"trial": given[index].name, "given": asdict(given[index])}  # type: ignore[union-attr, call-overload]
        return type(
            "Trial", (), {"trial_id": str(index), "config": config, "last_result": {**history[-1], HISTORY: history}}
        )()

    fast = trial(1, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert stopping.on_trial_result(None, fast, fast.last_result) == "CONTINUE"
    recorder.on_trial_complete(0, [], fast)
    assert events == [], "it is not known yet where it has ended"
    slow = trial(0, [0.5, 0.9])
    assert stopping.on_trial_result(None, slow, slow.last_result) == "CONTINUE"
    recorder.on_trial_result(0, [], slow, slow.last_result)
    assert events == [("trial-0000", "reported"), ("trial-0001", "ended")]
    ended = ledger.trial("trial-0001")
    assert (ended.state.name, ended.value, ended.intermediate_values) == ("PRUNED", 0.2, {1: 0.1, 2: 0.2})
    assert (ended.user_attrs[EPOCHS], ended.user_attrs[BEST], ended.user_attrs[LAST]) == (2, 2, 0.2)
    third = ledger.ask()
    given.append(third)
    late = trial(2, [0.1, 0.1, 0.1])
    assert stopping.on_trial_result(None, late, late.last_result) == "STOP"


def test_a_trial_is_whole_by_the_epochs_that_its_space_sets(data_root: Path, tmp_path: Path) -> None:
    fixed = {
        "parameters": {
            "loss.sigma_ce": {"type": "float", "low": 0, "high": 1},
            "train.epochs": {"type": "fixed", "value": 2},
        }
    }
    study = open_folder(stub_study(data_root, tmp_path, 4, epochs=9, space=fixed))
    ledger = study.ledger()
    given = ledger.ask()
    assert given is not None and given.params["train.epochs"] == 2
    recorder = Recorder(study, ledger, None, lambda name, event: None, Halt(study.folder))  # type: ignore[arg-type]
    result = {"epoch": 2, OBJECTIVE: 0.5, VALUES: [0.5]}
    config = {"trial": given.name, "given": asdict(given)}
    recorder.on_trial_complete(0, [], type("Trial", (), {"trial_id": "0", "config": config, "last_result": result})())  # type: ignore[arg-type]
    assert ledger.trial(given.name).state.name == "COMPLETE"
