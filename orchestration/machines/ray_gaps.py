"""What Ray 2.60 leaves open and we close, each with what would show that it is closed upstream."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import ray
from ray._private.state import available_resources_per_node
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError


def available_by_node() -> dict[str, dict[str, float]]:
    """What is free on each living node, by node id: `ray.available_resources` adds them up.

    Closed upstream when Ray exports it.
    """
    return available_resources_per_node()


@contextmanager
def out_of_memory_ends_one_trial() -> Iterator[None]:
    """Tune takes a trial that Ray's memory monitor has killed for a bug and stops the whole study.

    Within the block it is the death of an actor like any other: retried, then recorded. Closed upstream when
    the test of a trial that takes too much memory passes without this.
    """
    original = RayActorManager._actor_task_failed

    def failed(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        original(manager, tracked_actor_task, exception)

    with patch.object(RayActorManager, "_actor_task_failed", failed):
        yield


@contextmanager
def train_gives_back_its_workers() -> Iterator[None]:
    """Ray Train has the workers' CPUs given back where the process of a run has died, by an actor that asks for "the"
    Ray of its machine, and fails where there are several.

    Within the block it is told which one. Closed upstream when the test of a worker that freezes passes without this
    while another Ray runs.
    """
    from ray.train.v2._internal import constants  # takes seconds, and few commands train

    address = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    passed_on = {*constants.ENV_VARS_TO_PROPAGATE, *address}
    with patch.dict(os.environ, address), patch.object(constants, "ENV_VARS_TO_PROPAGATE", passed_on):
        yield


@contextmanager
def ctrl_c_as_before() -> Iterator[None]:
    """Tune leaves its handler of Ctrl-C behind, which would swallow the first one after a study.

    Closed upstream when `signal.getsignal` says the same after `Tuner.fit` as before.
    """
    is_main = threading.current_thread() is threading.main_thread()  # elsewhere Tune installs none
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)} if is_main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
