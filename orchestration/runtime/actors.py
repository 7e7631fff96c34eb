"""Stream items through a pool of Ray actors with back-pressure and time limits, and replace dead actors."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from hcl.errors import ClusterError

Item = TypeVar("Item")


class ItemTimeout(ClusterError):
    """Report an item that took longer than its limit; its actor was killed."""


class ItemCrash(ClusterError):
    """Report an item whose actor's process died at every attempt."""


class Barrier:
    """Mark a point among the items: later items start on the same actors after all earlier ones are done."""


BARRIER = Barrier()


def map_actors(
    make_actor: Callable[[], Any],
    items: Iterable[Item | Barrier],
    call: Callable[[Any, Item], Any],
    *,
    n_actors: int | Callable[[], int],
    window: int = 2,
    timeout_s: float | None = None,
    n_tries: int = 2,
    start_timeout_s: float = 300.0,
) -> Generator[tuple[Item, Any], None, None]:
    """Call an actor for each item, and yield (item, result or exception) as they finish, in any order.

    At most `window` items run or wait at each actor, so memory does not grow with the number of items. An actor whose
    process dies is replaced and its items are called again, so `call` must be idempotent.

    Args:
        make_actor: creates an actor. Leave its `max_restarts` at 0: Ray's own restarts know neither the time limit
            nor which item is to blame.
        n_actors: the number of actors; or a function that returns how many more fit now. It is called again during the
            work, so that nodes that join get work.
        call: starts the work for an item, `lambda actor, item: actor.work.remote(item)`. An actor runs one call
            after another.
        timeout_s: limit of one item, from the moment that its actor starts it; the actor is then killed.
        n_tries: number of actors that may die on an item before it fails; it runs alone after the first.
        start_timeout_s: how long to wait for the first actor to start.
    Yields:
        An exception in place of a result is the one that `call` raised, an ItemTimeout, or an ItemCrash.
    Raises:
        ClusterError: if no actor can be started.
    """
    n_first, room = (max(1, n_actors()), n_actors) if callable(n_actors) else (n_actors, None)
    if n_first < 1 or window < 1:
        raise ValueError(f"n_actors={n_actors} and window={window} must be at least 1")
    pool = _Pool(make_actor, call, iter(items), n_first, room, window, timeout_s, n_tries, start_timeout_s)
    _open_pools.append(pool)
    try:
        while pool.fill():
            yield from pool.step()
    finally:
        pool.close()
        _open_pools.remove(pool)


@contextmanager
def closed_pools() -> Iterator[None]:
    """Kill, at the end of the block, the actors of the pools that were opened in it.

    An error keeps a generator of `map_actors` alive for as long as the error is kept. So `connect` closes the pools
    while their Ray still runs.
    """
    before = list(_open_pools)
    try:
        yield
    finally:
        for pool in _open_pools:
            if pool not in before:
                pool.close()


_open_pools: list[_Pool] = []

_POLL_S = 1.0  # how often the start of actors is checked when nothing finishes
_ROOM_S = 5.0  # how often the pool checks whether more actors fit
_MAX_FAILED_STARTS = 3  # in a row
_END = object()


@dataclass
class _Job:
    item: Any
    n_crashes: int = 0
    is_suspect: bool = False  # was running or waiting when its actor died: it runs alone from then on


@dataclass
class _Slot:
    """Hold an actor and its calls in the order in which it runs them."""

    actor: Any
    ready: Any  # reference that resolves once the actor is constructed; None afterwards
    calls: deque[tuple[Any, _Job]] = field(default_factory=deque)
    began: float = 0.0  # when the first of the calls started

    def kill(self) -> None:
        if ray.is_initialized():  # else the call would start a new Ray
            with suppress(Exception):  # it may be dead already
                ray.kill(self.actor, no_restart=True)


