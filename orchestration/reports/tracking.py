"""Send records to an MLflow server after the fact: `hcl results track`.

Training itself writes TensorBoard events beside its records and talks to no server, because an unreachable, slow or
full server must not stop a run, and because a run on a node without a network can be tracked later. A repeated push
sends only what is new.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any, NamedTuple

import results
from hcl.errors import ConfigError, StorageError
from results.exports.tracked import Metric, Tracked
from results.records.moments import milliseconds

IDENTITY = "hcl.identity"
"""The tag that identifies a run on a server."""
_PARAMETER_LENGTH, _TAG_LENGTH = 6000, 5000  # MLflow's limits
_BATCH = 500  # values sent at a time; MLflow takes up to 1,000 metrics, 100 parameters and 100 tags
_STATES = {"finished": "FINISHED", "running": "RUNNING", "failed": "FAILED"}


class Pushed(NamedTuple):
    """Describe what was sent of a run or trial to the server."""

    name: str
    run_id: str
    is_new: bool
    n_metrics: int  # sent now


def push(
    entries: Iterable[Tracked], uri: str, experiment: str, on_entry: Callable[[Pushed], None] | None = None
) -> list[Pushed]:
    """Send runs and trials to the MLflow experiment of that name, and create it if it does not exist.

    Values that the server has already are not sent again. A study must come before its trials.

    Args:
        uri: http(s)://HOST, sqlite:///FILE or any other tracking URI of MLflow.

    Raises:
        ConfigError: if MLflow is not installed.
        StorageError: if the server cannot be reached, or refuses.
    """
    client, failures = _client(uri)
    pushed: list[Pushed] = []
    ids: dict[str, str] = {}  # run ids of the server, by identity
    with _failures_as_storage_errors(uri, failures):
        place = client.get_experiment_by_name(experiment)
        place_id = place.experiment_id if place else client.create_experiment(experiment)
        for entry in entries:
            sent = _push(client, place_id, entry, ids)
            ids[entry.identity] = sent.run_id
            pushed.append(sent)
            if on_entry is not None:
                on_entry(sent)
    return pushed


def _client(uri: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """Return MLflow's client, and the exceptions that it raises if a server fails."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # avoids two lines for each trial
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would report usage to its makers
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the default waits for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise ConfigError(
            "MLflow is not installed", where="--to", remedy="pip install 'hcl-orchestrator[mlflow]'"
        ) from error
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    failures = (MlflowException, SQLAlchemyError, OSError)
    with _failures_as_storage_errors(uri, failures):
        return MlflowClient(tracking_uri=uri), failures


@contextmanager
def _failures_as_storage_errors(uri: str, failures: tuple[type[Exception], ...]) -> Any:
    try:
        yield
    except failures as error:
        first = str(error).split(". ")[0].splitlines()[0]
        raise StorageError(
            f"cannot be used for tracking: {first}",
            where=uri,
            remedy="use the address of a running MLflow server (http://HOST:PORT), or sqlite:///FILE",
        ) from error


def _push(client: Any, place_id: str, entry: Tracked, ids: dict[str, str]) -> Pushed:
    from mlflow.entities import Metric as Logged
    from mlflow.entities import Param, RunTag

    existing = client.search_runs([place_id], f"tags.`{IDENTITY}` = '{entry.identity}'", max_results=1)
    tags = {IDENTITY: entry.identity, **{f"hcl.{_name(name)}": value for name, value in entry.tags.items()}}
    if entry.parent in ids:
        tags["mlflow.parentRunId"] = ids[entry.parent]
    run = existing[0] if existing else client.create_run(place_id, entry.began, run_name=entry.name)
    run_id = run.info.run_id
    now = entry.ended or milliseconds(results.now()) or 0
    logged = [
        Logged(metric.name, metric.value, now if metric.at is None else metric.at, metric.step)
        for metric in _missing(client, run, entry)
    ]
    parameters = [Param(_name(name), value[:_PARAMETER_LENGTH]) for name, value in entry.parameters.items()]
    parameters = [parameter for parameter in parameters if parameter.key not in run.data.params]
    for start in range(0, len(logged), _BATCH):
        client.log_batch(run_id, metrics=logged[start : start + _BATCH])
    for start in range(0, len(parameters), 100):
        client.log_batch(run_id, params=parameters[start : start + 100])
    new_tags = [RunTag(name, value[:_TAG_LENGTH]) for name, value in tags.items() if run.data.tags.get(name) != value]
    for start in range(0, len(new_tags), 100):
        client.log_batch(run_id, tags=new_tags[start : start + 100])
    state = _STATES[entry.state]
    if state == "RUNNING":
        client.update_run(run_id, status=state)
    else:
        client.set_terminated(run_id, status=state, end_time=entry.ended)
    return Pushed(entry.name, run_id, not existing, len(logged))


def _missing(client: Any, run: Any, entry: Tracked) -> list[Metric]:
    """Return the values that the server lacks; for a repeated evaluation it may have other or older ones."""
    there: dict[str, Any] = {}
    missing = []
    for metric in (metric._replace(name=_name(metric.name)) for metric in entry.metrics):
        if metric.name not in there:
            is_known = metric.name in run.data.metrics
            there[metric.name] = client.get_metric_history(run.info.run_id, metric.name) if is_known else []
        if not any(
            (logged.step, logged.value) == (metric.step, metric.value) and metric.at in (None, logged.timestamp)
            for logged in there[metric.name]
        ):
            missing.append(metric)
    return missing


def _name(text: str) -> str:
    """Return a name that MLflow allows: letters, digits and some signs, at most 250 characters."""
    return re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII)[:250]
