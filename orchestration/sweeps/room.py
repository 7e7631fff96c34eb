"""How many trials of a study find room on the cluster, now and as nodes leave and join."""

from __future__ import annotations

import time

from hcl.errors import ClusterError
from orchestration.machines.roles import capacity, nodes_for
from orchestration.sweeps.study import Study

_FRESH_S = 1.0  # how old an answer may be
NO_ROOM_S = 300.0
"""How long a study waits for a node that a trial fits on."""


def room_for(study: Study) -> int:
    """How many trials find room on the cluster at once; one more would wait for its workers, perhaps for ever.

    Raises ClusterError where there is no room for one.
    """
    settings = study.experiment.train
    total, n_least = capacity("train"), settings.worker_counts[-1]
    if settings.cpus_per_worker > max((node["CPU"] for node in nodes_for("train")), default=0):
        raise ClusterError(
            f"no node has {settings.cpus_per_worker} CPUs for a worker",
            where="train.cpus_per_worker",
            remedy="lower it, or add nodes",
        )
    each = {"CPU": float(settings.cpus_per_worker)}
    if settings.use_gpu:
        each["GPU"] = study.limits.gpu_share if settings.workers == 1 else 1.0
    for kind, need in each.items():
        if total[kind] + 1e-9 < n_least * need:
            raise ClusterError(
                f"a trial needs {n_least * need:g} {kind}s, the cluster has {total[kind]:g}",
                where="train.workers",
                remedy="lower train.workers, or add nodes",
            )
    room = max(1, min(int(total[kind] / (settings.workers * need) + 1e-9) for kind, need in each.items()))
    return min(room, study.limits.concurrency or room)


class Room:
    """How many trials find room: a node that joins or leaves changes that.

    Raises ClusterError if there is none for a trial at the beginning, or later for `NO_ROOM_S`.
    """

    def __init__(self, study: Study):
        self._study, self._room = study, room_for(study)
        self._looked = self._had_room = time.monotonic()

    def now(self) -> int:
        if time.monotonic() - self._looked > _FRESH_S:
            self._looked = time.monotonic()
            try:
                self._room, self._had_room = room_for(self._study), self._looked
            except ClusterError as error:
                if self._looked - self._had_room > NO_ROOM_S:
                    raise ClusterError(
                        f"{error.problem}, for {NO_ROOM_S:g} s now",
                        where=str(self._study.folder),
                        remedy="bring its nodes back, and repeat the command to go on",
                    ) from error
        return self._room