@dataclass(eq=False)
class _Pool:
    make_actor: Callable[[], Any]
    call: Callable[[Any, Any], Any]
    items: Iterator[Any]
    n_actors: int
    room: Callable[[], int] | None
    window: int
    timeout_s: float | None
    n_tries: int
    start_timeout_s: float
    slots: list[_Slot] = field(default_factory=list)
    waiting: deque[_Job] = field(default_factory=deque)
    is_held: bool = False  # the next item was a barrier
    n_failed_starts: int = 0
    last_start: float = 0.0
    last_asked: float = field(default_factory=time.monotonic)  # when `room` was called last

    def close(self) -> None:
        """Kill all actors; their unfinished work is lost."""
        for slot in self.slots:
            slot.kill()
        self.slots.clear()

    def fill(self) -> bool:
        """Give work to every started actor, and start actors for the remaining items; return False if none are left."""
        for depth in range(self.window):  # one call for each actor before a second for any
            for slot in self.slots:
                self._look_ahead()
                if slot.ready is None and len(slot.calls) == depth and self._may_join(slot):
                    job = self.waiting.popleft()
                    slot.began = slot.began if slot.calls else time.monotonic()
                    slot.calls.append((self.call(slot.actor, job.item), job))
        self._grow()
        self._look_ahead()
        n_busy = sum(bool(slot.calls) for slot in self.slots)
        wanted = min(self.n_actors, n_busy + len(self.waiting))
        while len(self.slots) < wanted and self.n_failed_starts < _MAX_FAILED_STARTS:
            actor = self.make_actor()
            self.slots.append(_Slot(actor, actor.__ray_ready__.remote()))
            self.last_start = time.monotonic()
        return bool(self.waiting or n_busy)

    def step(self) -> list[tuple[Any, Any]]:
        """Wait until something happens, and return what finished."""
        references = [slot.ready for slot in self.slots if slot.ready is not None]
        references += [reference for slot in self.slots for reference, _ in slot.calls]
        ray.wait(references, num_returns=1, timeout=self._patience(), fetch_local=False)
        # Poll a second time, because a dead actor fails all its calls at once, and results may have arrived meanwhile.
        done = set(ray.wait(references, num_returns=len(references), timeout=0, fetch_local=False)[0])
        results: list[tuple[Any, Any]] = []
        for slot in list(self.slots):
            if slot.ready in done:
                self._note_start(slot)
            results += self._harvest(slot, done)
            if slot.calls and self.timeout_s and time.monotonic() - slot.began >= self.timeout_s:
                _, job = slot.calls.popleft()
                results.append((job.item, ItemTimeout(f"no result within {self.timeout_s:g} s")))
                self._retire(slot)
        self._check_start()
        return results

    def _may_join(self, slot: _Slot) -> bool:
        """Return whether the next waiting job may be queued on an actor.

        Suspects run alone: the last result before a death can be lost with the process, and its job would be blamed for
        the crash that the next one caused.
        """
        if not self.waiting or not slot.calls:
            return bool(self.waiting)
        return not self.waiting[0].is_suspect and not any(job.is_suspect for _, job in slot.calls)

    def _grow(self) -> None:
        """Allow more actors if they fit by now; those that are still starting count as running."""
        if self.room is None or time.monotonic() - self.last_asked < _ROOM_S:
            return
        self.last_asked = time.monotonic()
        with suppress(Exception):  # a cluster that does not answer now may answer later
            self.n_actors = max(self.n_actors, self._n_ready() + self.room())

    def _n_ready(self) -> int:
        return sum(slot.ready is None for slot in self.slots)

    def _look_ahead(self) -> None:
        while len(self.waiting) < self.n_actors:
            if self.is_held and (self.waiting or any(slot.calls for slot in self.slots)):
                return
            item = next(self.items, _END)
            if item is _END:
                return
            self.is_held = item is BARRIER
            if not self.is_held:
                self.waiting.append(_Job(item))

    def _patience(self) -> float:
        """Return the seconds until the pool must be checked even if nothing finishes."""
        began = [slot.began for slot in self.slots if slot.calls]
        if not self.timeout_s or not began:
            return _POLL_S
        return min(_POLL_S, max(0.0, min(began) + self.timeout_s - time.monotonic()))

    def _note_start(self, slot: _Slot) -> None:
        try:
            ray.get(slot.ready)
            slot.ready, self.n_failed_starts = None, 0
        except RayError as error:
            self._retire(slot)
            self.n_failed_starts += 1
            if self._n_ready():  # a dying node takes all starting actors with it, which is no reason to stop
                self.n_actors = len(self.slots) if self.room else self.n_actors  # until more fit again
            elif self.n_failed_starts >= _MAX_FAILED_STARTS and not self.slots:  # no other actor is starting
                raise ClusterError(
                    f"{self.n_failed_starts} actors in a row could not be started: {str(error).strip()}",
                    remedy="see the last lines above for the error of the actor's process at its start",
                ) from error

    def _check_start(self) -> None:
        is_starting = self.slots and all(slot.ready is not None for slot in self.slots)
        if is_starting and time.monotonic() - self.last_start > self.start_timeout_s:
            raise ClusterError(
                f"no actor could be started within {self.start_timeout_s:g} s; the cluster has "
                f"{ray.cluster_resources()}, free are {ray.available_resources()}",
                remedy="free resources, add nodes, or ask for less per actor",
            )

    def _harvest(self, slot: _Slot, done: set[Any]) -> list[tuple[Any, Any]]:
        """Return the results of an actor's finished calls; if it has died, its other items wait for another actor."""
        results, calls, death = [], slot.calls, None
        slot.calls = deque()
        for reference, job in calls:
            if death is not None or reference not in done:
                slot.calls.append((reference, job))
                continue
            try:
                results.append((job.item, ray.get(reference)))
            except RayTaskError as error:  # raised by the call itself; the actor is alive
                results.append((job.item, error.cause if isinstance(error.cause, Exception) else error))
            except RayError as error:
                death = error
                slot.calls.append((reference, job))
        if results:
            slot.began = time.monotonic()
        if death is not None:
            for _, job in slot.calls:
                job.is_suspect = True
            _, blamed = slot.calls[0]
            blamed.n_crashes += 1
            if blamed.n_crashes >= self.n_tries:
                slot.calls.popleft()
                problem = f"the process died {blamed.n_crashes} times: {str(death).strip().splitlines()[0]}"
                results.append((blamed.item, ItemCrash(problem)))
            self._retire(slot)
        return results

    def _retire(self, slot: _Slot) -> None:
        slot.kill()
        self.slots.remove(slot)
        self.waiting.extendleft(job for _, job in reversed(slot.calls))
        slot.calls.clear()
