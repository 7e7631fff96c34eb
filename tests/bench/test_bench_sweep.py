"""Measure the overhead of a study beside its trials, and test repeated kills; `make bench` prints the figures."""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from orchestration.state.study_state import study_state
from orchestration.sweeps.study import Limits
from orchestration.sweeps.sweep import sweep
from orchestration.training.run import Run
from tests.orchestration.conftest import write_data
from tests.orchestration.sweeps.stub_trials import PARAMETERS, Report, instant, row_of, stub_study
from tests.orchestration.sweeps.test_killed_study import (
    DRIVER,
    NODE,
    TRIAL,
    assert_like_undisturbed,
    run_to_its_end,
    study_at_once,
)

SECONDS = 6.0


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def tell(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n  {line}")


def sleeping(run: Run, report: Report) -> None:
    """Replace training by a short sleep without CPU, so that only the study's own time is measured."""
    time.sleep(SECONDS)
    tune.report(report(row_of(run, 1)))


def test_sixteen_short_trials_two_at_once(local_ray: Any, data_root: Path, tmp_path: Path, capsys: Any) -> None:
    """Require at most 1.25 times half the sum of the trials' own times."""
    study = stub_study(data_root, tmp_path, 16, limits=Limits(concurrency=2))
    began = time.perf_counter()
    _, trials = sweep(study, train=sleeping)
    took = time.perf_counter() - began
    own = sum(trial.seconds or 0.0 for trial in trials)
    ratio = took / (own / 2)
    tell(capsys, f"16 trials of {own / 16:.1f} s, two at once: {took:.1f} s, {ratio:.2f} of half their sum")
    assert ratio <= 1.25


N_UNEVEN, EPOCHS = 24, 6


def uneven(run: Run, report: Report) -> None:
    """Sleep for 2 to 6 s in all, by the trial's index, and report its epochs."""
    index = int(run.folder.name.rpartition("-")[2])
    seconds = random.Random(index).uniform(2, 6)
    for epoch in range(1, EPOCHS + 1):
        time.sleep(seconds / EPOCHS)
        tune.report(report(row_of(run, epoch)))


@pytest.mark.parametrize("rule", ["none", "asha"])
def test_a_reproducible_study_beside_one_as_they_come(
    rule: str, local_ray: Any, data_root: Path, tmp_path: Path, capsys: Any
) -> None:
    """Require at most 1.15 times the time of trials as they come, which have the same values in both studies."""
    rng, took = random.Random(0), {}
    points = tuple({path: rng.uniform(0, 2) for path in PARAMETERS} for _ in range(N_UNEVEN))
    options: dict[str, Any] = {"epochs": EPOCHS, "points": points, "limits": Limits(concurrency=2), "lag": None}
    sweep(stub_study(data_root, tmp_path, 2, name="first"), train=instant)
    for as_they_come in (True, False):
        name = f"{rule}_{as_they_come}"
        study = stub_study(
            data_root, tmp_path, N_UNEVEN, name=name, stop_rule=rule, as_they_come=as_they_come, **options
        )
        began = time.perf_counter()
        record, trials = sweep(study, train=uneven)
        took[as_they_come] = time.perf_counter() - began
        n_stopped = sum(trial.state == "pruned" for trial in trials)
        tell(capsys, f"stop {rule}, lag {record.lag}: {took[as_they_come]:.1f} s, {n_stopped} of {len(trials)} stopped")
    tell(capsys, f"reproducible / as they come: {took[False] / took[True]:.2f}")
    assert took[False] / took[True] <= 1.15


def test_a_thousand_instant_trials(local_ray: Any, data_root: Path, tmp_path: Path, capsys: Any) -> None:
    """Require that all trials end, the driver grows by less than 300 MB, and status takes less than a second."""
    sweep(stub_study(data_root, tmp_path, 4, name="first"), train=instant)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    study = stub_study(data_root, tmp_path, 1000, name="thousand", sampler="random")
    _, trials = sweep(study, train=instant)
    took = time.perf_counter() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    began = time.perf_counter()
    state = study_state(study.folder)
    looked = time.perf_counter() - began
    tell(capsys, f"1,000 trials in {took:.0f} s, driver {grown:.0f} MB more, status in {looked:.2f} s")
    assert len(trials) == state.n_ended == 1000 and all(trial.state == "complete" for trial in trials)
    assert grown < 300 and looked < 1


def test_ten_random_kills(local_ray: Any, data_root: Path, tmp_path: Path, capsys: Any) -> None:
    """Require that all trials end exactly once, and that the best value equals that of an undisturbed study."""
    kinds = [DRIVER] * 3 + [TRIAL] * 4 + [NODE] * 3
    random.Random(0).shuffle(kinds)
    sweep(study_at_once(data_root, tmp_path / "whole", 30), train=instant)
    began = time.perf_counter()
    n_kills = run_to_its_end(data_root, tmp_path / "killed", kinds, n_trials=30, limit_s=1800)
    tell(capsys, f"30 trials with {n_kills} SIGKILLs ({', '.join(kinds)}): {time.perf_counter() - began:.0f} s")
    assert n_kills == 10
    assert_like_undisturbed(tmp_path / "killed" / "study", tmp_path / "whole" / "study")
