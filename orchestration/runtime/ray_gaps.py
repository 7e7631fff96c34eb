"""Work around gaps of Ray 2.60; each docstring says how to see that the gap is closed upstream."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray
from ray._private import utils
from ray._private.parameter import RayParams
from ray._private.state import available_resources_per_node
from ray.exceptions import OutOfMemoryError, RayActorError, RayError

from orchestration.runtime.signals import ended_by


def available_by_node() -> dict[str, dict[str, float]]:
    """Return the free resources of each living node, by node id; `ray.available_resources` only gives their sum.

    Closed upstream when Ray exports it.
    """
    return available_resources_per_node()


@contextmanager
def out_of_memory_ends_one_trial() -> Iterator[None]:
    """Make Tune treat a trial as failed that Ray's memory monitor has killed.

    Tune takes it for a bug and stops the whole study. Within the block it is the death of an actor like any other:
    retried, then recorded. Closed upstream when the test of a trial that takes too much memory passes without this.
    """
    from ray.air.execution._internal.actor_manager import RayActorManager  # brings pandas; only studies need it

    original = RayActorManager._actor_task_failed

    def failed(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        original(manager, tracked_actor_task, exception)

    with patch.object(RayActorManager, "_actor_task_failed", failed):
        yield


@contextmanager
def train_gives_back_its_workers() -> Iterator[None]:
    """Tell Ray Train which Ray to use when it gives back the workers' CPUs after a run's process has died.

    Train uses an actor for this that connects to the Ray of its machine, and fails if several run there. Closed
    upstream when the test of a frozen worker passes without this while another Ray runs.
    """
    from ray.train.v2._internal import constants  # the import takes seconds, and few commands train

    address = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    passed_on = {*constants.ENV_VARS_TO_PROPAGATE, *address}
    with patch.dict(os.environ, address), patch.object(constants, "ENV_VARS_TO_PROPAGATE", passed_on):
        yield


@contextmanager
def ctrl_c_as_before() -> Iterator[None]:
    """Restore the handler of Ctrl-C after a study; Tune leaves its own behind, which would swallow the first Ctrl-C.

    If the command handles signals itself, its handler stays, and stops Tune by the signal that Tune always listens to,
    so that a second Ctrl-C is recognised as one. Closed upstream when `signal.getsignal` returns the same after
    `Tuner.fit` as before.
    """
    is_main = threading.current_thread() is threading.main_thread()  # in other threads Tune installs none
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)} if is_main else {}

    def ask() -> bool:
        handler = signal.getsignal(signal.SIGUSR1)
        if not callable(handler) or handler is before[signal.SIGUSR1]:
            return False  # Tune has not started yet
        handler(signal.SIGUSR1, None)
        return True

    try:
        with ended_by(ask) as is_ours, patch.dict(os.environ, {_NO_HANDLER: "1"} if is_ours else {}):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_NO_HANDLER = "TUNE_DISABLE_SIGINT_HANDLER"


@contextmanager
def ctrl_c_ends_training() -> Iterator[None]:
    """Let Ctrl-C interrupt training as usual; Train's handler would end the process with status 1 and no message.

    The handler would also stay installed. Within the block Ctrl-C raises KeyboardInterrupt, and the run's controller is
    told to stop its workers. Closed upstream when `TorchTrainer.fit` raises KeyboardInterrupt.
    """
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer  # a slow import that only training needs

    controllers: list[Any] = []
    with patch.object(
        DataParallelTrainer, "_register_sigint_handler", lambda _, controller: controllers.append(controller)
    ):
        try:
            yield
        except KeyboardInterrupt:
            for controller in controllers:
                with suppress(RayError):
                    ray.get(controller.abort.remote(), timeout=_ABORT_S)
            raise


_ABORT_S = 10.0


@contextmanager
def on_loopback() -> Iterator[None]:
    """Bind a local Ray to loopback.

    `ray.init` replaces 127.0.0.1 by this machine's address and listens there, with metrics that ask for no token. Its
    node's agent, which nothing here calls, takes port 52365, so that a cluster that is started later on this machine
    accepts no jobs.

    Within the block Ray binds to loopback, and the system chooses the agent's port. Closed upstream when `ray.init`
    keeps `_node_ip_address="127.0.0.1"`, and takes the agent's port as an argument.
    """
    original, ours = RayParams.__init__, {"node_ip_address": "127.0.0.1", "dashboard_agent_listen_port": 0}
    with patch.object(RayParams, "__init__", lambda self, *given, **named: original(self, *given, **{**named, **ours})):
        yield


@contextmanager
def in_groups_of_their_own() -> Iterator[None]:
    """Start Ray's processes in process groups of their own, so that signals to this command's group miss them.

    A terminal or `timeout` signals the whole group. Ray then ends the driver with its raylet, before the driver has
    cleaned up. Closed upstream when `ray.init` shields its processes from more than Ctrl-C.
    """
    original = utils.set_kill_on_parent_death_linux

    def prepare() -> None:  # in the child, before its program starts
        os.setpgid(0, 0)
        original()

    with patch.object(utils, "set_kill_on_parent_death_linux", prepare):
        yield


def work_in(folder: Path) -> None:
    """Change into the working directory of the command, if this node has it.

    Ray Train and Tune start their workers in folders of their own, where a relative path in the settings, such as
    `model.weights`, names another file. Closed upstream when `WorkingDirectorySetupCallback` of Ray Train and
    `Trainable` of Ray Tune can be told to keep the folder.
    """
    with suppress(OSError):
        os.chdir(folder)
