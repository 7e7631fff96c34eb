"""Run a trial in the process that Ray Tune has given it.

A trial of one worker trains inside a reused Tune actor. A trial of several workers is a driver function around Ray
Train, which takes almost no resources of its own.
"""

from __future__ import annotations

import faulthandler
import functools
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

import results
from hcl.assembly.experiment_files import load_resolved, write_experiment
from hcl.errors import CheckpointError, HCLError, StorageError
from hcl.files.atomic import discard_folder, write_atomically
from hcl.frames.stored_dataset import DataRoot
from orchestration.runtime.notices import keep_notices
from orchestration.runtime.ray_gaps import train_gives_back_its_workers, work_in
from orchestration.runtime.roles import mark
from orchestration.storage.places import SAME_RUNS, check_seen
from orchestration.sweeps.faults import as_words, fault_of
from orchestration.sweeps.study import Study
from orchestration.sweeps.trial_source import Given
from orchestration.training.ray_train import fit
from orchestration.training.resumption import fusion_of, inherit
from orchestration.training.run import Run
from orchestration.training.run_files import ERROR_LOG, FUSION, HUNG_LOG, METRICS
from orchestration.training.train import STUDY
from orchestration.training.worker import run_epochs
from search_spaces.space import Objective

OBJECTIVE, VALUES, BEST_EPOCH, LAST_VALUE, FUSED_BY, AS_TRAINED, HISTORY, FAILURE, FAULT, TRIAL_SECONDS = (
    "objective", "objectives", "best_epoch", "last_value", "fused_by", "as_trained", "history", "failure", "fault",
    "trial_seconds",
)  # fmt: skip
"""Keys that a trial reports besides an epoch's metrics: the first objective at its best epoch so far, all objectives at
that epoch, and the epoch; the first objective after this epoch; if validation tried weights of the levels, the best
epoch's weights and its accuracy without them; all of these for each epoch up to this one, so that the reports that a
kill has swallowed are made up for; the trial's own failure; a fault of the machine (`orchestration.sweeps.faults`); and
its running time in seconds."""

_LOG = logging.getLogger(__name__)
Train = Callable[[Run, Callable[[dict[str, Any]], dict[str, Any]]], None]


def trainable(study: Study, train: Train | None = None) -> Any:
    """Return the function that Ray Tune calls with a trial's configuration, with the resources that it takes.

    Args:
        train: called for a trial of one worker with its run and a function that makes a report of an epoch's metrics.
            Default: train the model.
    """
    settings = study.experiment.train
    if settings.workers == 1:
        gpu = {"gpu": study.limits.gpu_share} if settings.use_gpu else {}
        resources = {"cpu": float(settings.cpus_per_worker), **gpu, **mark("train")}
        train = train or _train_here
    else:
        # A driver that took a CPU could leave its own workers without one. Clusters may declare a resource for drivers.
        resources = {"trial_driver": 1.0} if ray.cluster_resources().get("trial_driver") else {"cpu": 0.01}
        train = train or _train_by_workers
    return tune.with_resources(functools.partial(_run_process, study=study, train=train, folder=Path.cwd()), resources)


def _run_process(config: dict[str, Any], study: Study, train: Train, folder: Path) -> None:
    """Run a trial in a process of Ray Tune, with the command's working directory for relative paths."""
    work_in(folder)
    study = replace(study, data=DataRoot(study.data.path))  # a process runs many trials: each opens the data itself
    _run_trial(config, study, train)


def _run_trial(config: dict[str, Any], study: Study, train: Train) -> None:
    """Run a trial from its last checkpoint to its end.

    Faults of the machine, and errors that would only repeat, are reported to Tune; all others are raised.
    """
    given = Given(**config["given"])
    folder = study.trial_folder(given.name)
    try:
        check_seen(study.folder, by=study.folder / STUDY, remedy=SAME_RUNS)
        check_seen(study.data.path, remedy="mount the data folder under the same path on every node")
        folder.mkdir(parents=True, exist_ok=True)
        with _time_limit(folder / HUNG_LOG, study.limits.time_s):
            _resume(given, study, train)
    except Exception as error:
        if fault := fault_of(error, folder) or _write_down(folder):
            tune.report({FAULT: as_words(fault)})
        elif isinstance(error, HCLError):
            tune.report({FAILURE: error.problem})
        else:
            raise


