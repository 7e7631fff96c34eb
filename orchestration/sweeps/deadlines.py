"""Enforce `--trial-timeout` from outside the trial's process, because a frozen process cannot run its own watchdog."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import ray
from ray.tune.experiment import Trial

from hcl.files.atomic import write_atomically
from orchestration.training.run_files import HUNG_LOG

GRACE_S = 20.0
"""Time that a trial's own process has after its limit to end itself, which records where it hangs."""
_FROZEN = "its process no longer responded when its time was over, and was killed from outside\n"


class Deadlines:
    """Kill the processes of trials that exceed their time and have not ended themselves.

    Args:
        limit_s: the longest time that a trial may run; None: no limit.
        folder_of: returns the folder of a trial.
    """

    def __init__(self, limit_s: float | None, folder_of: Callable[[Trial], Path]):
        self._limit_s, self._folder_of = limit_s, folder_of
        self._began: dict[str, float] = {}

    def begins(self, trial: Trial) -> None:
        """Start counting a trial's time."""
        self._began[trial.trial_id] = time.monotonic()

    def ends(self, trial: Trial) -> None:
        """Stop counting, because the trial or its process has ended."""
        self._began.pop(trial.trial_id, None)

    def hold(self, trials: list[Trial]) -> None:
        """Kill the process of each trial whose time has been over for GRACE_S; Ray tells Tune of its death.

        The workers that the process has started for a trial of several workers end with it.
        """
        if self._limit_s is None:
            return
        for trial in trials:
            began, actor = self._began.get(trial.trial_id), trial.temporary_state.ray_actor
            if began is None or actor is None or time.monotonic() - began <= self._limit_s + GRACE_S:
                continue
            self.ends(trial)
            log = self._folder_of(trial) / HUNG_LOG
            if not log.exists() or not log.stat().st_size:
                write_atomically(log, _FROZEN.encode())
            ray.kill(actor)
