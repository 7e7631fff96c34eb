"""SIGKILL a whole run, while it computes and while it writes, and the driver alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from hcl.config import Experiment
from hcl.frames.stored_dataset import DataRoot
from hcl.models.checkpoint import load_checkpoint
from orchestration.runtime.connect import connect
from orchestration.training.ray_train import fit
from orchestration.training.run import Run
from orchestration.training.run_files import LAST
from orchestration.training.train import train
from orchestration.training.worker import run_epochs
from tests.orchestration.conftest import TWO, prepare, tiny_experiment
from tests.orchestration.training.test_train import assert_same_checkpoints, untimed


def slow() -> Experiment:
    """Return an experiment with a trained backbone, two loader processes, and a checkpoint after every step."""
    changes = {"batches_per_epoch": 3, "checkpoint_every": 1, "loader_processes": 2}
    return tiny_experiment(model__train_backbone=True, **{f"train__{name}": value for name, value in changes.items()})


def child(run: Run, dies_in_write: int | None) -> None:
    """Train in a process, and kill it while it writes its n-th checkpoint, before the rename."""
    torch.set_num_threads(1)
    if dies_in_write is not None:
        written = 0

        def count_and_die(file: int) -> None:
            nonlocal written
            written += 1
            if written == dies_in_write:
                os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = count_and_die  # type: ignore[assignment]
    run_epochs(run)


def start(run: Run, dies_in_write: int | None = None) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=child, args=(run, dies_in_write))
    process.start()
    return process


@pytest.mark.long
def test_killed_anywhere_a_run_loses_one_interval_at_most_and_ends_as_a_whole_one(
    data_root: Path, tmp_path: Path
) -> None:
    whole, run = (prepare(slow(), data_root=data_root, runs=tmp_path / name) for name in ("whole", "killed"))
    run_epochs(whole)
    for dies_in_write, steps_kept in ((1, 0), (3, 2)):  # the first write of a new run, the third of the next process
        process = start(run, dies_in_write)
        process.join(300)
        assert process.exitcode == -signal.SIGKILL
        assert list((run.folder / "checkpoints").glob("*.partial"))  # half a write was left behind
        assert steps_done(run) == steps_kept
    process, n_steps = start(run), steps_done(run)
    deadline = time.monotonic() + 300
    while steps_done(run) == n_steps and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()  # while it computes, somewhere
    process.join(30)
    n_steps = steps_done(run)
    assert n_steps >= 3
    run_epochs(run)
    assert not list((run.folder / "checkpoints").glob("*.partial"))
    assert untimed(run) == untimed(whole)
    assert_same_checkpoints(run, whole)


def steps_done(run: Run) -> int:
    """Return the steps in a checkpoint, which must be complete whenever it exists."""
    if not (run.folder / LAST).exists():
        return 0
    state = load_checkpoint(run.folder / LAST)
    return 3 * state["epoch"] + state["step"]


class KillDriver:
    """Make rank 0, which writes, kill the driver after the first epoch and keep the right to write."""

    def __init__(self, pid: int):
        self.pid = pid

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["epoch"] == 1:
            os.kill(self.pid, signal.SIGKILL)
            time.sleep(60)  # until Ray ends what belonged to the driver
        return row


def drive(address: str, data_root: str, runs: str) -> None:
    """Run a driver like `hcl train`, which dies on the way."""
    run = prepare(tiny_experiment(**TWO, name="orphan"), data_root=Path(data_root), runs=Path(runs))
    with connect(address):
        fit(run, report=KillDriver(os.getpid()))


@pytest.mark.ray
@pytest.mark.long
def test_kill_9_of_the_driver_changes_no_weight(
    local_ray: ModuleType, trained: Run, data_root: Path, tmp_path: Path
) -> None:
    """The repeated command waits for the orphaned workers to end, and resumes."""
    address = local_ray.get_runtime_context().gcs_address
    code = f"from {__name__} import drive; drive({address!r}, {str(data_root)!r}, {str(trained.runs)!r})"
    driver = subprocess.run([sys.executable, "-c", code], timeout=400, capture_output=True, text=True, check=False)
    assert driver.returncode == -signal.SIGKILL, driver.stderr
    folder = trained.runs / "orphan"
    assert load_checkpoint(folder / LAST)["epoch"] == 1
    run = train(tiny_experiment(**TWO, name="orphan"), data=DataRoot(data_root), runs=trained.runs)
    assert untimed(run) == untimed(trained)
    assert_same_checkpoints(run, trained)
