"""Watch the number of Ray's nodes, because the driver does not notice that none is left and would wait for ever."""

from __future__ import annotations

import _thread
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import ray

from hcl.errors import ClusterError
from orchestration.console import notes

PATIENCE_S, GRACE_S = 20.0, 60.0
"""The longest time without any node, and the longest time that the interrupted block may then take to end."""
_EVERY_S = 2.0


def n_alive() -> int:
    """Return the number of living nodes of the cluster, as far as its head knows."""
    return sum(node["Alive"] for node in ray.nodes())


@contextmanager
def ends_without_nodes(
    where: str,
    *,
    patience_s: float = PATIENCE_S,
    grace_s: float = GRACE_S,
    count: Callable[[], int] = n_alive,
    every_s: float = _EVERY_S,
) -> Iterator[None]:
    """Interrupt the block, which must run in the main thread, once no node has been alive for `patience_s`.

    If it has not ended after `grace_s` more, the process ends; everything that was written is kept.

    Raises ClusterError if no node was alive for that long.
    """
    over, lost = threading.Event(), threading.Event()

    def watch() -> None:
        last_seen = time.monotonic()
        while not over.wait(every_s):
            with suppress(Exception):  # a head that does not answer now may answer later
                if count():
                    last_seen = time.monotonic()
            if time.monotonic() - last_seen > patience_s:
                lost.set()
                _thread.interrupt_main()
                if not over.wait(grace_s):
                    notes.print(f"{where}: no node of Ray is left; repeat the command to resume", soft_wrap=True)
                    os._exit(ClusterError.exit_code)
                return

    thread = threading.Thread(target=watch, name="node-watch", daemon=True)
    thread.start()
    try:
        yield
        if lost.is_set():
            raise KeyboardInterrupt
    except BaseException as error:
        if lost.is_set():
            raise ClusterError("no node of Ray is left", where=where, remedy="repeat the command to resume") from error
        raise
    finally:
        over.set()
        thread.join()
