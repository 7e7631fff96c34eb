"""Convert records for a tracking server: a run's parameters, metrics by step, and tags."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from results.errors import RecordError
from results.records.moments import milliseconds
from results.records.settings import settings_of
from results.records.store import Results
from results.tables.cells import MARKED


class Metric(NamedTuple):
    """Hold one value; `at` is in milliseconds since 1970, None if the record does not tell."""

    name: str
    value: float
    step: int = 0
    at: int | None = None


@dataclass(frozen=True)
class Tracked:
    """Describe a run or a trial.

    Attributes:
        identity: its name on a server, independent of the time and place at which its folder is read; it changes if the
            run is started over.
        parent: identity of a trial's study.
        state: finished, running or failed.
        began, ended: milliseconds since 1970.
    """

    identity: str
    name: str
    parameters: dict[str, str]
    metrics: list[Metric]
    tags: dict[str, str]
    state: str = "finished"
    began: int | None = None
    ended: int | None = None
    parent: str | None = None


def tracked_runs(loaded: Results) -> Iterator[Tracked]:
    """Yield every run: its settings as parameters, its epochs by their step, and its evaluations."""
    for run in loaded.runs.to_dict("records"):
        fields = {str(name): value for name, value in run.items() if _is_known(value)}
        text = fields.pop("experiment", None)
        try:
            settings = settings_of(text) if text else {}
        except RecordError:
            settings = {}
        epochs = loaded.epochs[loaded.epochs["run"] == run["run"]]
        evaluations = loaded.evaluations[loaded.evaluations["run"] == run["run"]]
        metrics = [metric for row in epochs.to_dict("records") for metric in _of_epoch(row)]
        metrics += [metric for record in evaluations.to_dict("records") for metric in _of_evaluation(record)]
        began = fields.get("started", "")
        yield Tracked(
            identity=_identity("run", run["run"], _first_digest(fields), began),
            name=run["run"],
            parameters={path: _text(value) for path, value in settings.items()},
            metrics=metrics,
            tags={name: _text(value) for name, value in fields.items()},
            state="finished" if "finished" in fields or not began else "running",
            began=milliseconds(began),
            ended=milliseconds(fields.get("finished", "")),
        )


def tracked_studies(loaded: Results) -> Iterator[Tracked]:
    """Yield every study and, after it, its trials: sampled values as parameters, the objective as a metric."""
    for study in loaded.sweeps.to_dict("records"):
        fields = {str(name): value for name, value in study.items() if _is_known(value)}
        identity = _identity("study", study["sweep"], fields.get("experiment_digest", ""), fields.get("seed", ""))
        objective = str(fields.get("objective", "objective"))
        best = [Metric(f"best {objective}", float(fields["best_value"]))] if "best_value" in fields else []
        tags = {name: _text(value) for name, value in fields.items() if name not in ("space", "importances", "pareto")}
        yield Tracked(identity, study["sweep"], {}, best, tags)
        for trial in loaded.trials[loaded.trials["sweep"] == study["sweep"]].to_dict("records"):
            values = {str(name): value for name, value in trial.items() if _is_known(value)}
            metrics = [Metric(objective, float(values["value"]), values.get("epochs", 0))] if "value" in values else []
            yield Tracked(
                identity=_identity("trial", identity, values["trial"]),
                name=f"{study['sweep']} {values['trial']}",
                parameters={n.removeprefix("params."): _text(v) for n, v in values.items() if n.startswith("params.")},
                metrics=metrics,
                tags={name: _text(values[name]) for name in ("trial", "state", "error", "log") if name in values},
                state=values["state"] if values["state"] in ("running", "failed") else "finished",
                parent=identity,
            )


def _first_digest(fields: Mapping[str, Any]) -> str:
    """Return the digest of the settings with which a run was started, before it was trained further."""
    extended = fields.get("extended") or [{}]
    return str(extended[0].get("digest", fields.get("digests.experiment", "")))


def _of_epoch(row: Mapping[Any, Any]) -> Iterator[Metric]:
    for name, value in row.items():
        if name not in ("run", "epoch") and _is_known(value) and isinstance(value, (int, float)):
            yield Metric(str(name), float(value), int(row["epoch"]))


def _of_evaluation(record: Mapping[Any, Any]) -> Iterator[Metric]:
    """Yield accuracy, intervals and levels, under a name that holds the cell; marks are written out in it."""
    name_parts = [
        record["dataset"],
        record["partition"],
        f"{record['way']}way",
        f"{record['shot']}shot",
        record["method"],
    ]
    name_parts += [name for name, mark in MARKED.items() if record.get(name) == mark.value]
    at = milliseconds(record["created"])
    for name in ("accuracy", "ci95", "ci95_classes", "ci95_videos", *(n for n in record if n.startswith("levels."))):
        if _is_known(record.get(name)):
            yield Metric("/".join(map(str, [*name_parts, name])), float(record[name]), 0, at)


def _identity(*parts: Any) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _is_known(value: Any) -> bool:
    return value is not None and (isinstance(value, (dict, list)) or value == value) and value != ""


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
