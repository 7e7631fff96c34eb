"""Record Ray Tune's reports: ends of trials in the ledger, and faults that end the study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from hcl.errors import ClusterError
from hcl.files.atomic import write_atomically
from orchestration.runtime import meters
from orchestration.runtime.node_watch import n_alive
from orchestration.storage.places import storage_error
from orchestration.sweeps.concurrency import Room
from orchestration.sweeps.deadlines import Deadlines
from orchestration.sweeps.faults import Halt, from_words
from orchestration.sweeps.study import Study
from orchestration.sweeps.trial import (
    AS_TRAINED,
    BEST_EPOCH,
    FAILURE,
    FAULT,
    FUSED_BY,
    HISTORY,
    LAST_VALUE,
    TRIAL_SECONDS,
    VALUES,
    ran_too_long,
)
from orchestration.sweeps.trial_source import BEST, EPOCHS, ERROR, FUSED, LAST, LOG, SECONDS, UNFUSED, Given, Source
from orchestration.training.run_files import ERROR_LOG, HUNG_LOG

_NODE_DIED, _NODE_DEATHS = "its node has died", 5
"""Ray's text for an actor that was lost with its node, and how often a trial may be lost that way."""

OnEvent = Callable[[str, str], None]
"""A function that is called with a trial's name and an event: started, reported, retried or ended."""


class Unpickled:
    """Give Tune nothing to pickle: it pickles its parts in order to resume, which never happens here."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Recorder(Unpickled, Callback):
    """Write each trial's end into the ledger, and report events."""

    def __init__(self, study: Study, ledger: Source, room: Room, on_event: OnEvent, halt: Halt):
        self._study, self._ledger, self._room, self._on_event = study, ledger, room, on_event
        self._halt = halt
        self._deadlines = Deadlines(study.limits.time_s, lambda trial: study.trial_folder(name_of(trial)))
        self._n_taken_back: Counter[str] = Counter()
        self._n_nodes_died: Counter[str] = Counter()

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        with self._halt.noted():
            self._room.now()  # raises if nodes stay away; Tune itself would wait for ever
            self._deadlines.hold(trials)
        self._halt.check()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._deadlines.begins(trial)
        self._tell(trial, "started")

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self._tell(trial, "reported")
        self._tell_ended()  # others may have waited for this report

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._deadlines.ends(trial)
        self._tell(trial, "retried")

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._deadlines.ends(trial)
        result = trial.last_result or {}
        if words := result.get(FAULT):
            self._halt.note(from_words(words))
        failure = result.get(FAILURE)
        if failure is None and VALUES not in result:
            failure = "ended without having reported an epoch"
        self._end(trial, failure)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._deadlines.ends(trial)
        if not n_alive():
            return  # no trial's fault: it stays running in the ledger, and the repeated command resumes it
        name, failure = name_of(trial), _failure_text(trial)
        if trial.should_recover() and self._n_taken_back[name] < 1 + self._study.limits.retries:
            # Tune gives up a trial whose reused process dies before training starts, though it has retries left.
            self._n_taken_back[name] += 1
            self._give_back(trial)
        elif _NODE_DIED in failure:
            self._n_nodes_died[name] += 1
            if self._n_nodes_died[name] > _NODE_DEATHS:
                self._halt.note(_nodes_die(name, self._study.folder))
            self._give_back(trial)
        elif fault := storage_error(RuntimeError(failure), self._study.folder):
            self._halt.note(fault)
        else:
            with self._halt.noted():
                self._fail(trial, failure)

    def _give_back(self, trial: Trial) -> None:
        self._ledger.take_back(name_of(trial))
        self._tell(trial, "retried")

    def _fail(self, trial: Trial, failure: str) -> None:
        folder = self._study.trial_folder(name_of(trial))
        log = folder / ERROR_LOG
        if failure or not log.exists():
            write_atomically(log, (failure or "failed").encode("utf-8", "backslashreplace"))
        text = log.read_text(errors="replace")
        limit = self._study.limits.time_s
        is_late = limit is not None and ran_too_long(folder)
        self._end(trial, f"ran for longer than {limit:g} s" if is_late else last_line(text))

    def _tell(self, trial: Trial, event: str) -> None:
        if self._halt.fault is None:
            with self._halt.noted():
                self._on_event(name_of(trial), event)

    def _tell_ended(self) -> None:
        for name in self._ledger.take_ended():
            if self._halt.fault is None:
                with self._halt.noted():
                    self._on_event(name, "ended")

    def _end(self, trial: Trial, failure: str | None) -> None:
        """Note a trial's end, unless a fault has ended the study; then the trial will run again."""
        if self._halt.fault is not None:
            return
        with self._halt.noted():
            self._note_end(trial, failure)
        self._tell_ended()

    def _note_end(self, trial: Trial, failure: str | None) -> None:
        name, result = name_of(trial), trial.last_result or {}
        epochs, given = int(result.get("epoch", 0)), Given(**trial.config["given"])
        notes = _notes_of(result) | {EPOCHS: epochs, SECONDS: result.get(TRIAL_SECONDS)}
        if failure is not None:
            notes |= {ERROR: failure, LOG: str(self._log(name))}
        self._ledger.finish(
            name,
            None if failure else result[VALUES],
            is_whole=epochs >= (given.until or self._study.epochs_of(given.params)),
            notes=notes,
            earlier={int(entry["epoch"]): _notes_of(entry) for entry in result.get(HISTORY) or ()},
        )
        meters.trial_ended(self._study.experiment.name, "failed" if failure else "complete")

    def _log(self, name: str) -> Path:
        folder = self._study.trial_folder(name)
        return folder / (HUNG_LOG if ran_too_long(folder) else ERROR_LOG)


def name_of(trial: Trial) -> str:
    return trial.config["trial"]


def _notes_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the notes about what a trial has reached at an epoch."""
    keys = {BEST: BEST_EPOCH, LAST: LAST_VALUE, FUSED: FUSED_BY, UNFUSED: AS_TRAINED}
    return {note: entry.get(key) for note, key in keys.items()}


def _nodes_die(name: str, folder: Path) -> ClusterError:
    return ClusterError(
        f"{name} has lost its node {_NODE_DEATHS + 1} times",
        where=str(folder),
        remedy="find out why the nodes die (memory, preemption), then repeat the command to resume",
    )


def _failure_text(trial: Trial) -> str:
    """Return what Tune has written about the last failure; empty if there is nothing."""
    path = Path(trial.error_file) if trial.error_file else None  # Tune's own copy is made later
    return (
        path.read_text(errors="replace").split("\nFailure # ")[-1].partition("\n")[2] if path and path.exists() else ""
    )


def last_line(text: str) -> str:
    """Return the cause of a failure in one line, without traceback and remedy."""
    if "low on memory" in text:
        return "its process was killed because the node ran out of memory: run fewer trials at once, or smaller ones"
    if text.startswith("The actor died"):
        return "its process or its node has died"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ours = [line.partition(": ")[2] for line in lines if line.startswith("hcl.errors.")]
    return (ours or lines or ["failed"])[-1]
