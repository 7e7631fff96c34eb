"""Call a function on every node of a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class Answer(NamedTuple):
    """Hold a node's answer, or the error of asking it."""

    node: str
    reply: Any = None
    error: Exception | None = None

    @property
    def problem(self) -> str:
        """Return the error's last line."""
        lines = str(self.error).strip().splitlines()
        return lines[-1].strip() if lines else type(self.error).__name__


def ask_each_node(
    question: Callable[..., Any],
    arguments: Callable[[Mapping[str, Any]], tuple],
    *,
    env_vars: Mapping[str, str],
    answer_s: float,
) -> Iterator[Answer]:
    """Yield each live node's answer, the driver's first; all are asked at once, and none needs a free CPU.

    Args:
        question: the function to call there.
        arguments: returns its arguments for a node, from Ray's description (NodeID, NodeManagerAddress, Resources).
        env_vars: environment variables of the called process.
        answer_s: time limit for all together; nodes that have not answered by then get a TimeoutError.
    """
    here = ray.get_runtime_context().get_node_id()
    nodes = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: node["NodeID"] != here)
    remote = ray.remote(num_cpus=0, max_retries=2, runtime_env={"env_vars": dict(env_vars)})(question)
    references = []
    for node_info in nodes:
        strategy = NodeAffinitySchedulingStrategy(node_info["NodeID"], soft=False)
        reference = remote.options(scheduling_strategy=strategy).remote(*arguments(node_info))
        references.append((f"{node_info['NodeManagerAddress']} {node_info['NodeID'][:6]}", reference))
    deadline = time.monotonic() + answer_s
    for node, reference in references:
        done, _ = ray.wait([reference], timeout=max(0.0, deadline - time.monotonic()))
        if not done:
            ray.cancel(reference, force=True)
            problem = f"no answer within {answer_s:g} s: a mount may hang, or the node be overloaded"
            yield Answer(node, error=TimeoutError(problem))
            continue
        try:
            yield Answer(node, ray.get(reference))
        except RayTaskError as error:
            yield Answer(node, error=error.cause if isinstance(error.cause, Exception) else error)
        except RayError as error:
            yield Answer(node, error=error)
