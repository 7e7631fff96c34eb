"""`hcl sweep`: a study by Ray Tune with Optuna; every trial is a training run of its own.

A trial of one worker trains inside a reused Tune actor. A trial of several is a driver, which takes next to no
resources of its own, around Ray Train.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
import ray
import torch
import yaml
from optuna.samplers import TPESampler
from ray import tune
from ray.tune import Callback
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search.optuna import OptunaSearch

import results
from hcl.config import Experiment
from hcl.errors import ClusterError, ConfigError, HCLError, StorageError
from hcl.resolve import override, setting_of, to_yaml
from orchestration.grids import ensure_grids
from orchestration.runtime import connect
from orchestration.train import STUDY, check_data, check_draws, fit
from orchestration.worker import METRICS, Run, run_epochs
from search_spaces import DefineByRun, Space

OBJECTIVE = "objective"
"""What schedulers and the sampler see: the best value of the space's metric so far in the trial."""

_STUDY = "study"  # Ray Tune's own state, for going on
_BEST = "best.yaml"


@dataclass(frozen=True)
class Study:
    """A search: what varies, around which experiment, and how long."""

    experiment: Experiment
    space: Space
    data_root: Path
    runs: Path
    n_trials: int
    seed: int = 0
    stop_early: bool = True

    @property
    def folder(self) -> Path:
        return self.runs / self.experiment.name

    def trial_run(self, trial_id: str, config: dict[str, Any]) -> Run:
        """The run of one trial; raises ConfigError where its values contradict each other."""
        experiment = override(self.experiment, self.space.overrides(config))
        return Run(experiment, self.data_root, self.runs, self.folder / "trials" / trial_id)


def sweep(
    study: Study,
    *,
    address: str | None = None,
    restart: bool = False,
    command: str = "",
    on_trial: Callable[[results.TrialRecord], None] | None = None,
) -> tuple[results.SweepRecord, list[results.TrialRecord]]:
    """Run, or go on with, the study in `runs/<experiment.name>`; writes sweep.json, trials.parquet and best.yaml.

    Args:
        on_trial: called with each trial as it ends.

    Raises:
        ConfigError, SpaceError: the space does not fit the experiment; nothing has been started then.
        HCLError: every trial failed.
    """
    check_study(study)
    if restart:
        shutil.rmtree(study.folder, ignore_errors=True)
    _open_folder(study)
    began = time.monotonic()
    with connect(address):
        ensure_grids(Run(study.experiment, study.data_root, study.runs, study.folder).grid_jobs(), study.runs)
        trials = _run(study, on_trial)
    best = _best(study, trials)
    if best is None:
        errors = [trial.error for trial in trials if trial.error]
        raise HCLError(
            f"all {len(trials)} trials failed: {errors[0] if errors else 'no error was recorded'}",
            where=str(study.folder),
            remedy="run the experiment alone first: hcl train",
        )
    record = results.SweepRecord(
        name=study.experiment.name,
        space=study.space.model_dump(mode="json"),
        objective=study.space.objective.metric,
        mode=study.space.objective.mode,
        best_trial=best.trial,
        best_value=best.value,
        n_trials=len(trials),
        seconds=time.monotonic() - began,
        seed=study.seed,
        experiment_digest=study.experiment.digest(),
        command=command,
        created=results.now(),
    )
    results.write_sweep(study.folder, record, trials)
    partial = study.folder / f".{_BEST}.partial"
    partial.write_text(to_yaml(best_experiment(study, trials)))
    os.replace(partial, study.folder / _BEST)
    return record, trials


def check_study(study: Study) -> None:
    """Raise for what can be known to fail without starting anything: the space, the data, the folder."""
    check_space(study)
    run = Run(study.experiment, study.data_root, study.runs, study.folder)
    check_data(run)
    partitions = run.partitions()
    for probe in study.space.probes():
        if not _DRAWN_WITH.isdisjoint(probe):
            check_draws(override(study.experiment, probe), *partitions)
    if (study.folder / "experiment.yaml").exists() and not (study.folder / STUDY).exists():
        raise ConfigError(
            "holds a run, not a study", where=str(study.folder), remedy="give the study another name (--set name=...)"
        )


def check_space(study: Study) -> None:
    """Hold every path and bound of the space against the experiment's schema."""
    study.space.validate_paths(_require)
    metric = study.space.objective.metric
    if metric not in METRICS:
        raise ConfigError(
            f"trials do not report {metric!r}",
            where=f"space {study.space.name}, objective.metric",
            remedy=f"name one of {', '.join(METRICS)}",
        )
    for probe in study.space.probes():
        override(study.experiment, probe)
    for path in study.space.searched:
        is_cached = path.startswith("clips.") or path in _CACHED_WITH
        if is_cached and not study.experiment.model.train_backbone:
            raise ConfigError(
                "cannot be searched with a frozen backbone, whose grids are encoded once for all trials",
                where=f"space {study.space.name}, {path}",
                remedy="leave it out of the space, or set model.train_backbone=true",
            )


def _require(path: str) -> None:
    setting_of(path)


def best_experiment(study: Study, trials: Sequence[results.TrialRecord]) -> Experiment:
    """The study's experiment with the best trial's values, under the name `<study>-best`."""
    best = _best(study, trials)
    assert best is not None
    return override(study.experiment, {**best.params, "name": f"{study.experiment.name}-best"})


_CACHED_WITH = frozenset(("model.backbone", "model.weights", "model.cached_views", "seed", "data.dataset"))
_DRAWN_WITH = frozenset(("train.classes_per_batch", "train.val_shot", "evaluation.way", "evaluation.queries"))


