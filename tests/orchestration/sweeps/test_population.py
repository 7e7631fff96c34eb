"""Test a population without Ray: parents, values, and kills."""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import results
from hcl.errors import ConfigError
from hcl.frames.stored_dataset import DataRoot
from orchestration.sweeps.confirm import confirm
from orchestration.sweeps.population import Population
from orchestration.sweeps.storage.optuna_storage import open_storage
from orchestration.sweeps.study import Limits, Study, n_trials_in_all
from orchestration.sweeps.sweep import sweep
from orchestration.sweeps.trial_source import LAST, Given
from orchestration.sweeps.view import show_end
from search_spaces import Space
from tests.orchestration.conftest import tiny_experiment

SIGMA = {"type": "float", "low": 0.0, "high": 1.0}
SPACE = {
    "name": "test",
    "about": "for tests",
    "parameters": {"loss.sigma_temporal": SIGMA, "loss.sigma_spatial": SIGMA},
    "first_points": [{"loss.sigma_temporal": 0.25, "loss.sigma_spatial": 0.5}],
}


def population(folder: Path, **options: Any) -> Population:
    space = Space.model_validate(SPACE)
    arguments: dict[str, Any] = {"members": 4, "epochs": 6, "round_epochs": 2} | options
    return Population("study", open_storage(folder, None), space, **arguments)


def value_of(given: Given) -> float:
    return 1 - abs(given.params["loss.sigma_temporal"] - 0.8)


def end(ledger: Population, given: Given, value: float | None = None) -> Given:
    value = value_of(given) if value is None else value
    ledger.finish(given.name, [value], notes={LAST: value})
    return given


def asked(ledger: Population) -> Given:
    given = ledger.ask()
    assert given is not None
    return given


def test_the_worst_goes_on_from_the_best_and_the_others_from_themselves(tmp_path: Path) -> None:
    ledger = population(tmp_path)
    first = [asked(ledger) for _ in range(4)]
    assert first[0].params == SPACE["first_points"][0]
    assert [(one.name, one.parent, one.until) for one in first] == [(f"trial-000{i}", None, 2) for i in range(4)]
    assert not ledger.may_ask(), "all members train"
    for given, value in zip(first, (0.3, 0.9, 0.1, 0.5), strict=True):
        end(ledger, given, value)
    second = [asked(ledger) for _ in range(4)]
    parents = {one.parent: one for one in second}
    assert [one.parent for one in second] == ["trial-0000", "trial-0001", "trial-0001", "trial-0003"]
    assert {one.until for one in second} == {4}
    assert second[0].params == first[0].params and second[1].params == first[1].params
    moved = second[2].params
    assert moved != first[1].params and moved != first[2].params
    assert parents["trial-0003"].params == first[3].params


def test_a_round_waits_for_the_one_before_and_so_does_not_depend_on_speed(tmp_path: Path) -> None:
    ledger = population(tmp_path / "waits", lag=0)
    first = [asked(ledger) for _ in range(4)]
    for given, value in zip(first[1:], (0.9, 0.1, 0.5), strict=True):
        end(ledger, given, value)
    assert not ledger.may_ask(), "the first member still trains"
    end(ledger, first[0], 0.0)
    assert [asked(ledger).parent for _ in range(4)] == ["trial-0001", "trial-0001", "trial-0002", "trial-0003"]
    runs = []
    for seed, at_once in enumerate((1, 2, 3, 4)):
        rng, ledger = random.Random(seed), population(tmp_path / str(seed), lag=0)
        given, running = [], []
        while not ledger.is_done():
            while len(running) < at_once and ledger.may_ask() and (trial := ledger.ask()):
                given.append(trial)
                running.append(trial)
            end(ledger, running.pop(rng.randrange(len(running))))
        runs.append(given)
    assert len(runs[0]) == 12 and all(run == runs[0] for run in runs)


def test_as_they_come_nobody_waits_for_the_slowest(tmp_path: Path) -> None:
    ledger = population(tmp_path)
    first = [asked(ledger) for _ in range(4)]
    for given, value in zip(first[1:], (0.9, 0.1, 0.5), strict=True):
        end(ledger, given, value)
    ahead = [asked(ledger) for _ in range(3)]
    assert [given.parent for given in ahead] == ["trial-0001", "trial-0001", "trial-0003"]
    assert not ledger.may_ask()
    end(ledger, ahead[0])
    assert asked(ledger).until == 6, "a third round while a first one is under way"
    end(ledger, first[0], 0.0)
    late = asked(ledger)
    assert (late.until, late.parent) == (4, "trial-0001"), "the member that is furthest behind comes first"


