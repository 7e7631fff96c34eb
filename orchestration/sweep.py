"""`hcl sweep`: a study by Ray Tune with Optuna; every trial is a training run of its own."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import optuna
import ray
from optuna.samplers import TPESampler
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search.optuna import OptunaSearch

import results
from hcl.errors import ClusterError, HCLError
from hcl.resolve import to_yaml
from orchestration.grids import ensure_grids
from orchestration.runs import Run
from orchestration.runtime import connect
from orchestration.study import Study, best_experiment, best_trial, check_study, open_folder
from orchestration.trials import LISTENERS, OBJECTIVE, Watcher, record_of, trainable
from results.files import write_atomically
from search_spaces import DefineByRun

_STUDY = "study"  # Ray Tune's own state, for going on
_BEST = "best.yaml"


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
    open_folder(study)
    began = time.monotonic()
    provenance = results.collect_provenance(
        command, seeds={"sampler": study.seed}, digests={"experiment": study.experiment.digest()}
    )
    results.write_provenance(study.folder, provenance)
    with connect(address):
        ensure_grids(Run(study.experiment, study.data_root, study.runs, study.folder).grid_jobs(), study.runs)
        trials = _run(study, on_trial)
    best = best_trial(study, trials)
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
        seconds=_seconds_before(study) + time.monotonic() - began,
        seed=study.seed,
        experiment_digest=study.experiment.digest(),
        command=command,
        created=results.now(),
    )
    results.write_sweep(study.folder, record, trials)
    results.write_provenance(study.folder, results.finished(provenance))
    write_atomically(study.folder / _BEST, to_yaml(best_experiment(study, trials)).encode())
    return record, trials


def _seconds_before(study: Study) -> float:
    """What the study has taken in earlier calls, as far as they came to their end."""
    with suppress(results.RecordError):
        return results.read_sweep(study.folder).seconds or 0.0
    return 0.0


def _run(study: Study, on_trial: Callable[[results.TrialRecord], None] | None) -> list[results.TrialRecord]:
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial that fails is told by our own line
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    state = study.folder / _STUDY
    function = trainable(study)
    if tune.Tuner.can_restore(str(state)):
        tuner = tune.Tuner.restore(str(state), function, resume_errored=False)
    else:
        tuner = _new_tuner(study, function)
    if on_trial is not None:
        LISTENERS[study.folder] = on_trial
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
        LISTENERS.pop(study.folder, None)
    # The grid's results are in no order, and after going on those of failed trials have lost their configuration.
    trials = sorted(grid._experiment_analysis.trials, key=lambda trial: int(trial.experiment_tag.split("_")[0]))
    return [record_of(study, trial) for trial in trials]


def _new_tuner(study: Study, function: Any) -> tune.Tuner:
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
        function,
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
            callbacks=[Watcher(study)],
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    )


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
