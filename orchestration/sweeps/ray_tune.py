"""Ray Tune as the runner of a ledger's trials: it is asked for trials as there is room, and told of their ends.

Nothing of Tune's own state is used again. Its files go into a scratch folder, which is gone afterwards.
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
from orchestration.sweeps.trial import OBJECTIVE, trainable
from orchestration.sweeps.trial_source import Source

_SCRATCH = ".tune"


def run_trials(study: Study, ledger: Source, on_event: OnEvent = lambda name, event: None, train: Any = None) -> None:
    """Run what the ledger gives out until it has nothing left, or until Ctrl-C.

    Args:
        train: see `orchestration.sweeps.trial.trainable`.
    Raises:
        ClusterError: there is no room for a single trial, or Ray Tune stopped.
        HCLError: a fault that is no trial's, see `orchestration.sweeps.faults`; what it stopped is still to be run.
    """
    room, halt = Room(study), Halt(study.folder)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial that fails is told by our own line
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
        if told := storage_error(error, study.folder):
            raise told from error
        raise ClusterError(
            f"the study stopped: {last_line(str(error) or type(error).__name__)}",
            where=str(study.folder),
            remedy="repeat the command to go on",
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Search(Unpickled, Searcher):
    """Hands the ledger's trials to Tune, no more at once than find room; a node that joins or leaves changes that."""

    def __init__(self, ledger: Source, room: Room, halt: Halt):
        super().__init__()  # of no metric: Tune would stop the study at a report of failure, which has none
        self._ledger, self._room, self._halt = ledger, room, halt

    def suggest(self, trial_id: str) -> Any:
        following = None
        if self._halt.fault is None:
            with self._halt.noted():
                following = self._following()
        return following

    def _following(self) -> Any:
        if self._ledger.n_running >= self._room.now() or not self._ledger.may_ask():
            return None
        given = self._ledger.ask()
        return Searcher.FINISHED if given is None else {"trial": given.name, "given": asdict(given)}

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """The recorder is told too, and of more."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing to save."""

    def get_state(self) -> dict:
        return {}


class _EarlyStopping(Unpickled, FIFOScheduler):
    """Notes each epoch in the ledger, and stops the trial, which frees its workers, where the ledger says so."""

    def __init__(self, ledger: Source, halt: Halt):
        super().__init__()
        self._ledger, self._halt = ledger, halt

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        falls_behind = False
        if OBJECTIVE in result and self._halt.fault is None:
            with self._halt.noted():
                falls_behind = self._ledger.report(name_of(trial), int(result["epoch"]), float(result[OBJECTIVE]))
        return TrialScheduler.STOP if falls_behind else TrialScheduler.CONTINUE
