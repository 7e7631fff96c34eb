"""Run a study with Ray Tune and Optuna; every trial is a training run: `hcl sweep`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import results
from hcl.assembly.experiment_files import write_experiment
from hcl.config import Experiment
from hcl.config.resolve import override
from hcl.errors import ConfigError, HCLError
from orchestration.runtime.connect import connect
from orchestration.runtime.notices import telling_notices
from orchestration.storage.clearing import OF_STUDY, clear
from orchestration.storage.data_roots import remember_data
from orchestration.storage.locks import held, lock_of
from orchestration.storage.record_files import write_provenance
from orchestration.sweeps.checks import check_study
from orchestration.sweeps.concurrency import choose_lag
from orchestration.sweeps.ledger import Ledger
from orchestration.sweeps.ray_tune import run_trials
from orchestration.sweeps.records import Records, best_experiment, best_trial
from orchestration.sweeps.storage.database import without_password
from orchestration.sweeps.storage.optuna_storage import check_storage
from orchestration.sweeps.storage.ownership import check_owner, claimed, forget, take_possession
from orchestration.sweeps.study import Study, open_folder
from orchestration.sweeps.trial_grids import grid_jobs, variations_of_grids
from orchestration.training.grids import ensure_grids
from orchestration.training.run import gpus_here
from orchestration.training.run_files import HUNG_LOG
from orchestration.training.train import STUDY
from search_spaces import Space

BEST = "best.yaml"


def sweep(
    study: Study,
    *,
    address: str | None = None,
    restart: bool = False,
    add_trials: int = 0,
    retry_failed: bool = False,
    warm_start: Path | None = None,
    command: str = "",
    on_trial: Callable[[results.TrialRecord], None] | None = None,
    on_change: Callable[[list[results.TrialRecord]], None] | None = None,
    train: Any = None,
) -> tuple[results.SweepRecord, list[results.TrialRecord]]:
    """Run or resume the study in `runs/<experiment.name>`, and write sweep.json, trials.parquet and best.yaml.

    Args:
        add_trials: number of trials to add, once all earlier ones are done; a killed call may be repeated.
        retry_failed: run failed trials again, with their values, from their checkpoints.
        warm_start: the folder of an earlier study, whose complete trials inform the sampler of a new study.
        on_trial, on_change: see `orchestration.sweeps.records.Records`.
        train: see `orchestration.sweeps.trial.trainable`.

    Raises:
        ConfigError, SpaceError: if the space does not fit the experiment; nothing has been started.
        StorageError: if another command runs this study.
        HCLError: if every trial failed.
        KeyboardInterrupt: on Ctrl-C; finished trials are kept.
    """
    check_study(study)
    if study.storage or not restart:
        check_storage(study.folder, study.storage)
    if study.storage:
        for spelling in (study.storage, study.storage.replace("'", "'\"'\"'")):  # quotes as a shell takes them
            command = command.replace(spelling, without_password(study.storage) or "")
    with held(lock_of(study.folder), what=f"study {study.experiment.name}"), claimed(study):
        if restart:
            _forget(study)
        check_owner(study)
        is_new = not (study.folder / STUDY).exists()
        study = open_folder(study)
        take_possession(study)
        remember_data(study.folder, study.data.path)
        ledger = study.ledger()
        if add_trials and study.is_population:
            raise ConfigError("a population does not grow", where="--add-trials", remedy="start another study")
        if add_trials and not is_new and ledger.is_done():
            study = open_folder(replace(study, n_trials=ledger.n_trials + add_trials))
            ledger = study.ledger()
        if retry_failed:
            _retry_failed(study, ledger)
        if warm_start is not None and not ledger.trials():
            ledger.learn(_earlier_trials(warm_start, study.space))
        listeners: dict[str, Any] = {"command": command, "on_trial": on_trial, "on_change": on_change}
        records = Records(study, ledger, **listeners)
        if not ledger.is_done():
            provenance = _provenance(study, command)
            with telling_notices(study.runs), connect(address):
                if (started := choose_lag(study)) != study:
                    study, ledger = started, started.ledger()
                    records = Records(study, ledger, **listeners)
                ensure_grids(grid_jobs(study, variations_of_grids(study)), study.runs)
                try:
                    run_trials(study, ledger, records.on_event, train)
                except BaseException:
                    with suppress(HCLError, results.RecordError):  # a full disk has no room for these files either
                        records.write()
                    raise
                records.write()
            if not ledger.is_done():
                raise KeyboardInterrupt
            write_provenance(study.folder, results.finished(provenance))
        record, trials = records.write(at_end=True)
        if best_trial(study, trials) is None:
            raise _all_failed(study, trials)
        write_best(study, best_experiment(study, trials))
        return record, trials


def _retry_failed(study: Study, ledger: Ledger) -> None:
    if study.is_population:
        raise ConfigError(
            "the member of a failed round has continued from another member's checkpoint since",
            where="--retry-failed",
            remedy="start another study",
        )
    for name in ledger.failed():
        (study.trial_folder(name) / HUNG_LOG).unlink(missing_ok=True)  # else its time would count as over already
    ledger.retry_failed()


def full_length(
    study: Study,
    trials: Sequence[results.TrialRecord],
    winner: str | None,
    epochs: int | None,
    fusion: Mapping[str, Any],
) -> Experiment:
    """Return the winner's settings as a run of its own, with a fusion, and with the given epochs or a trial's."""
    best = best_experiment(study, [trial for trial in trials if trial.trial == winner])
    return override(best, {**fusion, **({"train.epochs": epochs} if epochs else {})})


def write_best(study: Study, best: Experiment) -> Path:
    """Write the experiment file for `hcl train`."""
    return write_experiment(study.folder / BEST, best)


def _forget(study: Study) -> None:
    """Remove this folder's study from a shared storage, then from the folder."""
    check_owner(study, may_be_lost=True)
    forget(study)
    clear(study.folder, OF_STUDY)