def _resume(given: Given, study: Study, train: Train) -> None:
    """Train the remaining epochs of a trial, in its folder."""
    folder = study.trial_folder(given.name)
    keep_notices(study.runs)
    run, settings = study.trial_run(given), folder / "experiment.yaml"
    if settings.exists() and load_resolved(settings).digest() != run.experiment.digest():
        discard_folder(folder)  # left by a trial of this name in a study whose ledger is gone
        folder.mkdir()
    _start(run, None if given.parent is None else study.trial_folder(given.parent))
    write_experiment(settings, run.experiment)
    report = _Reporter(study.space.objectives, folder)
    if (n_done := run.epochs_done()) and (last_report := report.last(n_done)):
        tune.report(last_report)  # report the epochs that were trained before
    with train_gives_back_its_workers() if study.experiment.train.workers > 1 else nullcontext():
        train(run, report)


def _start(run: Run, parent: Path | None) -> None:
    """Start a trial's folder with its parent's checkpoint, and start the trial over if its own cannot be read any more.

    Nobody can pass --restart to a single trial of a study, and a repeated training has the same result.
    """
    if parent is not None:
        inherit(parent, run.folder)
    try:
        run.epochs_done()
    except CheckpointError as error:
        _LOG.warning("%s: %s; the trial starts over", error.where, error.problem)
        discard_folder(run.folder / "checkpoints")
        for name in (METRICS, FUSION):
            (run.folder / name).unlink(missing_ok=True)
        if parent is not None:
            inherit(parent, run.folder)


def _write_down(folder: Path) -> HCLError | None:
    """Keep the traceback of the current exception, and return a fault if the disk has no room for it.

    Tune does not always know the exception of a process that it reuses.
    """
    try:
        write_atomically(folder / ERROR_LOG, traceback.format_exc().encode("utf-8", "backslashreplace"))
    except StorageError as error:
        return error
    return None


def _train_here(run: Run, report: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Train in this process."""
    settings = run.experiment.train
    device = torch.device("cuda" if settings.use_gpu else "cpu")
    torch.set_num_threads(settings.cpus_per_worker)
    run_epochs(run, device=device, wrap=lambda model: model.to(device), on_epoch=lambda row: tune.report(report(row)))


def _train_by_workers(run: Run, report: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Train by Ray Train; rank 0's metrics go to Tune as they arrive."""
    fit(run, callbacks=[TuneReportCallback()], report=report)


class _Reporter:
    """Add the objectives to an epoch's metrics, computed from the files so that a restarted process can do the same."""

    def __init__(self, objectives: tuple[Objective, ...], folder: Path):
        self.objectives, self.folder, self.began = objectives, folder, time.perf_counter()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        missing = [objective.metric for objective in self.objectives if row.get(objective.metric) is None]
        if missing:
            raise HCLError(
                f"a trial does not report {missing[0]}, but reports {', '.join(sorted(row))}",
                where="objective",
                remedy="choose a metric of this regime",
            )
        rows = [epoch for epoch in results.read_epochs(self.folder) if epoch["epoch"] <= row["epoch"]]
        history = self._history(rows)
        return {**row, **history[-1], HISTORY: history, TRIAL_SECONDS: time.perf_counter() - self.began}

    def _history(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return for each epoch what the trial's value is up to it."""
        first, history, best = self.objectives[0], [], rows[0]
        sign = 1 if first.mode == "max" else -1
        for row in rows:
            best = row if sign * row[first.metric] > sign * best[first.metric] else best
            values = [float(best[objective.metric]) for objective in self.objectives]
            entry = {"epoch": row["epoch"], OBJECTIVE: values[0], VALUES: values, BEST_EPOCH: best["epoch"]}
            entry[LAST_VALUE] = row[first.metric]
            if fusion := fusion_of(best):
                entry |= {FUSED_BY: fusion, AS_TRAINED: best["val_accuracy"]}
            history.append(entry)
        return history

    def last(self, epoch: int) -> dict[str, Any] | None:
        """Return the report of an epoch that was done before; None if its metrics are gone."""
        rows = [row for row in results.read_epochs(self.folder) if row["epoch"] == epoch]
        return self(rows[0]) if rows else None


def ran_too_long(folder: Path) -> bool:
    """Return whether a trial's process was killed because its time was over."""
    log = folder / HUNG_LOG
    return log.exists() and log.stat().st_size > 0


@contextmanager
def _time_limit(log: Path, seconds: float | None) -> Iterator[None]:
    """End this process when the time is over, even if it hangs outside of Python; `log` then shows where.

    Raises HCLError if an earlier process was ended this way.
    """
    if seconds is None:
        yield
        return
    if ran_too_long(log.parent):
        raise HCLError(f"ran for longer than {seconds:g} s", where=str(log), remedy="raise --trial-timeout")
    with log.open("w") as file:
        faulthandler.dump_traceback_later(seconds, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            log.unlink(missing_ok=True)  # the file must stay only if this process was ended
