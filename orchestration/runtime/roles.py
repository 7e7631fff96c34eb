"""Which nodes do which work. A cluster may mark nodes by resources named after what they do; Ray then keeps to them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import ray

from hcl.errors import ClusterError
from orchestration.console import notes
from orchestration.runtime.ray_gaps import available_by_node

Role = Literal["decode", "encode", "train"]
"""Videos to frames; clips to features and pairs to scores; training, with its validation."""

PATIENCE_S = 300.0
"""How long a command waits for a node that it fits on: as long as a machine takes to boot and to fetch an image."""
_MARK = 0.001
"""Of a node's mark, for each actor: next to nothing, so that CPUs and GPUs alone say how many find room."""


def mark(role: Role) -> dict[str, float]:
    """What an actor asks for beside CPUs and GPUs; nothing on a cluster that marks no node for this work."""
    return {role: _MARK} if ray.cluster_resources().get(role) else {}


def nodes_for(role: Role) -> list[dict[str, float]]:
    """CPUs and GPUs, busy or not, of each living node that does this work: of all nodes where none is marked."""
    return [_counted(node["Resources"]) for node in _doing(role)]


def free_for(role: Role) -> list[dict[str, float]]:
    """What of `nodes_for` is free now, node by node."""
    free = available_by_node()
    return [_counted(free.get(node["NodeID"], {})) for node in _doing(role)]


def wait_for_nodes(role: Role, *, use_gpu: bool = False, patience_s: float = PATIENCE_S) -> None:
    """Wait while a cluster that is starting has no node for this work; returns at once where there is one.

    Raises ClusterError where none has come within `patience_s`, or where none will: a machine alone has what it has.
    """
    kind, deadline, is_told = ("GPU" if use_gpu else "CPU"), time.monotonic() + patience_s, False
    while not any(node[kind] for node in nodes_for(role)):
        n_nodes = sum(node["Alive"] for node in ray.nodes())
        if kind == "GPU" and n_nodes == 1 and any(node["CPU"] for node in nodes_for(role)):
            raise ClusterError(
                "this machine has no GPU that Ray sees",
                where="train.use_gpu",
                remedy="--set train.use_gpu=false, or give --address of a cluster that has some",
            )
        if time.monotonic() > deadline:
            raise ClusterError(
                f"no node with {kind}s has joined within {patience_s:g} s; there are {n_nodes} nodes",
                where="the cluster",
                remedy="add nodes, then repeat the command",
            )
        if not is_told:
            notes.print(f"waiting for a node with {kind}s, up to {patience_s:g} s")
            is_told = True
        time.sleep(1.0)


def _doing(role: Role) -> list[dict[str, Any]]:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return [node for node in nodes if node["Resources"].get(role)] or nodes


def _counted(resources: Mapping[str, float]) -> dict[str, float]:
    return {kind: resources.get(kind, 0.0) for kind in ("CPU", "GPU")}
