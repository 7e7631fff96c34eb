"""Count a job's work for Prometheus; Ray exports the counts on every node's metrics port.

`ray_hcl_items_total` counts videos, clips, pairs and episodes of a phase, `ray_hcl_trials_total` trials by their final
state, and `ray_hcl_clips_per_second` is the speed of a run's last epoch. Rates are computed in Prometheus by
rate(...[1m]). Without Ray nothing is counted.
"""

from __future__ import annotations

import functools
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge


def items(phase: str, unit: str, n: int) -> None:
    """Count finished items of a phase."""
    if ray.is_initialized():
        _counter("hcl_items", "items of a phase that are done", ("phase", "unit")).inc(n, _tags(phase=phase, unit=unit))


def trial_ended(study: str, state: str) -> None:
    """Count a trial that ended as `complete` or `failed`."""
    if ray.is_initialized():
        _counter("hcl_trials", "trials that have ended", ("study", "state")).inc(1, _tags(study=study, state=state))


def epoch_ended(run: str, row: dict[str, Any]) -> None:
    """Set the metrics of an epoch, in the worker that reports them."""
    if ray.is_initialized() and "clips_per_second" in row:
        gauge = _gauge("hcl_clips_per_second", "clips of a worker in the last epoch of a run", ("run",))
        gauge.set(float(row["clips_per_second"]), _tags(run=run))


def _tags(**values: str) -> dict[str, str]:
    """Return the values in ASCII, as Ray requires: `ü` is written as `\\xfc`, so that names stay distinct."""
    return {name: value.encode("ascii", "backslashreplace").decode() for name, value in values.items()}


@functools.cache
def _counter(name: str, description: str, tags: tuple[str, ...]) -> Counter:
    return Counter(name, description=description, tag_keys=tags)


@functools.cache
def _gauge(name: str, description: str, tags: tuple[str, ...]) -> Gauge:
    return Gauge(name, description=description, tag_keys=tags)
