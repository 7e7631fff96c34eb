"""SIGKILL a study's driver, a trial's process and the node below; the study must end as without the kill."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

import results
from orchestration.sweeps.study import Limits, Study
from orchestration.sweeps.sweep import sweep
from tests.orchestration.sweeps.stub_trials import ENDS, instant, paced, stub_study

N_TRIALS, EPOCHS, LAG = 10, 3, 2
DRIVER, TRIAL, NODE = "driver", "trial", "node"


def study_at_once(data_root: Path, runs: Path, n_trials: int = N_TRIALS, *, concurrency: int = LAG + 1) -> Study:
    """Return a study whose trials may be stopped after their second epoch, with some trials at once."""
    limits = Limits(retries=20, concurrency=concurrency)
    return stub_study(data_root, runs, n_trials, epochs=EPOCHS, lag=LAG, limits=limits, grace_epochs=2)


def drive(data_root: str, runs: str, n_trials: int) -> None:
    """Run the work of `hcl sweep` in a process with a Ray of its own."""
    sweep(study_at_once(Path(data_root), Path(runs), n_trials), train=paced)


def start(data_root: Path, runs: Path, n_trials: int = N_TRIALS) -> subprocess.Popen[bytes]:
    code = f"from {__name__} import drive; drive({str(data_root)!r}, {str(runs)!r}, {n_trials})"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill(kind: str, driver: subprocess.Popen[bytes], folder: Path) -> bool:
    """Kill a process of this driver, and return whether there was one."""
    if kind == DRIVER:
        driver.kill()
        return True
    below = processes_below(driver.pid)
    trials = {int(path.read_text() or 0) for path in folder.glob("trials/*/pid")}
    pids = [pid for pid, name in below.items() if (name == "raylet" if kind == NODE else pid in trials)]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


def processes_below(pid: int) -> dict[int, str]:
    """Return the names of a process's descendants, according to the kernel."""
    parents: dict[int, tuple[int, str]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            number, rest = path.read_text().split(" (", 1)
            name, fields = rest.rsplit(")", 1)
            parents[int(number)] = (int(fields.split()[1]), name)
    names: dict[int, str] = {}
    layer = {pid}
    while layer:
        layer = {child for child, (parent, _) in parents.items() if parent in layer}
        names |= {child: parents[child][1] for child in layer}
    return names


def run_to_its_end(
    data_root: Path, runs: Path, kills: Sequence[str], *, seed: int = 0, n_trials: int = N_TRIALS, limit_s: float = 600
) -> int:
    """Repeat the command until it ends by itself, with random kills; return the number of kills."""
    folder, rng = runs / "study", random.Random(seed)
    left, n_kills, deadline = list(kills), 0, time.monotonic() + limit_s
    while True:
        while running(folder):  # the trials of a driver that was killed live on for a moment, longer on a busy machine
            assert time.monotonic() < deadline, "a trial outlives its driver"
            time.sleep(0.05)
        driver = start(data_root, runs, n_trials)
        while driver.poll() is None:
            assert time.monotonic() < deadline, "the study hangs"
            time.sleep(0.05)
            if left and running(folder):
                time.sleep(rng.uniform(0, 1.5))
                if driver.poll() is None and kill(left[0], driver, folder):
                    n_kills += 1
                    left.pop(0)
                    time.sleep(0.5)
        if driver.returncode == 0:
            return n_kills
        assert driver.returncode in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGABRT, 1, 15), driver.returncode


def running(folder: Path) -> bool:
    """Return whether a trial's process is running."""
    pids = [int(path.read_text() or 0) for path in folder.glob("trials/*/pid")]
    return any(Path(f"/proc/{pid}").exists() for pid in pids if pid)


def assert_like_undisturbed(folder: Path, undisturbed: Path) -> None:
    trials, whole = results.read_trials(folder), results.read_trials(undisturbed)
    assert [(trial.trial, trial.params, trial.value, trial.state) for trial in trials] == [
        (trial.trial, trial.params, trial.value, trial.state) for trial in whole
    ]
    ends = (folder / ENDS).read_text().split()
    assert len(ends) == len(set(ends)), "no trial came to its end twice"
    assert {trial.trial for trial in trials if trial.state == "complete"} <= set(ends)
    assert results.read_sweep(folder).best_value == results.read_sweep(undisturbed).best_value


@pytest.mark.ray
@pytest.mark.long
def test_killed_again_and_again_a_study_ends_as_an_undisturbed_one(
    local_ray: object, data_root: Path, tmp_path: Path
) -> None:
    _, trials = sweep(study_at_once(data_root, tmp_path / "whole", concurrency=1), train=instant)
    assert {trial.state for trial in trials} == {"complete", "pruned"}
    assert run_to_its_end(data_root, tmp_path / "killed", [DRIVER, TRIAL, DRIVER]) == 3
    assert_like_undisturbed(tmp_path / "killed" / "study", tmp_path / "whole" / "study")


@pytest.mark.ray
@pytest.mark.long
def test_at_random_speeds_and_with_more_at_once_a_study_is_the_same(
    local_ray: object, data_root: Path, tmp_path: Path
) -> None:
    """Check what Ray Tune makes of it; `test_reproducible` tries many more orders without Ray."""
    for concurrency in (1, 2, 4):
        runs = tmp_path / str(concurrency)
        record, _ = sweep(study_at_once(data_root, runs, concurrency=concurrency), train=paced)
        assert (record.reproducible, record.lag) == (True, LAG)
        assert_like_undisturbed(runs / "study", tmp_path / "1" / "study")


def trials_of(folder: Path) -> list[results.TrialRecord]:
    """Return the trials that are recorded so far."""
    return results.read_trials(folder) if (folder / "sweep.json").exists() else []


@pytest.mark.ray
@pytest.mark.long
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(data_root: Path, tmp_path: Path) -> None:
    driver = start(data_root, tmp_path)
    folder, deadline = tmp_path / "study", time.monotonic() + 300
    while not any(trial.state == "complete" for trial in trials_of(folder)):
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(driver.pid, signal.SIGINT)
    assert driver.wait(120) != 0
    states = {trial.trial: trial.state for trial in results.read_trials(folder)}
    done = {name for name, state in states.items() if state == "complete"}  # one, or what ended meanwhile
    assert 0 < len(done) < N_TRIALS and "failed" not in states.values()
    assert not (folder / "best.yaml").exists() and not (folder / ".tune").exists()
    assert json.loads((folder / "sweep.json").read_text())["best_trial"] in done
