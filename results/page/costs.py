"""What runs and studies cost: hours of CPUs and GPUs, from the seconds that the records hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from results.records.moments import seconds_between

_HOUR = 3600.0


class Cost(NamedTuple):
    """Hours. `is_bound`: at most so much, because the records do not say how many of a machine's CPUs were used."""

    cpu_hours: float = 0.0
    gpu_hours: float = 0.0
    is_bound: bool = False

    def plus(self, other: Cost) -> Cost:
        return Cost(self.cpu_hours + other.cpu_hours, self.gpu_hours + other.gpu_hours, self.is_bound or other.is_bound)


def training_cost(run: Mapping[str, Any], epochs: pd.DataFrame) -> Cost | None:
    """Of a run's epochs: seconds of training and validation times what the run held; None where nothing is known.

    Args:
        run: a row of `Results.runs`.
        epochs: the rows of `Results.epochs` of this run.
    """
    columns = [name for name in ("train_seconds", "val_seconds") if name in epochs]
    seconds = float(epochs[columns].sum().sum()) if len(epochs) else 0.0
    seconds = seconds or seconds_between(run.get("started"), run.get("finished")) or 0.0
    return _of(seconds, run) if seconds else None


def evaluation_cost(evaluations: pd.DataFrame) -> Cost | None:
    """Of a run's evaluations: seconds of their actors, each of which held a CPU, or a GPU besides."""
    known = evaluations.dropna(subset=["seconds"])
    if known.empty:
        return None
    on_gpu = known["on_gpu"].fillna(False).astype(bool)
    return Cost(float(known["seconds"].sum()) / _HOUR, float(known["seconds"][on_gpu].sum()) / _HOUR)


def sweep_cost(sweep: Mapping[str, Any], trials: pd.DataFrame, run: Mapping[str, Any]) -> Cost | None:
    """Of a study: seconds of its trials times what each of them held.

    Args:
        run: the row of `Results.runs` of the study's folder; empty where it has none.
    """
    held = sweep["resources"] if isinstance(sweep.get("resources"), dict) else {}
    if held and trials["seconds"].notna().any():
        return _of(float(trials["seconds"].sum()), {f"resources.{name}": value for name, value in held.items()})
    seconds: Any = seconds_between(run.get("started"), run.get("finished")) or sweep.get("seconds")
    return _of(float(seconds), run) if is_known(seconds) else None


def is_known(value: Any) -> bool:
    return value is not None and value == value and value != ""  # NaN is not equal to itself


def _of(seconds: float, run: Mapping[str, Any]) -> Cost | None:
    cpus, gpus = run.get("resources.cpus"), run.get("resources.gpus")
    if is_known(cpus):
        return Cost(seconds * float(cpus) / _HOUR, seconds * float(gpus if is_known(gpus) else 0) / _HOUR)  # type: ignore[arg-type]
    machine = run.get("hardware.cpus")
    return Cost(seconds * float(machine) / _HOUR, 0.0, is_bound=True) if is_known(machine) else None  # type: ignore[arg-type]
