"""Tell the state of a run from the files in its folder: running, stopped, failed, done or imported.

Only files are read, without torch and Ray, so that any machine that sees the folder can ask. A run is running while a
process holds its lock; the lock of a killed process does not count.
"""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import results
from orchestration.storage.locks import Holder, holder, last_holder, lock_of
from orchestration.training.run_files import FAILED, IMPORTED, LOG, PROGRESS, WRITER
from results.records.settings import NAME, settings_of
from results.records.weights import Weights

Status = Literal["running", "stopped", "failed", "done", "imported"]
_CELL = 60  # characters of an error in a table
_INTERRUPTIONS = ("KeyboardInterrupt", "SystemExit")
"""Ends in a run's log that are no failures."""


@dataclass(frozen=True)
class RunState:
    """Describe the state of a run.

    Attributes:
        epoch: number of finished epochs.
        epochs: number of epochs of its experiment; None if that cannot be read.
        step: finished steps of the current epoch and steps of an epoch, while it is running; None before the first.
        holder: the process that trains it or, if it was killed, the last one that did.
        reason: the error that ended it, in one line.
        n_stale: number of evaluation records of weights that the run no longer has.
        command: the command that resumes it; empty if nothing is left to train.
    """

    folder: Path
    status: Status
    epoch: int
    epochs: int | None
    step: tuple[int, int] | None = None
    holder: Holder | None = None
    reason: str = ""
    n_stale: int = 0
    command: str = ""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def place(self) -> str:
        """Return how far it is, such as `epoch 3 of 15` while it is running, or `2 of 15 epochs`."""
        of = f" of {self.epochs}" if self.epochs else ""
        if self.status == "running":
            return f"epoch {self.epoch + 1 if self.epoch != self.epochs else self.epoch}{of}"
        return f"{self.epoch}{of} epochs"

    @property
    def short(self) -> str:
        """Return the state for a cell of a table: the status with the holder or the error, and stale evaluations."""
        text: str = self.status
        if self.status == "running" and self.holder:
            text += f" by {self.holder.user}, {self.holder}" if self.holder.user else f" by {self.holder}"
        if self.status == "failed":
            text += f": {self.reason if len(self.reason) <= _CELL else self.reason[: _CELL - 3] + '...'}"
        return text + (f", {self.n_stale} stale" if self.n_stale else "")

    def text(self, *, steps: bool = True) -> str:
        """Return the state in one line, which does not name the run.

        Args:
            steps: whether to tell the step of the current epoch, which changes every second.
        """
        text: str = self.status
        if self.status == "running":
            step = f", step {self.step[0]} of {self.step[1]}" if self.step and steps else ""
            text += f": {self.place}{step}; {holder_text(self.holder)}"
        elif self.status == "imported":
            text += ": weights of another program"
        else:
            text += f": {self.place}" + (f"; {self.reason}" if self.reason else "")
        if self.status == "stopped" and self.holder:
            text += f"; {self.holder} no longer holds its lock"
        if self.n_stale:
            text += f"; evaluations of earlier weights: {self.n_stale}"
        return text + (f"; to resume: {self.command}" if self.command else "")


def run_state(folder: Path) -> RunState:
    """Return the state of the run in a folder. Files that are missing or damaged count as absent."""
    settings = _settings(folder)
    epoch = _epochs_done(folder)
    epochs = settings.get("train.epochs")
    epochs = epochs if isinstance(epochs, int) else None
    common: dict[str, Any] = {"n_stale": _n_stale(folder)}
    if (folder / IMPORTED).exists():
        return RunState(folder, "imported", epoch, epochs, **common)
    if by := holder(lock_of(folder)) or holder(folder / WRITER):
        return RunState(folder, "running", epoch, epochs, step=_step(folder, epoch), holder=by, **common)
    if (trial := _trial(folder)) is not None:
        return _state_of_trial(folder, trial, epoch, epochs, common)
    if epochs is not None and epoch >= epochs:
        return RunState(folder, "done", epoch, epochs, **common)
    common["command"] = _command(folder, settings)
    if reason := failure_of(folder):
        return RunState(folder, "failed", epoch, epochs, reason=reason, **common)
    last = last_holder(lock_of(folder)) or last_holder(folder / WRITER)
    return RunState(folder, "stopped", epoch, epochs, holder=last, **common)


def holder_text(by: Holder | None) -> str:
    """Return user, process and start of a holder."""
    if by is None:
        return "by another process"
    since = f" since {by.since[:16].replace('T', ' ')} UTC" if by.since else ""
    return f"{by.user}, {by.process}{since}" if by.user else f"{by.process}{since}"


def failure_of(folder: Path) -> str:
    """Return the error that ended a run, in one line; empty if it was interrupted, killed, or never failed."""
    problem = _json(folder / FAILED).get("problem")
    if not isinstance(problem, str):
        with suppress(OSError):
            *_, last = ["", *(folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()]
            problem = last.partition(" stops: ")[2]
    line = " ".join(str(problem or "").split())
    return "" if line.startswith(_INTERRUPTIONS) else line


def _state_of_trial(
    folder: Path, trial: results.TrialRecord, epoch: int, epochs: int | None, common: dict[str, Any]
) -> RunState:
    """Return the state of a study's trial that is not running, from the study's records."""
    if trial.state == "failed":
        return RunState(folder, "failed", epoch, epochs, reason=trial.error or "no error was recorded", **common)
    if trial.state != "running":
        return RunState(folder, "done", epoch, epochs, reason=f"trial {trial.state}", **common)
    with suppress(results.RecordError):
        common["command"] = results.read_sweep(folder.parent.parent).command
    return RunState(folder, "stopped", epoch, epochs, **common)


def _trial(folder: Path) -> results.TrialRecord | None:
    """Return the record of a study's trial; None for a run of its own."""
    folder = folder.absolute()
    study = folder.parent.parent
    if folder.parent.name != "trials" or not (study / "sweep.json").exists():
        return None
    with suppress(results.RecordError):
        return next((trial for trial in results.read_trials(study) if Path(trial.trial).name == folder.name), None)
    return None


def _command(folder: Path, settings: dict[str, Any]) -> str:
    """Return the command that resumes a run, in whatever folder it is typed."""
    place = folder.absolute()
    words = ["hcl", "train", str(place / "experiment.yaml"), "--runs", str(place.parent)]
    if settings.get(NAME) != place.name:  # the folder was renamed
        words += ["--set", f"name={place.name}"]
    return shlex.join(words)


def _settings(folder: Path) -> dict[str, Any]:
    with suppress(results.RecordError, OSError, UnicodeError):
        return settings_of((folder / "experiment.yaml").read_text(encoding="utf-8"))
    return {}


def _epochs_done(folder: Path) -> int:
    with suppress(results.RecordError):
        return max((row["epoch"] for row in results.read_epochs(folder)), default=0)
    return 0


def _step(folder: Path, epoch: int) -> tuple[int, int] | None:
    """Return the step of the current epoch; the file may be an earlier process's, of another epoch."""
    now = _json(folder / PROGRESS)
    step, steps = now.get("step"), now.get("steps")
    return (step, steps) if now.get("epoch") == epoch + 1 and isinstance(step, int) and isinstance(steps, int) else None


def _n_stale(folder: Path) -> int:
    weights, n_stale = Weights(), 0
    for file in (folder / "evaluation").glob("*.json"):
        with suppress(results.RecordError):
            record = results.read_evaluation(file)
            n_stale += weights.is_stale(folder, record.checkpoint, record.checkpoint_digest)
    return n_stale


def _json(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(path.read_bytes())
        return content if isinstance(content, dict) else {}
    return {}
