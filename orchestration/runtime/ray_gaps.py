"""What Ray 2.60 leaves open and we close, each with what would show that it is closed upstream."""

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

    Where the command handles signals itself, its handler stays, and asks Tune by the signal that Tune always listens
    to: then a second Ctrl-C is known for one. Closed upstream when `signal.getsignal` says the same after `Tuner.fit`
    as before.
    """
    is_main = threading.current_thread() is threading.main_thread()  # elsewhere Tune installs none
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)} if is_main else {}

    def ask() -> bool:
        handler = signal.getsignal(signal.SIGUSR1)
        if not callable(handler) or handler is before[signal.SIGUSR1]:
            return False  # Tune has not begun yet
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
    """Train's handler of Ctrl-C ends the process with status 1 and without a word, and is left behind.

    Within the block Ctrl-C interrupts as anywhere else, and the run's controller is told to end its workers. Closed
    upstream when `TorchTrainer.fit` raises KeyboardInterrupt.
    """
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer  # takes long, and only training needs it

    controllers: list[Any] = []
    with patch.object(DataParallelTrainer, "_register_sigint_handler", lambda _, one: controllers.append(one)):
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
    """`ray.init` replaces 127.0.0.1 by this machine's address and listens there, with metrics that ask for no token.
    Its node's agent, which nothing here calls, takes port 52365: a cluster that is started later on this machine then
    takes no job.

    Within the block it binds to loopback, and the system chooses the agent's port. Closed upstream when `ray.init`
    keeps `_node_ip_address="127.0.0.1"`, and takes the agent's port as an argument.
    """
    original, ours = RayParams.__init__, {"node_ip_address": "127.0.0.1", "dashboard_agent_listen_port": 0}
    with patch.object(RayParams, "__init__", lambda self, *given, **named: original(self, *given, **{**named, **ours})):
        yield


@contextmanager
def in_groups_of_their_own() -> Iterator[None]:
    """A signal to this process's group, as a terminal or `timeout` sends it, reaches Ray's processes too, and with its
    raylet gone the driver is ended by Ray, before it has put anything in order.

    Processes that Ray starts within the block are in process groups of their own. Closed upstream when `ray.init`
    shields them from more than Ctrl-C.
    """
    original = utils.set_kill_on_parent_death_linux

    def prepare() -> None:  # in the child, before its program begins
        os.setpgid(0, 0)
        original()

    with patch.object(utils, "set_kill_on_parent_death_linux", prepare):
        yield


def work_in(folder: Path) -> None:
    """Change into the folder in which the command was called, where this node has it.

    Ray Train and Tune start their workers in folders of their own, where a relative path in the settings, such as
    `model.weights`, means another file. Closed upstream when `WorkingDirectorySetupCallback` of Ray Train and
    `Trainable` of Ray Tune can be told to leave the folder as it is.
    """
    with suppress(OSError):
        os.chdir(folder)
