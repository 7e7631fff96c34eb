"""Test the ledger of a study without Ray: trials that are given out, kills, constraints, grids, samplers."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from hcl.errors import ConfigError, HCLError, StorageError
from orchestration.sweeps.ledger import Ledger
from orchestration.sweeps.sampling.samplers import check_sampler
from orchestration.sweeps.storage.database import without_password
from orchestration.sweeps.storage.optuna_storage import JOURNAL, open_storage
from orchestration.sweeps.trial_source import EPOCHS, ERROR
from search_spaces import Space

PARAMETERS: dict[str, Any] = {
    "loss.sigma_temporal": {"type": "float", "low": 0.0, "high": 2.0},
    "loss.sigma_spatial": {"type": "float", "low": 0.0, "high": 2.0},
    "optim.schedule": {"type": "choice", "values": ["step", "cosine"]},
    "optim.step_size": {"type": "int", "low": 1, "high": 4, "when": {"optim.schedule": "step"}},
}


def space_of(parameters: dict[str, Any] = PARAMETERS, **more: Any) -> Space:
    return Space.model_validate({"name": "test", "about": "for tests", "parameters": parameters, **more})


def open_ledger(folder: Path, space: Space | None = None, **options: Any) -> Ledger:
    space = space or space_of()
    return Ledger("study", open_storage(folder, None), space, **{"n_trials": 12} | options)


def value_of(values: dict[str, Any]) -> float:
    return -((values["loss.sigma_temporal"] - 1) ** 2) - (values["loss.sigma_spatial"] - 0.5) ** 2


def work(ledger: Ledger, n_trials: int) -> list[dict[str, Any]]:
    """Run some trials one after another, and return their values."""
    done = []
    for _ in range(n_trials):
        given = ledger.ask()
        assert given is not None
        ledger.finish(given.name, [value_of(given.params)])
        done.append(given.params)
    return done


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "gp", "random"])
def test_a_study_cut_anywhere_asks_what_an_uncut_one_asks(sampler: str, tmp_path: Path) -> None:
    """Trials are given out under names in order; after each cut the running one comes again, with its values."""
    if sampler == "gp":
        pytest.importorskip("scipy")
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    whole = work(open_ledger(tmp_path / "whole", sampler=sampler), 12)
    cut: list[dict[str, Any]] = []
    for _ in range(4):
        ledger = open_ledger(tmp_path / "cut", sampler=sampler)
        cut += work(ledger, 3)
        ledger.ask()  # and killed while it runs
    last = open_ledger(tmp_path / "cut", sampler=sampler)
    assert last.ask() is None and last.is_done()
    assert cut == whole
    assert [trial.user_attrs["name"] for trial in last.trials()] == [f"trial-{index:04d}" for index in range(12)]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("dies_after", [0, 1, 2, 3, 4])
def test_killed_between_two_values_of_a_trial(dies_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = work(open_ledger(tmp_path / "whole"), 8)
    ledger = open_ledger(tmp_path / "cut")
    cut = work(ledger, 6)
    calls, write = 0, ledger._storage.set_trial_param

    def write_or_die(*args: Any) -> None:
        nonlocal calls
        if calls == dies_after:
            raise Killed
        calls += 1
        write(*args)

    monkeypatch.setattr(ledger._storage, "set_trial_param", write_or_die)
    with suppress(Killed):
        ledger.ask()
    cut += work(open_ledger(tmp_path / "cut"), 2)
    assert cut == whole


def test_what_is_taken_back_is_given_out_again_as_it_was(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, n_trials=3)
    first, second = ledger.ask(), ledger.ask()
    assert first is not None and second is not None
    ledger.take_back(first.name)
    assert ledger.n_running == 1 and ledger.ask() == first and ledger.n_running == 2
    ledger.take_back(second.name)
    ledger.finish(first.name, [1.0])
    assert open_ledger(tmp_path, n_trials=3).ask() == second
    assert ledger.ask() == second and not ledger.is_done()
    for given in (second, ledger.ask()):
        assert given is not None
        ledger.finish(given.name, [1.0])
    assert ledger.is_done() and ledger.ask() is None


def test_half_a_line_of_the_journal_is_dropped(tmp_path: Path) -> None:
    whole = work(open_ledger(tmp_path / "whole"), 6)
    cut = work(open_ledger(tmp_path / "cut"), 3)
    with (tmp_path / "cut" / JOURNAL).open("ab") as file:
        file.write(b'{"op_code":4,"worker_')
    cut += work(open_ledger(tmp_path / "cut"), 3)
    assert cut == whole


def test_first_points_come_first_and_once(tmp_path: Path) -> None:
    points = [{"loss.sigma_temporal": 0.25}, {"loss.sigma_temporal": 0.5, "optim.schedule": "cosine"}]
    space = space_of(first_points=points)
    first = work(open_ledger(tmp_path, space), 1)
    again = open_ledger(tmp_path, space)
    more = work(again, 3)
    assert [values["loss.sigma_temporal"] for values in first + more][:2] == [0.25, 0.5]
    assert [values["loss.sigma_temporal"] in (0.25, 0.5) for values in more] == [True, False, False]
    assert more[0]["optim.schedule"] == "cosine"
    again.enqueue({"loss.sigma_temporal": 1.25})
    assert work(open_ledger(tmp_path, space), 1)[0]["loss.sigma_temporal"] == 1.25


def test_what_cannot_be_run_is_drawn_again_and_does_not_count(tmp_path: Path) -> None:
    def problem_with(values: Any) -> str | None:
        return None if values["loss.sigma_temporal"] + values["loss.sigma_spatial"] <= 0.5 else "breaks the sum"

    space = space_of(first_points=[{"optim.schedule": "cosine"}])
    ledger = open_ledger(tmp_path, space, problem_with=problem_with, n_trials=10)
    done = work(ledger, 10)
    assert all(problem_with(values) is None for values in done) and ledger.is_done()
    assert done[0]["optim.schedule"] == "cosine"  # its other values were drawn until they fitted
    refused = [trial for trial in ledger.study.trials if "infeasible" in trial.user_attrs]
    assert refused and {trial.state for trial in refused} == {TrialState.FAIL}


def test_points_whose_other_values_never_fit_are_given_up(tmp_path: Path) -> None:
    """Neither point can be completed; after ten draws a feasible one stands in for them, and the study continues."""

    def problem_with(values: Any) -> str | None:
        return "is no good" if values["optim.schedule"] == "cosine" else None

    space = space_of(
        first_points=[{"optim.schedule": "cosine"}, {"optim.schedule": "cosine", "loss.sigma_spatial": 1.0}]
    )
    for lag in (None, 0):
        done = work(open_ledger(tmp_path / str(lag), space, problem_with=problem_with, lag=lag), 12)
        assert len(done) == 12 and all(problem_with(values) is None for values in done)


def test_constraints_that_leave_nothing_end_in_a_message(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, problem_with=lambda values: "breaks all")
    with pytest.raises(HCLError, match="none of 10000 draws can be run: breaks all"):
        ledger.ask()


def test_a_grid_is_gone_through_whatever_was_cut(tmp_path: Path) -> None:
    parameters = PARAMETERS | {path: {**PARAMETERS[path], "step": 1.0} for path in list(PARAMETERS)[:2]}
    space = space_of(parameters)
    seen: list[dict[str, Any]] = []
    for _ in range(5):
        ledger = open_ledger(tmp_path, space, sampler="grid", n_trials=100)
        seen += work(ledger, 9)
    assert len(seen) == 3 * 3 * (4 + 1) == len({str(sorted(values.items())) for values in seen})
    assert ledger.ask() is None and ledger.is_done()


def test_grid_parameters_go_in_turn_while_others_are_sampled(tmp_path: Path) -> None:
    parameters = {"train.batches_per_epoch": {"type": "grid", "values": [1, 2, 3]}, **PARAMETERS}
    done = work(open_ledger(tmp_path, space_of(parameters)), 7)
    assert [values["train.batches_per_epoch"] for values in done] == [1, 2, 3, 1, 2, 3, 1]
    assert len({values["loss.sigma_temporal"] for values in done}) == 7


@pytest.mark.parametrize("rule", ["asha", "median"])
def test_who_falls_behind_is_told_to_stop_also_after_a_kill(rule: str, tmp_path: Path) -> None:
    options = {"stop_rule": rule, "first_rung": 3, "epochs": 9, "n_trials": 20}
    for index in range(8):
        ledger = open_ledger(tmp_path, **options)  # a new process for each trial
        given = ledger.ask()
        assert given is not None
        stopped = [ledger.report(given.name, epoch, index / 10 + epoch / 1000) for epoch in range(1, 10)]
        assert not any(stopped), "each trial is better than all before it"
        ledger.finish(given.name, [index / 10])
    ledger = open_ledger(tmp_path, **options)
    given = ledger.ask()
    assert given is not None
    verdicts = [ledger.report(given.name, epoch, 0.001) for epoch in (1, 2, 3)]
    assert verdicts == [False, False, True]
    ledger.finish(given.name, [0.001], is_whole=False, notes={EPOCHS: 3})
    assert ledger.trial(given.name).state == TrialState.PRUNED


def test_failures_count_and_say_why(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, n_trials=2)
    for values in (None, [math.nan]):
        given = ledger.ask()
        assert given is not None
        ledger.finish(given.name, values, notes={ERROR: "no", EPOCHS: None})
    again = open_ledger(tmp_path, n_trials=2)
    assert again.is_done() and again.ask() is None
    assert [trial.state for trial in again.trials()] == [TrialState.FAIL] * 2
    assert again.trials()[0].user_attrs["error"] == "no"
    assert open_ledger(tmp_path, n_trials=3).ask().name == "trial-0002"  # type: ignore[union-attr]


def test_several_objectives_and_what_is_known_before(tmp_path: Path) -> None:
    space = space_of(trade_offs=[{"metric": "parameters", "mode": "min"}])
    ledger = open_ledger(tmp_path, space, n_trials=8)
    values = {"loss.sigma_temporal": 1.0, "loss.sigma_spatial": 0.5, "optim.schedule": "cosine"}
    ledger.learn([(values, [0.9, 10.0])])
    for index in range(8):
        given = ledger.ask()
        assert given is not None
        assert ledger.report(given.name, 1, 0.1) is False
        ledger.finish(given.name, [index / 10, float(index)], is_whole=False)
    assert len(ledger.trials()) == 8 and len(ledger.study.trials) == 9
    assert len(ledger.study.best_trials) > 1


def test_a_database_keeps_a_study_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    whole = work(open_ledger(tmp_path / "whole"), 6)
    cut = work(Ledger("study", open_storage(tmp_path, url), space_of(), n_trials=12), 4)
    cut += work(Ledger("study", open_storage(tmp_path, url), space_of(), n_trials=12), 2)
    assert cut == whole
    assert optuna.get_all_study_names(url) == ["study"]


@pytest.mark.parametrize(
    ("place", "kind", "message"),
    [
        ("nosuch://user:secret@host/db", ConfigError, "is not the URL of a usable database"),
        ("sqlite:////no/such/folder/studies.db", StorageError, "the database cannot be used"),
        ("/proc/no/journal", StorageError, "cannot be written"),
    ],
)
def test_a_storage_that_cannot_be_used(place: str, kind: type[HCLError], message: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=message) as caught:
        open_storage(tmp_path, place)
    assert "secret" not in str(caught.value) and caught.value.remedy


def test_passwords_are_not_shown() -> None:
    assert without_password("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert without_password("runs/studies.journal") == "runs/studies.journal"
    assert without_password(None) is None


def test_samplers_that_cannot_do_it_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="searches for one objective, the space has 2"):
        check_sampler("cmaes", 2)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs the package scipy, which is not installed"):
        check_sampler("gp", 1)
