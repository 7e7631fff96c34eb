"""Run studies whose trials compute one formula instead of training, to test everything around a trial quickly."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray import tune
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

import results
from hcl.frames.stored_dataset import DataRoot
from orchestration.sweeps.study import Study
from orchestration.training.run import Run
from search_spaces import Space
from tests.orchestration.conftest import tiny_experiment

Report = Callable[[dict[str, Any]], dict[str, Any]]
PARAMETERS: dict[str, Any] = {
    "loss.sigma_temporal": {"type": "float", "low": 0.0, "high": 2.0},
    "loss.sigma_spatial": {"type": "float", "low": 0.0, "high": 2.0},
}
ENDS = "ends.log"  # in the study's folder: a line for each trial that came to its end


def stub_study(data_root: Path, runs: Path, n_trials: int, **more: Any) -> Study:
    """Return a study of an experiment with a trained backbone, so that nothing is encoded before."""
    name, epochs, workers = more.pop("name", "study"), more.pop("epochs", 1), more.pop("workers", 1)
    content = {"name": "test", "about": "for tests", "parameters": PARAMETERS} | more.pop("space", {})
    experiment = tiny_experiment(name=name, train__epochs=epochs, train__workers=workers, model__train_backbone=True)
    return Study(experiment, Space.model_validate(content), DataRoot(data_root), runs, n_trials, **{"lag": 4, **more})


def instant(run: Run, report: Report) -> None:
    """Report all epochs at once, better near one point; each trial's end is written down."""
    for epoch in range(1, run.experiment.train.epochs + 1):
        tune.report(report(row_of(run, epoch)))
    note_end(run)


def paced(run: Run, report: Report) -> None:
    """Resume after the epochs on disk, and take about half a second per epoch, at random."""
    rows = results.read_epochs(run.folder) if (run.folder / "metrics.parquet").exists() else []
    (run.folder / "pid").write_text(str(os.getpid()))
    for epoch in range(1, run.experiment.train.epochs + 1):
        if epoch > len(rows):
            time.sleep(random.uniform(0.1, 0.9))
            rows.append(row_of(run, epoch))
            if epoch == run.experiment.train.epochs:
                note_end(run)
        tune.report(report(rows[epoch - 1]))


def troubled(run: Run, report: Report) -> None:
    """Fail: trial 1 by a bug, 2 by a single death, 3 by hanging, 4 by a stop, 5 in a library; others end well."""
    index = int(run.folder.name.rpartition("-")[2])
    if index == 1:
        raise KeyError("a bug")
    if index == 2 and not (run.folder / "died").exists():
        (run.folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if index == 3:
        time.sleep(600)
    if index == 4:
        os.kill(os.getpid(), signal.SIGSTOP)
    if index == 5:
        re.match("(a+)+$", 60 * "a" + "b")  # runs for years and holds the GIL
    instant(run, report)


def freezing_worker(run: Run, report: Report) -> None:
    """Run trial 0 by two workers of Ray Train, the second of which is stopped while the first waits for it."""
    if run.folder.name == "trial-0000":
        TorchTrainer(
            _freeze,
            train_loop_config={"folder": run.folder},
            torch_config=TorchConfig(backend="gloo", timeout_s=600),
            scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(name=f"{run.folder.name}-{time.time_ns()}", storage_path=str(run.folder / "state")),
        ).fit()
    instant(run, report)


def _freeze(config: dict[str, Any]) -> None:
    rank = ray.train.get_context().get_world_rank()
    (config["folder"] / f"pid-{rank}").write_text(str(os.getpid()))
    if rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    torch.distributed.barrier()


def filling(run: Run, report: Report) -> None:
    """Write two megabytes to its disk."""
    with (run.folder / "weights").open("wb") as file:
        file.write(bytes(2_000_000))
        file.flush()
        os.fsync(file.fileno())
    instant(run, report)


def row_of(run: Run, epoch: int) -> dict[str, Any]:
    loss = run.experiment.loss
    value = 1 - 0.2 * (loss.sigma_temporal - 1) ** 2 - 0.2 * (loss.sigma_spatial - 0.5) ** 2
    row = {"epoch": epoch, "val_accuracy": value * epoch / run.experiment.train.epochs}
    row["parameters"] = round(1000 * loss.sigma_temporal)
    results.append_epoch(run.folder, row)
    return row


def note_end(run: Run) -> None:
    with (run.folder.parent.parent / ENDS).open("a") as file:
        file.write(f"{run.folder.name}\n")