def test_a_member_that_fails_is_replaced(tmp_path: Path) -> None:
    ledger = population(tmp_path)
    first = [asked(ledger) for _ in range(4)]
    ledger.finish(first[0].name, None)
    for given in first[1:]:
        end(ledger, given, 0.5)
    heir = asked(ledger)
    assert heir.parent == "trial-0001" and heir.params != first[0].params


def test_where_all_have_failed_each_begins_anew_with_other_values(tmp_path: Path) -> None:
    ledger = population(tmp_path)
    first = [asked(ledger) for _ in range(4)]
    for given in first:
        ledger.finish(given.name, None)
    again = asked(ledger)
    assert again.parent is None and again.until == 4 and again.params != first[0].params


def test_cut_anywhere_it_asks_what_an_uncut_one_asks(tmp_path: Path) -> None:
    whole = population(tmp_path / "whole", seed=3)
    expected = [end(whole, asked(whole)) for _ in range(12)]
    assert whole.ask() is None and whole.is_done() and whole.may_ask()
    cut: list[Given] = []
    for _ in range(12):
        population(tmp_path / "cut", seed=3).ask()  # and killed while it runs
        ledger = population(tmp_path / "cut", seed=3)
        cut.append(end(ledger, asked(ledger)))
    assert cut == expected
    assert len({given.parent for given in expected}) > 4
    best = max(value_of(given) for given in expected[-4:])
    assert best >= max(value_of(given) for given in expected[:4])


def test_killed_between_choosing_and_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = population(tmp_path / "whole")
    expected = [end(whole, asked(whole)) for _ in range(6)]
    ledger = population(tmp_path / "cut")
    cut = [end(ledger, asked(ledger)) for _ in range(4)]
    place = ledger._next_place()
    assert place is not None
    ledger._ask_for(place)  # in storage; then the process is killed
    ledger = population(tmp_path / "cut")
    cut += [end(ledger, asked(ledger)) for _ in range(2)]
    assert cut == expected


# --- as a study -----------------------------------------------------------------------------------------------------


def study_of(data_root: Path, runs: Path, n_members: int = 3, space: dict[str, Any] = SPACE, **changes: Any) -> Study:
    experiment = tiny_experiment(**{"name": "study", "train__epochs": 2} | changes)
    chosen = Space.model_validate(space)
    return Study(
        experiment, chosen, DataRoot(data_root), runs, n_members, sampler="population", limits=Limits(concurrency=2)
    )


@pytest.mark.ray
def test_a_population_trains(
    local_ray: ModuleType, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(data_root, tmp_path)
    record, trials = sweep(study)
    assert n_trials_in_all(study) == record.n_trials == len(trials) == 6
    assert [(trial.member, trial.round, trial.state, trial.epochs) for trial in trials[:3]] == [
        (member, 0, "complete", 1) for member in range(3)
    ]
    for trial in trials[3:]:
        assert (trial.round, trial.epochs) == (1, 2) and trial.parent is not None
        rows = results.read_epochs(study.trial_folder(trial.trial))
        assert rows[0] == results.read_epochs(study.trial_folder(trial.parent))[0], "it went on from its parent"
        assert trial.value == max(row["val_accuracy"] for row in rows)
    assert any(trial.parent != f"trial-{trial.member:04d}" for trial in trials[3:])
    show_end(record, trials)
    assert "member" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="changed while it trained"):
        confirm(study, trials, n_best=1, n_seeds=2)
    assert sweep(study)[1] == trials
    with pytest.raises(ConfigError, match="does not grow"):
        sweep(study, add_trials=2)


RATE = {**SPACE, "parameters": {"optim.lr": {"type": "float", "low": 1e-5, "high": 1e-3}}, "first_points": []}


@pytest.mark.parametrize(
    ("n_members", "space", "changes", "message"),
    [
        (4, RATE, {}, "optim.lr: cannot change in the middle of a training"),
        (1, SPACE, {}, "no other member to learn from"),
        (4, SPACE, {"train__epochs": 1}, "no member would ever change"),
        (4, {**SPACE, "trade_offs": [{"metric": "parameters", "mode": "min"}]}, {}, "ranked by one objective"),
    ],
)
def test_what_cannot_be_a_population_is_refused_before_ray(
    n_members: int, space: dict[str, Any], changes: dict[str, Any], message: str, data_root: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        sweep(study_of(data_root, tmp_path / "runs", n_members, space, **changes))
    assert caught.value.remedy and not (tmp_path / "runs").exists()
