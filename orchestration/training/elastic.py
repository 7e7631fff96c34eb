"""Choose the number of workers of a run while nodes leave and join. The batches are the same for any number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hcl.config import Train
from orchestration.runtime.roles import free_for, mark, nodes_for

_LAST_TRIES = 3  # attempts with the smallest number before the run fails


def worker_resources(settings: Train) -> dict[str, float]:
    """Return the resources that one worker requests from Ray."""
    gpu = {"GPU": 1.0} if settings.use_gpu else {}
    return {"CPU": float(settings.cpus_per_worker), **gpu, **mark("train")}


def n_that_fit(settings: Train) -> int:
    """Return how many workers fit on the nodes that train, as if nothing else ran there."""
    return sum(workers_on(settings, node) for node in nodes_for("train"))


def first_count(settings: Train) -> int:
    """Return the number of workers that a run starts with: as many as fit, if it may use fewer than it asks for."""
    return next_count(settings.worker_counts, n_that_fit(settings), {}) or settings.workers


def next_count(counts: Sequence[int], room: int, failed: Mapping[int, int]) -> int | None:
    """Return the largest number of workers to try next; None if all have failed.

    Args:
        counts: numbers of workers that share a batch evenly, the largest first.
        room: how many workers fit on the cluster. The smallest number is always tried, because a node may join.
        failed: how often each number could not be started since the run last made progress.
    """
    least = counts[-1]
    candidates = (
        count
        for count in counts
        if count <= max(room, least) and failed.get(count, 0) < (_LAST_TRIES if count == least else 1)
    )
    return next(candidates, None)


def could_be_more(settings: Train, n_workers: int) -> bool:
    """Return whether enough is free that a run with fewer workers than it asked for could have more."""
    more = [count for count in settings.worker_counts if count > n_workers]
    return bool(more) and n_workers + sum(workers_on(settings, node) for node in free_for("train")) >= more[-1]


def workers_on(settings: Train, node: Mapping[str, float], gpu_share: float = 1.0) -> int:
    """Return how many workers fit on a node's CPUs and GPUs.

    Args:
        gpu_share: share of a GPU for each worker; it lies on a single GPU.
    """
    by_cpu = int(node["CPU"] / settings.cpus_per_worker + 1e-9)
    by_gpu = int(node["GPU"] + 1e-9) * int(1 / gpu_share + 1e-9)
    return min(by_cpu, by_gpu) if settings.use_gpu else by_cpu
