"""Which nodes do which work. A cluster may mark nodes by resources named after what they do; Ray then keeps to them."""

from __future__ import annotations

from typing import Literal

import ray

Role = Literal["decode", "encode", "train"]
"""Videos to frames; clips to features and pairs to scores; training, with its validation."""

_MARK = 0.001
"""Of a node's mark, for each actor: next to nothing, so that CPUs and GPUs alone say how many find room."""


def mark(role: Role) -> dict[str, float]:
    """What an actor asks for beside CPUs and GPUs; nothing on a cluster that marks no node for this work."""
    return {role: _MARK} if ray.cluster_resources().get(role) else {}


def nodes_for(role: Role) -> list[dict[str, float]]:
    """CPUs and GPUs, busy or not, of each living node that does this work: of all nodes where none is marked."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    chosen = [resources for resources in nodes if resources.get(role)] or nodes
    return [{kind: resources.get(kind, 0.0) for kind in ("CPU", "GPU")} for resources in chosen]


def capacity(role: Role) -> dict[str, float]:
    """`nodes_for` together."""
    nodes = nodes_for(role)
    return {kind: sum(node[kind] for node in nodes) for kind in ("CPU", "GPU")}


def free(role: Role) -> dict[str, float]:
    """What of `capacity` may be free: no more than the whole cluster has free."""
    available = ray.available_resources()
    return {kind: min(total, available.get(kind, 0.0)) for kind, total in capacity(role).items()}
