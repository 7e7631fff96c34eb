"""Test that a study is a function of its seed and lag: not of when trials end, how many run at once, or of kills."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from typing import Any

import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from orchestration.sweeps.ledger import Ledger
from orchestration.sweeps.trial_source import BEST, EPOCHS, ERROR, LAST, Given
from search_spaces import Space

EPOCHS_OF_TRIAL, FIRST_RUNG, LAG, N_TRIALS = 9, 3, 4, 20
SPACE = {
    "name": "test",
    "about": "for tests",
    "parameters": {
        "loss.sigma_temporal": {"type": "float", "low": 0.0, "high": 2.0},
        "optim.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
        "optim.schedule": {"type": "choice", "values": ["step", "cosine"]},
        "optim.step_size": {"type": "int", "low": 1, "high": 4, "when": {"optim.schedule": "step"}},
    },
    "first_points": [{"loss.sigma_temporal": 0.25}, {"loss.sigma_temporal": 0.5, "optim.schedule": "cosine"}],
}
GRID = {
    "name": "test",
    "about": "for tests",
    "parameters": {
        "loss.sigma_temporal": {"type": "float", "low": 0.0, "high": 2.0, "step": 0.25},
        "optim.schedule": {"type": "choice", "values": ["step", "cosine"]},
    },
}

SIGMA = {
    "name": "test",
    "about": "for tests",
    "parameters": {"loss.sigma_temporal": {"type": "float", "low": 0, "high": 1}},
}


def problem_with(params: Any) -> str | None:
    return "breaks a constraint" if params["loss.sigma_temporal"] > 1.75 else None


def values_of(params: dict[str, Any]) -> list[float]:
    """Return the best objective so far after each epoch, a function of the params; it ends early where it diverges."""
    noise = random.Random(repr(sorted(params.items())))
    level = 1 - (params["loss.sigma_temporal"] - 1) ** 2 + 0.1 * (params["optim.schedule"] == "step")
    values = [level * epoch / EPOCHS_OF_TRIAL + noise.gauss(0, 0.05) for epoch in range(1, EPOCHS_OF_TRIAL + 1)]
    n_epochs = 5 if noise.random() < 0.1 else EPOCHS_OF_TRIAL
    return [max(values[:epoch]) for epoch in range(1, n_epochs + 1)]


class Killed(BaseException):
    pass


class Cluster:
    """Run a study's trials in an order of its own: some at once, at random speeds, with kills between any two writes.

    Args:
        at_once: number of trials at once, for each time that the command is started.
        kills: the mean number of writes to the storage between two kills; None: no kills.
    """

    def __init__(self, seed: int, at_once: Sequence[int], *, kills: float | None = None):
        self.rng, self.at_once, self.kills = random.Random(seed), list(at_once), kills
        self.trained: dict[str, int] = {}  # epochs that are in a trial's checkpoint
        self.n_kills = 0

    def run(self, storage: BaseStorage, **options: Any) -> list[Any]:
        """Repeat the command until the study is done, and return its trials."""
        while True:
            try:
                self._command(_Dying(storage, self) if self.kills else storage, options)
                return outcomes(storage, options)
            except Killed:
                self.n_kills += 1

    def _command(self, storage: BaseStorage, options: dict[str, Any]) -> None:
        ledger = open_ledger(storage, **options)
        at_once = self.at_once[self.n_kills % len(self.at_once)]
        running: dict[str, Given] = {}
        speeds: dict[str, float] = {}
        told: dict[str, int] = {}
        while not ledger.is_done():
            while ledger.n_running < at_once and ledger.may_ask() and (given := ledger.ask()):
                running[given.name] = given
                speeds[given.name] = self.rng.choice([1.0, 3.0, 30.0])
            name = self.rng.choices(list(running), [speeds[name] for name in running])[0]
            if self._step(ledger, running[name], told):
                del running[name]
        assert ledger.n_running == 0 and not running

    def _step(self, ledger: Ledger, given: Given, told: dict[str, int]) -> bool:
        """Train an epoch and report it, with those that were not reported by this command; return whether it ended."""
        name, values = given.name, values_of(given.params)
        epoch = self.trained[name] = min(self.trained.get(name, 0) + 1, len(values))
        stops = False
        for earlier in range(min(told.get(name, 0) + 1, epoch), epoch + 1):
            stops |= ledger.report(name, earlier, values[earlier - 1])
        told[name] = epoch
        if not stops and epoch < len(values):
            return False
        is_whole = epoch == EPOCHS_OF_TRIAL
        fails = not stops and not is_whole
        notes: dict[str, Any] = {EPOCHS: epoch, LAST: values[epoch - 1]} | ({ERROR: "diverged"} if fails else {})
        ledger.finish(
            name,
            None if fails else [values[epoch - 1]],
            is_whole=is_whole,
            notes=notes,
            earlier={epoch: {LAST: value, BEST: epoch} for epoch, value in enumerate(values[:epoch], start=1)},
        )
        return True


class _Dying:
    """Stand for a storage that kills the process in place of a write, now and then."""

    def __init__(self, storage: BaseStorage, cluster: Cluster):
        self._storage, self._cluster = storage, cluster

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)
        if not name.startswith(("set_trial", "create_new_trial")):
            return method

        def write(*args: Any, **kwargs: Any) -> Any:
            if self._cluster.rng.random() < 1 / (self._cluster.kills or 1):
                raise Killed
            return method(*args, **kwargs)

        return write


def open_ledger(storage: BaseStorage, **options: Any) -> Ledger:
    space = Space.model_validate(options.pop("space", SPACE))
    rungs = {"first_rung": FIRST_RUNG, "epochs": EPOCHS_OF_TRIAL}
    return Ledger(
        "study", storage, space, **{"n_trials": N_TRIALS, "lag": LAG, "problem_with": problem_with} | rungs | options
    )


def outcomes(storage: BaseStorage, options: dict[str, Any]) -> list[Any]:
    """Return what is recorded of a study's trials, but for times and messages."""
    return [
        (
            trial.params,
            trial.state.name,
            trial.values,
            trial.intermediate_values if trial.state != TrialState.COMPLETE else None,
            {key: trial.user_attrs.get(key) for key in (EPOCHS, LAST, ERROR)},
        )
        for trial in open_ledger(storage, **options).trials()
    ]


