"""Connect to Ray, local or on a cluster; start actors, and count how many fit."""

from __future__ import annotations

import itertools
import json
import logging
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray

from cluster.description import N_TRIAL_DRIVERS
from cluster.proxies import bypassing
from hcl.errors import ClusterError
from orchestration.runtime import mounts
from orchestration.runtime.actors import closed_pools
from orchestration.runtime.local_ray import local_ray
from orchestration.runtime.node_watch import ends_without_nodes
from orchestration.runtime.ray_folder import environment
from orchestration.runtime.roles import Role, free_for, mark, wait_for_nodes
from orchestration.runtime.signals import handlers_kept

RAY_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a report blocks for this time; 2 s by default
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # prints every line once
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",  # a request that cannot be met fails instead of waiting for ever
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # no tables of Tune; the commands print their own
}


@contextmanager
def connect(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    resources: Mapping[str, float] | None = None,
    timeout_s: float = 30.0,
) -> Iterator[None]:
    """Connect to Ray for the duration of a block; an existing connection is used, and left open.

    Args:
        address: address of a running cluster, `host:port`, `ray://host:port` or `auto`. None: the cluster that this
            process is a job of, otherwise a local Ray that ends with the block.
        num_cpus: CPUs of the local Ray; None: all of the machine.
        resources: custom resources of the local Ray, besides `trial_driver`.
        timeout_s: how long an address may take to answer.
    Raises:
        ClusterError: if Ray cannot be started or reached, or all of its nodes have died.
    """
    if ray.is_initialized():
        with closed_pools():
            yield
        return
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    ours = {"trial_driver": N_TRIAL_DRIVERS, **(resources or {})}
    with (
        local_ray(num_cpus, ours) if address == "local" else _joined(address, timeout_s),
        closed_pools(),
        ends_without_nodes("local Ray" if address == "local" else address),
    ):
        _tighten_token()
        yield


def n_workers_available(role: Role, *, use_gpu: bool = False) -> int:
    """Return how many actors of one CPU (and one GPU) fit now on the nodes for this work."""
    return sum(int(min(room.values()) if use_gpu else room["CPU"]) for room in free_for(role))


def actor_of(kind: type, role: Role, title: str, *, use_gpu: bool = False) -> Callable[..., Any]:
    """Return a function that starts a `kind` as an actor of one CPU and, if asked for, one GPU.

    Without `use_gpu` Ray hides the GPUs from the actor's process. The dashboard shows the actors by title and number.
    Raises ClusterError if not even one fits.
    """
    wait_for_nodes(role, use_gpu=use_gpu)
    remote: Any = ray.remote(num_cpus=1, num_gpus=int(use_gpu), resources=mark(role))(kind)
    numbers = itertools.count(1)
    started = uuid.uuid4().hex[:6]  # names must be unique in a job, which may repeat a title
    return lambda *arguments: remote.options(name=f"{title} {started}-{next(numbers)}").remote(*arguments)


def device_of_actor() -> str:
    """Return `cuda` in an actor that has a GPU, otherwise `cpu`."""
    return "cuda" if ray.get_gpu_ids() else "cpu"


@contextmanager
def _joined(address: str, timeout_s: float) -> Iterator[None]:
    """Join a running cluster for the duration of a block.

    The head is reached without a proxy, also by the workers, because the connection carries the token.
    """
    _probe(address, timeout_s)
    direct = bypassing([address.removeprefix("ray://").rpartition(":")[0].strip("[]")])
    runtime_env = mounts.runtime_env()
    if new := {name: value for name, value in direct.items() if name not in _env_vars_of_job()}:
        runtime_env["env_vars"] = {**new, **runtime_env.get("env_vars", {})}
    with environment(direct):
        try:
            with handlers_kept():
                ray.init(address, runtime_env=runtime_env, log_to_driver=False, logging_level=logging.ERROR)
        except BaseException as error:
            ray.shutdown()
            if not isinstance(error, Exception):  # Ctrl-C
                raise
            raise ClusterError(  # of ConnectionError, RuntimeError, ValueError, OSError and Ray's own
                f"Ray cannot be reached: {str(error).strip() or type(error).__name__}",
                where=address,
                remedy="check the address and, on a cluster with tokens, RAY_AUTH_MODE=token and RAY_AUTH_TOKEN",
            ) from error
        try:
            mounts.mount_everywhere()
            yield
        finally:
            ray.shutdown()


def _env_vars_of_job() -> dict[str, str]:
    """Return the variables that `hcl submit --env` has set; Ray refuses a second value."""
    config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return (config.get("runtime_env") or {}).get("env_vars") or {}


def _probe(address: str, timeout_s: float) -> None:
    """Raise ClusterError unless a Ray cluster answers there, because `ray.init` itself would wait for minutes."""
    if address == "auto":
        return
    if address.startswith(("http://", "https://")):
        raise ClusterError(
            "is the address of a job server, not of Ray",
            where=f"RAY_ADDRESS={address}" if os.environ.get("RAY_ADDRESS") == address else address,
            remedy="unset RAY_ADDRESS (hcl submit and hcl jobs also read RAY_API_SERVER_ADDRESS); Ray is at HOST:6379",
        )
    remedy = "check that the cluster runs, its address and port, and that no firewall lies between"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ClusterError("is not an address", where=address, remedy="use host:port, ray://host:port or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=min(5.0, timeout_s)).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"nothing answers there: {error}", where=address, remedy=remedy) from error
    if address.startswith("ray://"):
        return
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        outcome = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        problem = f"something listens there, but no Ray answered within {timeout_s:g} s"
        raise ClusterError(problem, where=address, remedy=remedy) from error
    if outcome.returncode:
        last_line = (outcome.stderr or outcome.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise ClusterError(
            f"the cluster refuses: {last_line[0]}",
            where=address,
            remedy="check Ray's version on both sides and, on a cluster with tokens, RAY_AUTH_MODE and RAY_AUTH_TOKEN",
        )


def _tighten_token() -> None:
    """Restrict access to Ray's token, which Ray makes readable for all: its readers can run code on the cluster."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    with suppress(OSError, RuntimeError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
