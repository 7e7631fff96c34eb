"""A study whose trials compute one formula instead of training: everything around a trial, and no waiting."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

import results
from orchestration.runs import Run
from orchestration.sweeps.study import Study
from search_spaces import Space
from tests.orchestration.conftest import tiny_experiment

Report = Callable[[dict[str, Any]], dict[str, Any]]
PARAMETERS: dict[str, Any] = {
    "loss.sigma_temporal": {"type": "float", "low": 0.0, "high": 2.0},
    "loss.sigma_spatial": {"type": "float", "low": 0.0, "high": 2.0},
}
ENDS = "ends.log"  # in the study's folder: a line for each trial that came to its end


def stub_study(data_root: Path, runs: Path, n_trials: int, **more: Any) -> Study:
    """Of an experiment whose backbone learns, so that nothing is encoded before."""
    name, epochs = more.pop("name", "study"), more.pop("epochs", 1)
    content = {"name": "test", "about": "for tests", "parameters": PARAMETERS} | more.pop("space", {})
    experiment = tiny_experiment(name=name, train__epochs=epochs, model__train_backbone=True)
    return Study(experiment, Space.model_validate(content), data_root, runs, n_trials, **more)


def instant(run: Run, report: Report) -> None:
    """All epochs at once, better near one point; each trial's end is written down."""
    for epoch in range(1, run.experiment.train.epochs + 1):
        tune.report(report(row_of(run, epoch)))
    note_end(run)


def paced(run: Run, report: Report) -> None:
    """Goes on after the epochs that are on disk, half a second an epoch."""
    rows = results.read_epochs(run.folder) if (run.folder / "metrics.parquet").exists() else []
    (run.folder / "pid").write_text(str(os.getpid()))
    for epoch in range(1, run.experiment.train.epochs + 1):
        if epoch > len(rows):
            time.sleep(0.5)
            rows.append(row_of(run, epoch))
            if epoch == run.experiment.train.epochs:
                note_end(run)
        tune.report(report(rows[epoch - 1]))


def troubled(run: Run, report: Report) -> None:
    """Trial 1 raises a bug, trial 2 dies once, trial 3 hangs, all others end well."""
    index = int(run.folder.name.rpartition("-")[2])
    if index == 1:
        raise KeyError("a bug")
    if index == 2 and not (run.folder / "died").exists():
        (run.folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if index == 3:
        time.sleep(600)
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