def alone(**options: Any) -> list[Any]:
    """Return the outcomes of a study whose trials run one after another, without kills."""
    return Cluster(0, [1]).run(InMemoryStorage(), **options)


CASES: list[dict[str, Any]] = [
    {"sampler": "tpe", "stop_rule": "asha"},
    {"sampler": "tpe", "stop_rule": "median"},
    {"sampler": "tpe", "stop_rule": "none"},
    {"sampler": "random", "stop_rule": "asha"},
    {"sampler": "grid", "stop_rule": "asha", "space": GRID},
    {"sampler": "cmaes", "stop_rule": "asha"},
    {"sampler": "gp", "stop_rule": "asha", "n_trials": 14},
]


def case_id(case: dict[str, Any]) -> str:
    return f"{case['sampler']}-{case['stop_rule']}"


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_same_study_at_any_speed_and_with_any_number_at_once(case: dict[str, Any]) -> None:
    for package in {"cmaes": ["cmaes"], "gp": ["scipy"]}.get(case["sampler"], []):
        pytest.importorskip(package)
    expected = alone(**case)
    states = {state for _, state, *_ in expected}
    assert states >= ({"COMPLETE"} if case["stop_rule"] == "none" else {"COMPLETE", "PRUNED"})
    for seed, at_once in enumerate((2, 3, 4)):
        assert Cluster(seed, [at_once]).run(InMemoryStorage(), **case) == expected, f"{at_once} at once"


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_same_study_killed_again_and_again(case: dict[str, Any]) -> None:
    for package in {"cmaes": ["cmaes"], "gp": ["scipy"]}.get(case["sampler"], []):
        pytest.importorskip(package)
    expected = alone(**case)
    for seed in range(3 if case == CASES[0] else 1):
        cluster = Cluster(seed, (2, 4, 1, 3), kills=30)
        assert cluster.run(InMemoryStorage(), **case) == expected, f"seed {seed}, {cluster.n_kills} kills"
        assert cluster.n_kills >= 3