def _provenance(study: Study, command: str) -> results.Provenance:
    """Return the provenance of the study's first call, which is collected and written if there is none."""
    with suppress(results.RecordError):
        return results.read_provenance(study.folder)
    provenance = results.collect_provenance(
        command, seeds={"sampler": study.seed}, digests={"experiment": study.experiment.digest()}, hardware=gpus_here()
    )
    write_provenance(study.folder, provenance)
    return provenance


def _earlier_trials(folder: Path, space: Space) -> list[tuple[dict[str, Any], list[float]]]:
    """Return values and objectives of another study's complete trials that lie in this space.

    Raises ConfigError if there are none.
    """
    where = str(folder)
    try:
        record, trials = results.read_sweep(folder), results.read_trials(folder)
    except results.RecordError as error:
        raise ConfigError(error.problem, where=where, remedy="give the folder of a study to --warm-start") from error
    theirs = Space.model_validate(record.space)
    if theirs.objectives != space.objectives:
        raise ConfigError(
            f"has the objectives {', '.join(objective.metric for objective in theirs.objectives)}, this study has "
            f"{', '.join(objective.metric for objective in space.objectives)}",
            where=where,
            remedy="use a study of the same objectives",
        )
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    in_space = [
        (trial.params, list(trial.values.values()) or [float(trial.value or 0)])
        for trial in complete
        if space.could_draw(trial.params)
    ]
    if not in_space:
        raise ConfigError(
            f"none of its {len(complete)} complete trials lies in space {space.name}",
            where=where,
            remedy="use a study of the same parameters",
        )
    return in_space


def _all_failed(study: Study, trials: Sequence[results.TrialRecord]) -> HCLError:
    errors = [trial.error for trial in trials if trial.error]
    return HCLError(
        f"all {len(trials)} trials failed: {errors[0] if errors else 'no error was recorded'}",
        where=str(study.folder),
        remedy="run the experiment alone first: hcl train",
    )
