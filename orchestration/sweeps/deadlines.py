"""`--trial-timeout`, held from outside: a trial's own watchdog is as frozen as its process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import ray
from ray.tune.experiment import Trial

from hcl.files.atomic import write_atomically
from orchestration.training.run import HUNG_LOG

GRACE_S = 20.0
"""How long after its time a trial's own process may take to end itself, which says where it hangs."""
_FROZEN = "its process did not answer any more when its time was over, and was ended from outside\n"


class Deadlines:
    """Ends the processes of trials that have not ended themselves.

    Args:
        limit_s: the longest that a trial may run; None: as long as it takes.
        folder_of: the folder of a trial.
    """

    def __init__(self, limit_s: float | None, folder_of: Callable[[Trial], Path]):
        self._limit_s, self._folder_of = limit_s, folder_of
        self._began: dict[str, float] = {}

    def begins(self, trial: Trial) -> None:
        """Count a trial's time from now."""
        self._began[trial.trial_id] = time.monotonic()

    def ends(self, trial: Trial) -> None:
        """Count no longer: it has ended, or its process has."""
        self._began.pop(trial.trial_id, None)

    def hold(self, trials: list[Trial]) -> None:
        """Kill the process of each trial whose time has been over for GRACE_S; Tune is told of its death by Ray.

        What the process has started for a trial of several workers ends with it.
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