def test_as_they_come_it_depends_on_speed() -> None:
    """Check that the simulation would show a dependence; the first trials are the same at random."""
    case = {"sampler": "tpe", "stop_rule": "asha", "lag": None}
    runs = [Cluster(seed, [3]).run(InMemoryStorage(), **case) for seed in range(4)]
    assert any(run != runs[0] for run in runs[1:])


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sampler_sees_ended_trials_up_to_its_lag_and_at_most_params_of_later_ones(sampler: str) -> None:
    ledger = open_ledger(InMemoryStorage(), sampler=sampler, lag=2, problem_with=lambda params: None)
    for _ in range(3):
        assert ledger.may_ask() and ledger.ask()
    assert not ledger.may_ask(), "trial 3 waits for trial 0"
    for name in ("trial-0001", "trial-0002"):
        ledger.finish(name, [0.5])
        assert not ledger.may_ask()
    ledger.finish("trial-0000", [0.25])
    assert ledger.may_ask() and ledger.most_at_once == 3
    seen: list[Any] = []
    draw = ledger._draws.next
    ledger._draws.next = lambda index, trials: (seen.extend(trials or []), draw(index, trials))[1]  # type: ignore[method-assign]
    assert ledger.ask()
    under_way = [("RUNNING", None), ("RUNNING", None)] if sampler == "gp" else []
    assert [(trial.state.name, trial.values) for trial in seen] == [("COMPLETE", [0.25]), *under_way]
    assert all(trial.params for trial in seen)


def test_samplers_that_do_not_learn_wait_for_nothing() -> None:
    ledger = open_ledger(InMemoryStorage(), sampler="random", lag=1)
    assert ledger.most_at_once is None
    assert all(ledger.may_ask() and ledger.ask() for _ in range(10))


def test_a_trial_goes_on_until_slower_ones_are_as_far_and_counts_as_stopped_where_it_fell_behind() -> None:
    ledger = open_ledger(InMemoryStorage(), sampler="random", stop_rule="asha")
    slow, fast = ledger.ask(), ledger.ask()
    assert slow and fast
    for epoch in range(1, EPOCHS_OF_TRIAL + 1):
        assert ledger.report(fast.name, epoch, epoch / 10) is False, "nobody knows yet"
    earlier = {epoch: {LAST: epoch / 10, BEST: epoch} for epoch in range(1, EPOCHS_OF_TRIAL + 1)}
    ledger.finish(fast.name, [0.9], notes={EPOCHS: EPOCHS_OF_TRIAL, LAST: 0.9}, earlier=earlier)
    assert ledger.n_running == 1, "it has left its place to another"
    assert ledger.take_ended() == [] and not ledger.is_done()
    for epoch in range(1, FIRST_RUNG + 1):
        ledger.report(slow.name, epoch, 0.95)
    assert ledger.take_ended() == [fast.name]
    stopped = ledger.trial(fast.name)
    assert (stopped.state, stopped.value) == (TrialState.PRUNED, FIRST_RUNG / 10)
    assert stopped.intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}
    assert (stopped.user_attrs[EPOCHS], stopped.user_attrs[BEST], stopped.user_attrs[LAST]) == (3, 3, 0.3)


