"""What runs in a trial, and what is told and recorded of it.

A trial of one worker trains inside a reused Tune actor. A trial of several is a driver, which takes next to no
resources of its own, around Ray Train.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import ray
import torch
from ray import tune
from ray.tune import Callback
from ray.tune.integration.ray_train import TuneReportCallback

import results
from hcl.resolve import to_yaml
from orchestration.fitting import fit
from orchestration.runs import Run
from orchestration.study import Study
from orchestration.worker import run_epochs
from results.files import write_atomically

OBJECTIVE = "objective"
"""What schedulers and the sampler see: the best value of the space's metric so far in the trial."""


def trainable(study: Study) -> Any:
    """What Ray Tune calls with a trial's configuration, and the resources that it takes."""
    settings = study.experiment.train
    if settings.workers == 1:
        resources: dict[str, float] = {"cpu": 1, "gpu": 1} if settings.use_gpu else {"cpu": 1}
        return tune.with_resources(functools.partial(_train_here, study=study), resources)
    # A driver that took a CPU could leave its own workers without one. Clusters may declare a resource for it.
    resources = {"trial_driver": 1.0} if ray.cluster_resources().get("trial_driver") else {"cpu": 0.01}
    return tune.with_resources(functools.partial(_train_by_workers, study=study), resources)


def _train_here(config: dict[str, Any], study: Study) -> None:
    """A trial of one worker, in this process."""
    run, report = _open_trial(study, config)
    device = torch.device("cuda" if study.experiment.train.use_gpu else "cpu")
    torch.set_num_threads(1)
    run_epochs(run, device=device, wrap=lambda model: model.to(device), on_epoch=lambda row: tune.report(report(row)))


def _train_by_workers(config: dict[str, Any], study: Study) -> None:
    """The driver of a trial of several workers; rank 0's metrics go to Tune as they come."""
    run, report = _open_trial(study, config)
    fit(run, callbacks=[TuneReportCallback()], report=report)


def _open_trial(study: Study, config: dict[str, Any]) -> tuple[Run, _Reporter]:
    """A trial's run, new or gone on with. Tune is told of what was trained when it, but not the trial, was killed."""
    run = study.trial_run(tune.get_context().get_trial_id(), config)
    write_atomically(run.folder / "experiment.yaml", to_yaml(run.experiment).encode())
    report, done = _Reporter(study, run.folder), run.epochs_done()
    known = [report(row) for row in (results.read_epochs(run.folder) if done else []) if row["epoch"] <= done]
    if known:
        tune.report(known[-1])
    return run, report


class _Reporter:
    """Adds the objective to an epoch's metrics: the best value so far, which a restarted process reads again."""

    def __init__(self, study: Study, folder: Path):
        self.metric, self.pick = study.space.objective.metric, max if study.space.objective.mode == "max" else min
        self.folder = folder

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        earlier = results.read_epochs(self.folder) if (self.folder / "metrics.parquet").exists() else []
        values = [float(one[self.metric]) for one in earlier if one["epoch"] < row["epoch"]]
        return {**row, OBJECTIVE: self.pick([*values, float(row[self.metric])])}


LISTENERS: dict[Path, Callable[[results.TrialRecord], None]] = {}
"""Who hears of a study's trials, by its folder: Tune pickles its callbacks, which a terminal does not survive."""


class Watcher(Callback):
    """Tells of each trial as it ends, in the driver."""

    def __init__(self, study: Study):
        self.study = study

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._tell(trial, None)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._tell(trial, _in_short(trial.get_error()))

    def _tell(self, trial: Any, error: str | None) -> None:
        if listener := LISTENERS.get(self.study.folder):
            metrics = trial.last_result or {}
            listener(_trial_record(self.study, trial.trial_id, trial.config, metrics, error))


def record_of(study: Study, trial: Any) -> results.TrialRecord:
    """The record of one of Tune's trials."""
    error = _in_short(trial.get_error()) if trial.status == "ERROR" else None
    return _trial_record(study, trial.trial_id, trial.config or {}, trial.last_result or {}, error)


def _in_short(error: Exception | None) -> str:
    """What went wrong in one line: neither traceback nor remedy. Tune keeps the text of an error only."""
    lines = [line.strip() for line in str(error or "").splitlines() if line.strip()]
    ours = [line.partition(": ")[2] for line in lines if line.startswith("hcl.errors.")]
    return (ours or lines or ["failed"])[-1]


def _trial_record(
    study: Study, trial_id: str, config: dict[str, Any], metrics: dict[str, Any], error: str | None
) -> results.TrialRecord:
    epochs = int(metrics.get("epoch", 0))
    value = metrics.get(OBJECTIVE)
    state: Literal["complete", "pruned", "failed"]
    state = "failed" if error else "complete" if epochs >= study.experiment.train.epochs else "pruned"
    return results.TrialRecord(
        trial=trial_id,
        params=study.space.overrides(config) if config else {},
        value=float(value) if value is not None and math.isfinite(value) else None,
        state=state,
        epochs=epochs,
        seconds=metrics.get("time_total_s"),
        error=error,
    )
