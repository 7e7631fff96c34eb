"""Compute how many trials of a study fit on the cluster at once, while nodes leave and join."""

from __future__ import annotations

import time

from hcl.errors import ClusterError
from orchestration.console import notes
from orchestration.runtime.roles import PATIENCE_S, nodes_for, wait_for_nodes
from orchestration.sweeps.study import Study, keep_lag
from orchestration.training.elastic import workers_on

_FRESH_S = 1.0  # the longest age of a count that is used again


def room_for(study: Study) -> int:
    """Return how many trials fit on the cluster at once; one more might wait for its workers for ever.

    Raises ClusterError if not even one trial fits.
    """
    settings, nodes = study.experiment.train, nodes_for("train")
    if settings.cpus_per_worker > max((node["CPU"] for node in nodes), default=0):
        raise ClusterError(
            f"no node has {settings.cpus_per_worker} CPUs for a worker",
            where="train.cpus_per_worker",
            remedy="lower it, or add nodes",
        )
    gpu_share = study.limits.gpu_share if settings.workers == 1 else 1.0
    n_workers, n_least = sum(workers_on(settings, node, gpu_share) for node in nodes), settings.worker_counts[-1]
    if n_workers < n_least:
        each = f"{settings.cpus_per_worker} CPUs" + (f" and {gpu_share:g} GPUs" if settings.use_gpu else "")
        raise ClusterError(
            f"a trial needs {n_least} workers of {each}, and {n_workers} fit on the nodes that train",
            where="train.workers",
            remedy="lower train.workers, or add nodes",
        )
    room = max(1, n_workers // settings.workers)
    return min(room, study.limits.concurrency or room)


def choose_lag(study: Study) -> Study:
    """Return the study with a lag that is kept from now on: twice the trials that fit at once, unless it has one.

    So a trial seldom waits for the one that it has to know of, even if durations differ threefold.
    """
    if study.lag is not None or not study.has_lag:
        return study
    return keep_lag(study, default_lag(study, Room(study).now()))


def default_lag(study: Study, at_once: int) -> int:
    """Return the lag of a study for which none was declared: 0 for one trial at a time, which needs none.

    Args:
        at_once: number of trials that fit at once when it starts, for studies that do not limit it by --concurrency.
    """
    at_once = min(study.limits.concurrency or at_once, study.n_trials)
    return 2 * at_once if at_once > 1 else 0


class Room:
    """Track how many trials fit on the cluster, which changes when a node joins or leaves.

    Raises ClusterError if no trial fits at the start, or later for longer than `PATIENCE_S`.
    """

    def __init__(self, study: Study):
        wait_for_nodes("train", use_gpu=study.experiment.train.use_gpu)
        self._study, self._room = study, room_for(study)
        self._looked = self._had_room = time.monotonic()

    def tell_limit(self, most: int | None) -> None:
        """Print a notice if the lag of the study lets fewer trials run at once than fit."""
        if most is not None and most < self._room:
            notes.print(
                f"{self._room} trials fit at once, but at most {most} run: the study keeps the lag of {most - 1} that "
                "it was started with (--lag)",
                soft_wrap=True,
            )

    def now(self) -> int:
        if time.monotonic() - self._looked > _FRESH_S:
            self._looked = time.monotonic()
            try:
                self._room, self._had_room = room_for(self._study), self._looked
            except ClusterError as error:
                if self._looked - self._had_room > PATIENCE_S:
                    raise ClusterError(
                        f"{error.problem}, for {PATIENCE_S:g} s now",
                        where=str(self._study.folder),
                        remedy="bring its nodes back, and repeat the command to resume",
                    ) from error
        return self._room