def test_a_failure_after_the_epoch_at_which_a_trial_should_have_stopped_is_no_failure() -> None:
    ledger = open_ledger(InMemoryStorage(), sampler="random", stop_rule="asha")
    slow, fast = ledger.ask(), ledger.ask()
    assert slow and fast
    for epoch in range(1, 5):
        ledger.report(fast.name, epoch, 0.5)
    ledger.finish(fast.name, None, notes={EPOCHS: 4, ERROR: "diverged"})
    ledger.finish(slow.name, None, notes={EPOCHS: 1, ERROR: "diverged"})
    assert ledger.take_ended() == [slow.name, fast.name]
    assert ledger.trial(fast.name).state == TrialState.FAIL, "the other one never came to the rung"
    slow, fast = ledger.ask(), ledger.ask()
    assert slow and fast
    for epoch in range(1, 5):
        ledger.report(fast.name, epoch, 0.25)
    ledger.finish(fast.name, None, notes={EPOCHS: 4, ERROR: "diverged"})
    for epoch in range(1, 4):
        ledger.report(slow.name, epoch, 0.75)
    behind = ledger.trial(fast.name)
    assert (behind.state, behind.user_attrs[EPOCHS]) == (TrialState.PRUNED, 3)
    assert ERROR not in behind.user_attrs


def simulated_time(ledger: Ledger, at_once: int, seed: int) -> tuple[float, int]:
    """Return the time that a study takes by a simulated clock, and the number of stopped trials.

    A trial takes 1 to 3 units, by its index; a stop takes effect at its next report.
    """
    now = 0.0
    running: dict[int, tuple[Given, float]] = {}
    events: list[tuple[float, int, int]] = []
    while not ledger.is_done():
        while ledger.n_running < at_once and ledger.may_ask() and (given := ledger.ask()):
            duration = random.Random(seed * 1000 + given.index).uniform(1, 3)
            running[given.index] = (given, duration / EPOCHS_OF_TRIAL)
            heapq.heappush(events, (now + duration / EPOCHS_OF_TRIAL, given.index, 1))
        now, index, epoch = heapq.heappop(events)
        given, step = running[index]
        value = random.Random(index).gauss(0, 1) * epoch / EPOCHS_OF_TRIAL + random.Random(index).gauss(0, 0.1)
        if ledger.report(given.name, epoch, value) or epoch == EPOCHS_OF_TRIAL:
            ledger.finish(given.name, [value], is_whole=epoch == EPOCHS_OF_TRIAL, notes={EPOCHS: epoch})
        else:
            heapq.heappush(events, (now + step, index, epoch + 1))
    return now, sum(trial.state == TrialState.PRUNED for trial in ledger.trials())


@pytest.mark.parametrize("rule", ["none", "asha", "median"])
@pytest.mark.parametrize("at_once", [2, 4])
def test_it_takes_at_most_115_percent_of_the_time_of_trials_as_they_come(rule: str, at_once: int) -> None:
    """The same trials run in both studies, because their values are given; durations differ threefold."""
    times: dict[int | None, float] = {None: 0.0, 2 * at_once: 0.0}
    stopped: dict[int | None, int] = {None: 0, 2 * at_once: 0}
    points = [{"loss.sigma_temporal": index / 32} for index in range(32)]
    for lag in times:
        for seed in range(5):
            ledger = open_ledger(
                InMemoryStorage(), stop_rule=rule, lag=lag, n_trials=32, space={**SIGMA, "first_points": points}
            )
            time, n_stopped = simulated_time(ledger, at_once, seed)
            times[lag] += time
            stopped[lag] += n_stopped
    ratio = times[2 * at_once] / times[None]
    assert ratio <= 1.15, f"{ratio:.3f}; stopped: {stopped}"
    assert rule == "none" or stopped[2 * at_once] > 0.9 * stopped[None] > 0


def test_warm_start_that_was_killed_learns_each_trial_once() -> None:
    storage = InMemoryStorage()
    known = [
        ({"loss.sigma_temporal": value, "optim.lr": 1e-3, "optim.schedule": "cosine"}, [value]) for value in (0.5, 1.0)
    ]
    open_ledger(storage).learn(known[:1])
    open_ledger(storage).learn(known)
    ledger = open_ledger(storage)
    ledger.learn(known)
    assert [trial.values for trial in ledger.study.get_trials() if "learnt" in trial.user_attrs] == [[0.5], [1.0]]
