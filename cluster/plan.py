"""Estimate the duration and the storage of a study and an evaluation on a cluster from measured unit costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cluster.description import N_TRIAL_DRIVERS
from cluster.errors import DescriptionError


@dataclass(frozen=True)
class UnitCosts:
    """Hold the costs measured in one run on its machine. Times are in seconds, sizes in bytes.

    Attributes:
        clip_s: time of one worker to train on one clip.
        val_s: time of one worker to validate once.
        pair_s: time of one actor to score a pair of clips, with its share of encoding; None without an evaluation.
        run_bytes: size of a run's folder, without its evaluations.
        feature_bytes, table_bytes: size of a clip's features, and of a pair in a score table; None without them.
    """

    clip_s: float
    val_s: float
    pair_s: float | None
    run_bytes: float
    feature_bytes: float | None
    table_bytes: float | None


@dataclass(frozen=True)
class Task:
    """Describe the study and the evaluation to plan.

    Attributes:
        clips_per_epoch: clips on which all workers of a trial train together.
        speed: speed of a worker there, relative to the machine of the measurement.
        start_s: time of a trial besides its epochs, for processes, imports and models.
        n_datasets, n_clips: number of evaluated data sets for one checkpoint, and clips of each.
    """

    n_trials: int
    workers: int
    epochs: int
    clips_per_epoch: int
    n_datasets: int = 0
    n_clips: int = 0
    speed: float = 1.0
    start_s: float = 30.0


@dataclass(frozen=True)
class Plan:
    """Hold the estimate. Times are in seconds, sizes in bytes.

    Attributes:
        concurrency: number of trials at once; limited_by names the limit.
        rounds: number of times that so many trials are started, if none is stopped early.
    """

    concurrency: int
    limited_by: str
    rounds: int
    trial_s: float
    study_s: float
    evaluation_s: float | None
    study_bytes: float
    feature_bytes: float
    table_bytes: float


def plan(costs: UnitCosts, task: Task, *, n_nodes: int, per_node: int) -> Plan:
    """Plan for a cluster of equal nodes, each with room for `per_node` workers, one for each GPU.

    The plan assumes that no trial is stopped early, no node fails, and workers divide an epoch's work without loss.

    Raises:
        DescriptionError: a trial does not fit.
    """
    if task.workers > n_nodes * per_node:
        raise DescriptionError(
            f"a trial of {task.workers} workers does not fit on {n_nodes} x {per_node}",
            where="--workers",
            remedy="give fewer workers, or more nodes",
        )
    limits = {"trials": task.n_trials}
    if task.workers <= per_node:
        limits["workers on a node"] = n_nodes * (per_node // task.workers)
    else:
        limits["workers"] = n_nodes // math.ceil(task.workers / per_node)
    if task.workers > 1:
        limits["trial_driver of the head"] = N_TRIAL_DRIVERS
    limited_by = min(limits, key=lambda name: limits[name])
    concurrency = limits[limited_by]
    rounds = math.ceil(task.n_trials / concurrency)
    epoch_s = (task.clips_per_epoch * costs.clip_s + costs.val_s) / task.workers / task.speed
    trial_s = task.start_s + task.epochs * epoch_s
    n_pairs = task.n_datasets * task.n_clips**2
    evaluation_s = None
    if costs.pair_s is not None and n_pairs:
        evaluation_s = task.start_s + n_pairs * costs.pair_s / (n_nodes * per_node * task.speed)
    return Plan(
        concurrency,
        limited_by,
        rounds,
        trial_s,
        rounds * trial_s,
        evaluation_s,
        study_bytes=task.n_trials * costs.run_bytes,
        feature_bytes=task.n_datasets * task.n_clips * (costs.feature_bytes or 0.0),
        table_bytes=n_pairs * (costs.table_bytes or 0.0),
    )
