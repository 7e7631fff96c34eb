"""One question to every node of a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class Answer(NamedTuple):
    """What a node said, or what came of asking it."""

    node: str
    said: Any = None
    error: Exception | None = None

    @property
    def problem(self) -> str:
        """The error's last line."""
        lines = str(self.error).strip().splitlines()
        return lines[-1].strip() if lines else type(self.error).__name__


def ask_each_node(
    question: Callable[..., Any],
    arguments: Callable[[Mapping[str, Any]], tuple],
    *,
    env_vars: Mapping[str, str],
    answer_s: float,
) -> Iterator[Answer]:
    """What each live node says, the driver's first; all are asked at once, and none has to have a free CPU.

    Args:
        question: a function, called there.
        arguments: its arguments for a node, of which Ray tells NodeID, NodeManagerAddress, Resources, ...
        env_vars: of the process that is asked.
        answer_s: how long they may take together; whoever has not answered then gets a TimeoutError.
    """
    here = ray.get_runtime_context().get_node_id()
    nodes = sorted((one for one in ray.nodes() if one["Alive"]), key=lambda one: one["NodeID"] != here)
    remote = ray.remote(num_cpus=0, max_retries=2, runtime_env={"env_vars": dict(env_vars)})(question)
    asked = []
    for one in nodes:
        strategy = NodeAffinitySchedulingStrategy(one["NodeID"], soft=False)
        reference = remote.options(scheduling_strategy=strategy).remote(*arguments(one))
        asked.append((f"{one['NodeManagerAddress']} {one['NodeID'][:6]}", reference))
    deadline = time.monotonic() + answer_s
    for node, reference in asked:
        done, _ = ray.wait([reference], timeout=max(0.0, deadline - time.monotonic()))
        if not done:
            ray.cancel(reference, force=True)
            problem = f"no answer within {answer_s:g} s: a mount that hangs, or a node that is starved"
            yield Answer(node, error=TimeoutError(problem))
            continue
        try:
            yield Answer(node, ray.get(reference))
        except RayTaskError as error:
            yield Answer(node, error=error.cause if isinstance(error.cause, Exception) else error)
        except RayError as error:
            yield Answer(node, error=error)
