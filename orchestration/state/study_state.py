"""Tell the state of a study from its records: running, stopped or done, with the number of its trials."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import results
from orchestration.console import score_text
from orchestration.state.run_state import RunState, holder_text, run_state
from orchestration.storage.locks import Holder, holder, lock_of


@dataclass(frozen=True)
class StudyState:
    """Describe the state of a study.

    Attributes:
        n_ended: trials that are complete, stopped early or failed.
        n_trials: trials in all; None before the study's first record.
        n_failed: trials that failed.
        best: the best trial with its value so far; empty without one.
        holder: the process that runs it.
        command: the command that resumes it; empty if all trials have ended.
    """

    folder: Path
    status: Literal["running", "stopped", "done"]
    n_ended: int
    n_trials: int | None
    n_failed: int
    best: str = ""
    holder: Holder | None = None
    command: str = ""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def place(self) -> str:
        """Return how far it is, such as `3 of 20 trials, 1 failed`."""
        of = "" if self.n_trials is None else f" of {self.n_trials}"
        return f"{self.n_ended}{of} trials" + (f", {self.n_failed} failed" if self.n_failed else "")

    @property
    def short(self) -> str:
        """Return the state for a cell of a table."""
        by = self.holder
        return self.status + (f" by {by.user}, {by}" if by and by.user else f" by {by}" if by else "")

    def text(self, *, steps: bool = True) -> str:
        """Return the state in one line, which does not name the study; `steps` is of runs only."""
        parts = [f"study {self.status}: {self.place}"]
        parts += [holder_text(self.holder)] if self.holder else []
        parts += [f"best {self.best}"] if self.best else []
        parts += [f"to resume: {self.command}"] if self.command else []
        return "; ".join(parts)


State = RunState | StudyState


def study_state(folder: Path) -> StudyState:
    """Return the state of the study in a folder. Records that are missing or damaged count as absent."""
    record: results.SweepRecord | None = None
    trials: list[results.TrialRecord] = []
    with suppress(results.RecordError):
        record = results.read_sweep(folder)
        trials = results.read_trials(folder)
    by = holder(lock_of(folder))
    n_ended, n_trials = sum(trial.state != "running" for trial in trials), record.n_trials if record else None
    is_done = n_trials is not None and n_ended >= n_trials
    best = f"{record.best_trial} {score_text(record.best_value)}" if record and record.best_value is not None else ""
    return StudyState(
        folder,
        "running" if by else "done" if is_done else "stopped",
        n_ended,
        n_trials,
        sum(trial.state == "failed" for trial in trials),
        best,
        by,
        record.command if record and not by and not is_done else "",
    )


def state_of(folder: Path) -> State:
    """Return the state of a run or of a study."""
    return study_state(folder) if is_study(folder) else run_state(folder)


def is_study(folder: Path) -> bool:
    """Return whether a folder holds a study."""
    return any((folder / name).exists() for name in ("study.yaml", "sweep.json"))


def states_in(runs: Path) -> list[State]:
    """Return the states of all runs and studies in a folder, by name; empty if there is no such folder."""
    folders = sorted(runs.iterdir()) if runs.is_dir() else []
    return [state_of(folder) for folder in folders if is_study(folder) or (folder / "experiment.yaml").exists()]
