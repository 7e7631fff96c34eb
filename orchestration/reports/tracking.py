"""`hcl results track`: records to an MLflow server, after the fact.

Training itself writes TensorBoard events beside its records and talks to no server: one that is away, slow or full
must not stop a run, and a run on a node without a way out can be tracked later. Pushing again adds what is new.
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
"""The tag by which a run is found again on a server."""
_PARAMETER_LENGTH, _TAG_LENGTH = 6000, 5000  # MLflow's own bounds
_BATCH = 500  # values sent at a time; MLflow takes up to 1,000 metrics, 100 parameters and 100 tags
_STATES = {"finished": "FINISHED", "running": "RUNNING", "failed": "FAILED"}


class Pushed(NamedTuple):
    """What became of a run or trial on the server."""

    name: str
    run_id: str
    is_new: bool
    n_metrics: int  # sent now


def push(
    entries: Iterable[Tracked], uri: str, experiment: str, on_entry: Callable[[Pushed], None] | None = None
) -> list[Pushed]:
    """Send runs and trials to the MLflow experiment of that name, which is made if it does not exist.

    What the server has already is not sent again. A study has to come before its trials.

    Args:
        uri: http(s)://..., sqlite:///FILE or what else MLflow tracks to.

    Raises:
        ConfigError: MLflow is not installed.
        StorageError: the server cannot be reached, or refuses.
    """
    client, failures = _client(uri)
    pushed: list[Pushed] = []
    ids: dict[str, str] = {}  # of the server, by identity
    with _told(uri, failures):
        place = client.get_experiment_by_name(experiment)
        place_id = place.experiment_id if place else client.create_experiment(experiment)
        for entry in entries:
            one = _push(client, place_id, entry, ids)
            ids[entry.identity] = one.run_id
            pushed.append(one)
            if on_entry is not None:
                on_entry(one)
    return pushed


def _client(uri: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """MLflow's client, and what it raises where a server fails."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a trial
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would tell its makers of what is logged
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its default waits for minutes
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
    with _told(uri, failures):
        return MlflowClient(tracking_uri=uri), failures


@contextmanager
def _told(uri: str, failures: tuple[type[Exception], ...]) -> Any:
    try:
        yield
    except failures as error:
        first = str(error).split(". ")[0].splitlines()[0]
        raise StorageError(
            f"cannot be tracked to: {first}",
            where=uri,
            remedy="give the address of a running MLflow server (http://HOST:PORT), or sqlite:///FILE",
        ) from error


def _push(client: Any, place_id: str, entry: Tracked, ids: dict[str, str]) -> Pushed:
    from mlflow.entities import Metric as Logged
    from mlflow.entities import Param, RunTag

    found = client.search_runs([place_id], f"tags.`{IDENTITY}` = '{entry.identity}'", max_results=1)
    tags = {IDENTITY: entry.identity, **{f"hcl.{_name(name)}": value for name, value in entry.tags.items()}}
    if entry.parent in ids:
        tags["mlflow.parentRunId"] = ids[entry.parent]
    run = found[0] if found else client.create_run(place_id, entry.began, run_name=entry.name)
    run_id = run.info.run_id
    now = entry.ended or milliseconds(results.now()) or 0
    logged = [
        Logged(one.name, one.value, now if one.at is None else one.at, one.step) for one in _missing(client, run, entry)
    ]
    parameters = [Param(_name(name), value[:_PARAMETER_LENGTH]) for name, value in entry.parameters.items()]
    parameters = [one for one in parameters if one.key not in run.data.params]
    for start in range(0, len(logged), _BATCH):
        client.log_batch(run_id, metrics=logged[start : start + _BATCH])
    for start in range(0, len(parameters), 100):
        client.log_batch(run_id, params=parameters[start : start + 100])
    known = [RunTag(name, value[:_TAG_LENGTH]) for name, value in tags.items() if run.data.tags.get(name) != value]
    for start in range(0, len(known), 100):
        client.log_batch(run_id, tags=known[start : start + 100])
    state = _STATES[entry.state]
    if state == "RUNNING":
        client.update_run(run_id, status=state)
    else:
        client.set_terminated(run_id, status=state, end_time=entry.ended)
    return Pushed(entry.name, run_id, not found, len(logged))


def _missing(client: Any, run: Any, entry: Tracked) -> list[Metric]:
    """The values that the server lacks: of an evaluation that was done again it has another, or an older one."""
    there: dict[str, Any] = {}
    missing = []
    for metric in (one._replace(name=_name(one.name)) for one in entry.metrics):
        if metric.name not in there:
            is_known = metric.name in run.data.metrics
            there[metric.name] = client.get_metric_history(run.info.run_id, metric.name) if is_known else []
        if not any(
            (one.step, one.value) == (metric.step, metric.value) and metric.at in (None, one.timestamp)
            for one in there[metric.name]
        ):
            missing.append(metric)
    return missing


def _name(text: str) -> str:
    """What MLflow allows in a name: letters, digits and some signs, at most 250 of them."""
    return re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII)[:250]
