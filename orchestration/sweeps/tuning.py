"""Ray Tune as the runner of a ledger's trials: it is asked for trials as there is room, and told of their ends.

Nothing of Tune's own state is used again. Its files go into a scratch folder, which is gone afterwards.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from hcl.errors import ClusterError, HCLError
from orchestration.machines import meters
from orchestration.machines.node_watch import n_alive
from orchestration.machines.ray_gaps import ctrl_c_as_before, out_of_memory_ends_one_trial
from orchestration.machines.storage import storage_error
from orchestration.runs import ERROR_LOG, HUNG_LOG
from orchestration.sweeps.room import Room
from orchestration.sweeps.source import BEST, EPOCHS, ERROR, FUSED, LAST, LOG, SECONDS, UNFUSED, Source
from orchestration.sweeps.study import Study
from orchestration.sweeps.trials import (
    AS_TRAINED,
    BEST_EPOCH,
    FAILURE,
    FUSED_BY,
    LAST_VALUE,
    OBJECTIVE,
    TRIAL_SECONDS,
    VALUES,
    ran_too_long,
    trainable,
)
from results.files import write_atomically

_SCRATCH = ".tune"


OnEvent = Callable[[str, str], None]
"""Called with a trial's name and what happened: started, reported, retried, ended."""


def run_trials(study: Study, ledger: Source, on_event: OnEvent = lambda name, event: None, train: Any = None) -> None:
    """Run what the ledger gives out until it has nothing left, or until Ctrl-C.

    Args:
        train: see `orchestration.sweeps.trials.trainable`.
    Raises:
        ClusterError: there is no room for a single trial, or Ray Tune stopped.
    """
    room = Room(study)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial that fails is told by our own line
    scratch = study.folder / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # a trial's folder has its metrics already
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = str(10**6)
    try:
        tuner = tune.Tuner(
            trainable(study, train),
            tune_config=tune.TuneConfig(
                search_alg=_Search(ledger, room),
                scheduler=_EarlyStopping(ledger),
                num_samples=-1,
                reuse_actors=study.experiment.train.workers == 1,
                trial_name_creator=_name_of,
                trial_dirname_creator=_name_of,
            ),
            run_config=tune.RunConfig(
                name=str(time.time_ns()),
                storage_path=str(scratch),
                verbose=0,
                callbacks=[_Recorder(study, ledger, room, on_event)],
                failure_config=tune.FailureConfig(max_failures=study.limits.retries),
            ),
        )
        with out_of_memory_ends_one_trial(), ctrl_c_as_before():
            tuner.fit()
    except HCLError:
        raise
    except Exception as error:
        if told := storage_error(error, study.folder):
            raise told from error
        raise ClusterError(
            f"the study stopped: {_last_line(str(error) or type(error).__name__)}",
            where=str(study.folder),
            remedy="repeat the command to go on",
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Unpickled:
    """Tune pickles what it is given, to go on from; here it never does."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Search(_Unpickled, Searcher):
    """Hands the ledger's trials to Tune, no more at once than find room; a node that joins or leaves changes that."""

    def __init__(self, ledger: Source, room: Room):
        super().__init__()  # of no metric: Tune would stop the study at a report of failure, which has none
        self._ledger, self._room = ledger, room

    def suggest(self, trial_id: str) -> Any:
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


class _EarlyStopping(_Unpickled, FIFOScheduler):
    """Notes each epoch in the ledger, and stops the trial, which frees its workers, where the ledger says so."""

    def __init__(self, ledger: Source):
        super().__init__()
        self._ledger = ledger

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if FAILURE in result or OBJECTIVE not in result:
            return TrialScheduler.CONTINUE
        falls_behind = self._ledger.report(_name_of(trial), int(result["epoch"]), float(result[OBJECTIVE]))
        return TrialScheduler.STOP if falls_behind else TrialScheduler.CONTINUE


class _Recorder(_Unpickled, Callback):
    """Writes each trial's end into the ledger, and tells of what happens."""

    def __init__(self, study: Study, ledger: Source, room: Room, on_event: OnEvent):
        self._study, self._ledger, self._room, self._on_event = study, ledger, room, on_event
        self._n_taken_back: Counter[str] = Counter()

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._room.now()  # Tune itself would wait for ever for nodes that have left

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._on_event(_name_of(trial), "started")

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self._on_event(_name_of(trial), "reported")

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._on_event(_name_of(trial), "retried")

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        result = trial.last_result or {}
        failure = result.get(FAILURE)
        if failure is None and VALUES not in result:
            failure = "ended without having reported an epoch"
        self._end(trial, failure)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if not n_alive():
            return  # no trial's fault: it is under way in the ledger, and goes on when the command is repeated
        name = _name_of(trial)
        if trial.should_recover() and self._n_taken_back[name] < 1 + self._study.limits.retries:
            # Tune gives up a trial whose reused process dies before it has begun, though it has tries left.
            self._n_taken_back[name] += 1
            self._ledger.take_back(name)
            self._on_event(name, "retried")
            return
        folder = self._study.trial_folder(_name_of(trial))
        log = folder / ERROR_LOG
        if (told := _told_by_tune(trial)) or not log.exists():
            write_atomically(log, (told or "failed").encode("utf-8", "backslashreplace"))
        text = log.read_text(errors="replace")
        limit = self._study.limits.time_s
        is_late = limit is not None and ran_too_long(folder)
        self._end(trial, f"ran for longer than {limit:g} s" if is_late else _last_line(text))

    def _end(self, trial: Trial, failure: str | None) -> None:
        name, result = _name_of(trial), trial.last_result or {}
        epochs = int(result.get("epoch", 0))
        notes = {EPOCHS: epochs, SECONDS: result.get(TRIAL_SECONDS), BEST: result.get(BEST_EPOCH)}
        notes |= {LAST: result.get(LAST_VALUE), FUSED: result.get(FUSED_BY), UNFUSED: result.get(AS_TRAINED)}
        if failure is not None:
            notes |= {ERROR: failure, LOG: str(self._log(name))}
        self._ledger.finish(
            name,
            None if failure else result[VALUES],
            is_whole=epochs >= (trial.config["given"]["until"] or self._study.experiment.train.epochs),
            notes=notes,
        )
        meters.trial_ended(self._study.experiment.name, "failed" if failure else "complete")
        self._on_event(name, "ended")

    def _log(self, name: str) -> Path:
        folder = self._study.trial_folder(name)
        return folder / (HUNG_LOG if ran_too_long(folder) else ERROR_LOG)


def _name_of(trial: Trial) -> str:
    return trial.config["trial"]


def _told_by_tune(trial: Trial) -> str:
    """What Tune has written down of the last failure; empty where there is nothing."""
    path = Path(trial.error_file) if trial.error_file else None  # what Tune reads itself lies where it is copied later
    return (
        path.read_text(errors="replace").split("\nFailure # ")[-1].partition("\n")[2] if path and path.exists() else ""
    )


def _last_line(text: str) -> str:
    """What went wrong in one line: neither traceback nor remedy."""
    if "low on memory" in text:
        return "its process was killed because the node ran out of memory: run fewer trials at once, or smaller ones"
    if text.startswith("The actor died"):
        return "its process or its node has died"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ours = [line.partition(": ")[2] for line in lines if line.startswith("hcl.errors.")]
    return (ours or lines or ["failed"])[-1]
