"""Choose the nodes for each kind of work; a cluster may mark nodes by resources named after their work."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import ray

from hcl.errors import ClusterError
from orchestration.console import notes
from orchestration.runtime.ray_gaps import available_by_node

Role = Literal["decode", "encode", "train"]
"""Decode videos to frames; encode clips to features and score pairs; train and validate."""

PATIENCE_S = 300.0
"""How long a command waits for a suitable node: as long as a machine takes to boot and to fetch an image."""
_MARK = 0.001
"""Share of a node's mark that an actor takes: almost nothing, so that only CPUs and GPUs limit their number."""


def mark(role: Role) -> dict[str, float]:
    """Return what an actor requests besides CPUs and GPUs; empty on a cluster that marks no node for this work."""
    return {role: _MARK} if ray.cluster_resources().get(role) else {}


def nodes_for(role: Role) -> list[dict[str, float]]:
    """Return CPUs and GPUs, busy or not, of each living node for this work; of all nodes if none is marked."""
    return [_counted(node["Resources"]) for node in _nodes_with(role)]


def free_for(role: Role) -> list[dict[str, float]]:
    """Return the free CPUs and GPUs of each node of `nodes_for`."""
    free = available_by_node()
    return [_counted(free.get(node["NodeID"], {})) for node in _nodes_with(role)]


def wait_for_nodes(role: Role, *, use_gpu: bool = False, patience_s: float = PATIENCE_S) -> None:
    """Wait while a starting cluster has no node for this work; return at once if there is one.

    Raises ClusterError if none has joined within `patience_s`, or at once if this is a single machine without a GPU.
    """
    kind, deadline, is_reported = ("GPU" if use_gpu else "CPU"), time.monotonic() + patience_s, False
    while not any(node[kind] for node in nodes_for(role)):
        n_nodes = sum(node["Alive"] for node in ray.nodes())
        if kind == "GPU" and n_nodes == 1 and any(node["CPU"] for node in nodes_for(role)):
            raise ClusterError(
                "this machine has no GPU that Ray sees",
                where="train.use_gpu",
                remedy="--set train.use_gpu=false, or use --address with a cluster that has some",
            )
        if time.monotonic() > deadline:
            raise ClusterError(
                f"no node with {kind}s has joined within {patience_s:g} s; there are {n_nodes} nodes",
                where="the cluster",
                remedy="add nodes, then repeat the command",
            )
        if not is_reported:
            notes.print(f"waiting for a node with {kind}s, up to {patience_s:g} s")
            is_reported = True
        time.sleep(1.0)


def _nodes_with(role: Role) -> list[dict[str, Any]]:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return [node for node in nodes if node["Resources"].get(role)] or nodes


def _counted(resources: Mapping[str, float]) -> dict[str, float]:
    return {kind: resources.get(kind, 0.0) for kind in ("CPU", "GPU")}
