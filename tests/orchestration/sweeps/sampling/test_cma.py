"""Test CMA-ES from the trials of a study: it equals one optimiser that is told of each generation."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from orchestration.sweeps.ledger import Ledger
from orchestration.sweeps.sampling import samplers
from orchestration.sweeps.sampling.cma import GENERATION, JUDGED_BY
from orchestration.sweeps.sampling.samplers import seed_of
from orchestration.sweeps.storage.optuna_storage import JOURNAL, open_storage
from search_spaces import Space
from tests.orchestration.sweeps.test_ledger import space_of

cmaes = pytest.importorskip("cmaes")
PARAMETERS: dict[str, Any] = {
    "loss.sigma_temporal": {"type": "float", "low": 0.0, "high": 2.0},
    "optim.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "optim.step_size": {"type": "int", "low": 1, "high": 40},
}
N_RANDOM, SIZE = 6, 7  # three dimensions


def open_ledger(folder: Path, space: Space | None = None, n_trials: int = 60) -> Ledger:
    return Ledger(
        "study", open_storage(folder, None), space or space_of(PARAMETERS), n_trials=n_trials, sampler="cmaes"
    )


def value_of(values: dict[str, Any]) -> float:
    """Return the objective, which is best at 0.5, 1e-3 and 30."""
    return -(
        (values["loss.sigma_temporal"] - 0.5) ** 2
        + np.log10(values["optim.lr"] / 1e-3) ** 2 / 4
        + ((values["optim.step_size"] - 30) / 40) ** 2
    )


def scaled(values: dict[str, Any]) -> np.ndarray:
    """Return values between 0 and 1; a whole number is in the middle of its share."""
    return np.array(
        [
            values["loss.sigma_temporal"] / 2,
            (np.log(values["optim.lr"]) - np.log(1e-5)) / (np.log(1e-1) - np.log(1e-5)),
            (values["optim.step_size"] - 0.5) / 40,
        ]
    )


def test_it_draws_what_one_optimiser_draws_and_comes_near_the_best(tmp_path: Path) -> None:
    optimiser = cmaes.CMA(
        mean=np.full(3, 0.5), sigma=1 / 6, bounds=np.array(3 * [[0.0, 1.0]]), n_max_resampling=30, seed=1
    )
    assert optimiser.population_size == SIZE
    generation: list[tuple[np.ndarray, float]] = []
    values: list[float] = []
    for number in range(N_RANDOM + 5 * SIZE):
        ledger = open_ledger(tmp_path)  # a new process for each trial
        given = ledger.ask()
        assert given is not None
        if number >= N_RANDOM:
            if len(generation) == SIZE:
                optimiser.tell(generation)
                generation = []
            optimiser._rng.seed(seed_of(0, number))
            expected = optimiser.ask()
            expected[2] = (round(float(expected[2] * 40 + 0.5)) - 0.5) / 40
            assert scaled(given.params) == pytest.approx(expected, abs=1e-6)
            generation.append((scaled(given.params), -value_of(given.params)))
        values.append(value_of(given.params))
        ledger.finish(given.name, [values[-1]])
    assert np.mean(values[-SIZE:]) > 0.3 * np.mean(values[:N_RANDOM]), "it has learnt next to nothing"


def test_what_is_asked_follows_from_the_storage_also_where_trials_end_late(tmp_path: Path) -> None:
    """Several trials run, and one of an early generation ends after later ones were judged without it."""
    rng, running = random.Random(3), []
    ledger = open_ledger(tmp_path / "study")
    for step in range(45):
        shutil.copytree(tmp_path / "study", copy := tmp_path / f"copy-{step}")
        given = ledger.ask()
        assert given is not None
        if not running:
            assert open_ledger(copy).ask() == given
        else:  # the copy gives out first what is under way
            again = open_ledger(copy)
            assert {trial.name for trial in running} == {again.ask().name for _ in running}  # type: ignore[union-attr]
            assert again.ask() == given
        running.append(given)
        while len(running) > 3 or (running and rng.random() < 0.3):
            late = running[0].name == "trial-0008" and len(ledger.trials()) < 30
            done = running.pop(1 if late and len(running) > 1 else rng.randrange(1 if late else 0, len(running)))
            ledger.finish(done.name, [value_of(done.params)])
            if late and len(running) == 1:
                break
    judged = [trial.system_attrs[JUDGED_BY] for trial in ledger.trials() if JUDGED_BY in trial.system_attrs]
    assert sum(map(len, judged)) >= 3, "each generation is noted once"
    assert len({generation for by_generation in judged for generation in by_generation}) == sum(map(len, judged))


def test_a_study_that_optunas_own_sampler_began_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        own = {"cmaes": lambda seed: optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=N_RANDOM)}
        before.setattr(samplers, "_MAKE", samplers._MAKE | own)
        ledger = open_ledger(tmp_path)
        for _ in range(N_RANDOM + 2 * SIZE + 1):
            given = ledger.ask()
            assert given is not None
            ledger.finish(given.name, [value_of(given.params)])
    ledger = open_ledger(tmp_path)
    assert any("cma:optimizer:0" in trial.system_attrs for trial in ledger.trials())
    given = ledger.ask()
    assert given is not None
    attrs = ledger.trial(given.name).system_attrs
    assert attrs[GENERATION] == 2 and list(attrs[JUDGED_BY]) == ["0", "1"]


@pytest.mark.parametrize(
    "junk", [7, "x", {"0": 7}, {"0": ["a"]}, {"0": [999] * SIZE}, {"x": []}, {"0": list(range(SIZE))}]
)
def test_notes_of_another_hand_stop_nothing(junk: Any, tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    for _ in range(N_RANDOM + SIZE):
        given = ledger.ask()
        assert given is not None
        ledger._storage.set_trial_system_attr(ledger._id(given.name), JUDGED_BY, junk)
        ledger.finish(given.name, [value_of(given.params)])
    again = open_ledger(tmp_path)
    for _ in range(3):
        given = again.ask()
        assert given is not None
        again.finish(given.name, [value_of(given.params)])


def test_one_number_and_choices(tmp_path: Path) -> None:
    parameters = {
        "loss.sigma_temporal": PARAMETERS["loss.sigma_temporal"],
        "optim.schedule": {"type": "choice", "values": ["step", "cosine"]},
    }
    ledger = open_ledger(tmp_path, space_of(parameters), n_trials=20)
    while (given := ledger.ask()) is not None:
        ledger.finish(given.name, [-abs(given.params["loss.sigma_temporal"] - 0.5)])
    assert {trial.params["optim.schedule"] for trial in ledger.trials()} == {0, 1} or ledger.is_done()
    assert (tmp_path / JOURNAL).exists()