def _run(study: Study, on_trial: Callable[[results.TrialRecord], None] | None) -> list[results.TrialRecord]:
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial that fails is told by our own line
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    state = study.folder / _STUDY
    trainable = _trainable(study)
    if tune.Tuner.can_restore(str(state)):
        tuner = tune.Tuner.restore(str(state), trainable, resume_errored=False)
    else:
        tuner = _new_tuner(study, trainable)
    if on_trial is not None:
        _listeners[study.folder] = on_trial
    try:
        grid = tuner.fit()
    except HCLError:
        raise
    except Exception as error:
        raise ClusterError(
            f"the study stopped: {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}",
            where=str(study.folder),
            remedy="repeat the command to go on",
        ) from error
    finally:
        _listeners.pop(study.folder, None)
    # The grid's results are in no order, and after going on those of failed trials have lost their configuration.
    trials = sorted(grid._experiment_analysis.trials, key=lambda trial: int(trial.experiment_tag.split("_")[0]))
    return [_record(study, trial) for trial in trials]


def _new_tuner(study: Study, trainable: Any) -> tune.Tuner:
    epochs = study.experiment.train.epochs
    search = OptunaSearch(
        DefineByRun(study.space),
        metric=OBJECTIVE,
        mode=study.space.objective.mode,
        points_to_evaluate=study.space.encoded_first_points(),
        sampler=TPESampler(seed=study.seed, multivariate=True, n_startup_trials=min(10, max(4, study.n_trials // 3))),
        storage=None,  # in memory: saved with Tune's own state, where a file would run ahead of it when killed
        study_name=study.experiment.name,
    )
    scheduler = (
        ASHAScheduler(time_attr="epoch", max_t=epochs, grace_period=max(1, epochs // 3), reduction_factor=3)
        if study.stop_early and epochs > 1
        else FIFOScheduler()
    )
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric=OBJECTIVE,
            mode=study.space.objective.mode,
            search_alg=search,
            scheduler=scheduler,
            num_samples=study.n_trials,
            max_concurrent_trials=_concurrency(study),
            reuse_actors=study.experiment.train.workers == 1,
        ),
        run_config=tune.RunConfig(
            name=_STUDY,
            storage_path=str(study.folder),
            verbose=0,
            callbacks=[_Watcher(study)],
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    )


def _trainable(study: Study) -> Any:
    settings = study.experiment.train
    if settings.workers == 1:
        resources: dict[str, float] = {"cpu": 1, "gpu": 1} if settings.use_gpu else {"cpu": 1}
        return tune.with_resources(functools.partial(_train_here, study=study), resources)
    return tune.with_resources(functools.partial(_train_by_workers, study=study), {"trial_driver": 1})


def _concurrency(study: Study) -> int:
    """How many trials find room on the cluster at once; one more would wait for ever for its workers."""
    settings = study.experiment.train
    total = ray.cluster_resources().get("GPU" if settings.use_gpu else "CPU", 0)
    room = int(total // settings.workers)
    if room < 1:
        raise ClusterError(
            f"a trial needs {settings.workers} {'GPUs' if settings.use_gpu else 'CPUs'}, the cluster has {total:g}",
            where="train.workers",
            remedy="lower train.workers, or add nodes",
        )
    return room


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
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "experiment.yaml").write_text(to_yaml(run.experiment))
    report, done = _Reporter(study), run.epochs_done()
    known = [report(row) for row in (results.read_epochs(run.folder) if done else []) if row["epoch"] <= done]
    if known:
        tune.report(known[-1])
    return run, report


class _Reporter:
    """Adds the objective to an epoch's metrics: the best value so far."""

    def __init__(self, study: Study):
        self.metric, self.pick = study.space.objective.metric, max if study.space.objective.mode == "max" else min
        self.best: float | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        value = float(row[self.metric])
        self.best = value if self.best is None else self.pick(self.best, value)
        return {**row, OBJECTIVE: self.best}


_listeners: dict[Path, Callable[[results.TrialRecord], None]] = {}
"""Who hears of a study's trials, by its folder: Tune pickles its callbacks, which a terminal does not survive."""


class _Watcher(Callback):
    """Tells of each trial as it ends, in the driver."""

    def __init__(self, study: Study):
        self.study = study

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._tell(trial, None)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._tell(trial, _in_short(trial.get_error()))

    def _tell(self, trial: Any, error: str | None) -> None:
        if listener := _listeners.get(self.study.folder):
            metrics = trial.last_result or {}
            listener(_trial_record(self.study, trial.trial_id, trial.config, metrics, error))


def _record(study: Study, trial: Any) -> results.TrialRecord:
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


def _best(study: Study, trials: Sequence[results.TrialRecord]) -> results.TrialRecord | None:
    pick = max if study.space.objective.mode == "max" else min
    scored = [(trial.value, trial) for trial in trials if trial.value is not None and trial.state != "failed"]
    return pick(scored, key=lambda one: one[0])[1] if scored else None


def _open_folder(study: Study) -> None:
    content = {
        "experiment": study.experiment.digest(),
        "space": study.space.model_dump(mode="json"),
        "seed": study.seed,
        "n_trials": study.n_trials,
    }
    path = study.folder / STUDY
    if path.exists() and yaml.safe_load(path.read_text()) != content:
        raise ConfigError(
            "holds a study of another experiment, space, seed or number of trials",
            where=str(study.folder),
            remedy="give this one another name (--set name=...), or begin anew with --restart",
        )
    try:
        study.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        (study.folder / "experiment.yaml").write_text(to_yaml(study.experiment))
    except OSError as error:
        raise StorageError(
            f"cannot be written: {error.strerror}", where=str(study.folder), remedy="give --runs a folder of yours"
        ) from error
