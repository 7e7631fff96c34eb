"""How long a study and an evaluation take on a cluster, and how much they store: arithmetic on measured unit costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cluster.description import N_TRIAL_DRIVERS
from cluster.errors import DescriptionError


@dataclass(frozen=True)
class UnitCosts:
    """What was measured of one run, on the machine that it ran on. Times in seconds, sizes in bytes.

    Attributes:
        clip_s: of one worker, to train on one clip.
        val_s: of one worker, to validate once.
        pair_s: of one actor, to score a pair of clips, with its share of encoding them. None: nothing was evaluated.
        run_bytes: of a run's folder, without its evaluations.
        feature_bytes, table_bytes: of a clip's features, and of a pair in a score table. None: there are none.
    """

    clip_s: float
    val_s: float
    pair_s: float | None
    run_bytes: float
    feature_bytes: float | None
    table_bytes: float | None


@dataclass(frozen=True)
class Task:
    """What is to be done.

    Attributes:
        clips_per_epoch: that all workers of a trial train on together.
        speed: how much faster a worker is there than where it was measured.
        start_s: what a trial takes beside its epochs: processes, imports, models.
        n_datasets, n_clips: evaluated for one checkpoint, and clips of each.
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
    """Times in seconds, sizes in bytes.

    Attributes:
        concurrency: trials at once; limited_by says what sets it.
        rounds: how often that many are started, if none is stopped early.
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
    """Of a cluster of equal nodes, each with room for `per_node` workers, one for each GPU.

    No trial is taken to be stopped early, no node to fail; workers are taken to share an epoch's work without loss.

    Raises:
        DescriptionError: a trial does not fit.
    """
    if task.workers > n_nodes * per_node:
        raise DescriptionError(
            f"a trial of {task.workers} workers finds no room on {n_nodes} x {per_node}",
            where="--workers",
            remedy="ask for fewer workers, or more nodes",
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
