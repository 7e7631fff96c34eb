"""Run a ledger's trials with Ray Tune, which asks for a trial when there is room and reports each end.

Tune's own state is never used again. Its files go into a scratch folder, which is removed afterwards.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from dataclasses import asdict
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from hcl.errors import ClusterError, HCLError
from orchestration.runtime.ray_gaps import ctrl_c_as_before, out_of_memory_ends_one_trial
from orchestration.storage.places import storage_error
from orchestration.sweeps.concurrency import Room
from orchestration.sweeps.faults import Halt
from orchestration.sweeps.recorder import OnEvent, Recorder, Unpickled, last_line, name_of
from orchestration.sweeps.study import Study
from orchestration.sweeps.trial import HISTORY, OBJECTIVE, trainable
from orchestration.sweeps.trial_source import Source

_SCRATCH = ".tune"


def run_trials(study: Study, ledger: Source, on_event: OnEvent = lambda name, event: None, train: Any = None) -> None:
    """Run the trials that the ledger gives out until it has none left, or until Ctrl-C.

    Args:
        train: see `orchestration.sweeps.trial.trainable`.
    Raises:
        ClusterError: if not even one trial fits, or Ray Tune stopped.
        HCLError: on a fault that no trial has caused, see `orchestration.sweeps.faults`; its trials will run again.
    """
    room, halt = Room(study), Halt(study.folder)
    room.tell_limit(ledger.most_at_once)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # our own line reports a failed trial
    scratch = study.folder / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # a trial's folder has its metrics already
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = str(10**6)
    try:
        tuner = tune.Tuner(
            trainable(study, train),
            tune_config=tune.TuneConfig(
                search_alg=_Search(ledger, room, halt),
                scheduler=_EarlyStopping(ledger, halt),
                num_samples=-1,
                reuse_actors=study.experiment.train.workers == 1,
                trial_name_creator=name_of,
                trial_dirname_creator=name_of,
            ),
            run_config=tune.RunConfig(
                name=str(time.time_ns()),
                storage_path=str(scratch),
                verbose=0,
                callbacks=[Recorder(study, ledger, room, on_event, halt)],
                failure_config=tune.FailureConfig(max_failures=study.limits.retries),
            ),
        )
        with out_of_memory_ends_one_trial(), ctrl_c_as_before():
            tuner.fit()
        halt.check()
    except HCLError:
        raise
    except Exception as error:
        if halt.fault is not None:
            raise halt.fault from error
        if fault := storage_error(error, study.folder):
            raise fault from error
        raise ClusterError(
            f"the study stopped: {last_line(str(error) or type(error).__name__)}",
            where=str(study.folder),
            remedy="repeat the command to resume",
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Search(Unpickled, Searcher):
    """Give the ledger's trials to Tune, no more at once than fit on the cluster at that time."""

    def __init__(self, ledger: Source, room: Room, halt: Halt):
        super().__init__()  # without a metric: a report of a failure has none, and Tune would stop the study there
        self._ledger, self._room, self._halt = ledger, room, halt

    def suggest(self, trial_id: str) -> Any:
        trial_config = None
        if self._halt.fault is None:
            with self._halt.noted():
                trial_config = self._next_config()
        return trial_config

    def _next_config(self) -> Any:
        if self._ledger.n_running >= self._room.now() or not self._ledger.may_ask():
            return None
        given = self._ledger.ask()
        return Searcher.FINISHED if given is None else {"trial": given.name, "given": asdict(given)}

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Do nothing, because the recorder gets the same call with more information."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing, because the ledger holds all state."""

    def get_state(self) -> dict:
        return {}


class _EarlyStopping(Unpickled, FIFOScheduler):
    """Note each epoch in the ledger, and stop a trial if the ledger says so, which frees its workers."""

    def __init__(self, ledger: Source, halt: Halt):
        super().__init__()
        self._ledger, self._halt = ledger, halt
        self._reported: dict[str, int] = {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        falls_behind = False
        if OBJECTIVE in result and self._halt.fault is None:
            with self._halt.noted():
                falls_behind = self._report(name_of(trial), result)
        return TrialScheduler.STOP if falls_behind else TrialScheduler.CONTINUE

    def _report(self, name: str, result: dict[str, Any]) -> bool:
        """Report this epoch, and before it those that the ledger has not heard of from this process."""
        epoch, reported, falls_behind = int(result["epoch"]), self._reported.get(name, 0), False
        for entry in result.get(HISTORY) or [result]:
            if reported < int(entry["epoch"]) < epoch:
                falls_behind |= self._ledger.report(name, int(entry["epoch"]), float(entry[OBJECTIVE]))
        self._reported[name] = epoch
        return falls_behind | self._ledger.report(name, epoch, float(result[OBJECTIVE]))
