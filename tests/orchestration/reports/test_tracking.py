"""Test tracking with a real MLflow store, a database on this machine."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import results
from hcl.assembly.experiment_files import to_yaml
from results.exports.tracked import tracked_runs, tracked_studies
from tests.orchestration.conftest import Command, tiny_experiment

MOMENT = "2026-01-01T00:00:00+00:00"
RECORD = results.EvaluationRecord(
    run="tiny", method="hcl", train_dataset="toy", dataset="toy", partition="test", way=5, shot=1, queries=4,
    episodes=300, seed=0, accuracy=0.5, ci95=0.01, levels={"global": 0.25}, created=MOMENT,
)  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Write a run of two epochs with an evaluation, and a study of two trials."""
    folder = tmp_path / "runs" / "tiny"
    origin = results.Provenance(command="hcl train tiny", revision="f" * 40, started=MOMENT, versions={"torch": "2"})
    results.write_provenance(folder, replace(origin, finished="2026-01-01T01:00:00+00:00"))
    (folder / "experiment.yaml").write_text(to_yaml(tiny_experiment()))
    for epoch in (1, 2):
        results.append_epoch(folder, {"epoch": epoch, "loss_total": 3.0 / epoch, "val_accuracy": 0.2 * epoch})
    results.write_evaluation(folder, RECORD)
    trials = [
        results.TrialRecord(trial="t0", params={"optim.lr": 0.1}, value=0.5, epochs=2),
        results.TrialRecord(trial="t1", params={"optim.lr": 0.2}, value=None, state="failed", error="not finite"),
    ]
    study = results.SweepRecord(name="s", space={}, objective="val_accuracy", best_value=0.5, n_trials=2)
    results.write_sweep(tmp_path / "runs" / "study", study, trials)
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/ml.db"


def on(server: str, experiment: str) -> dict[str, Any]:
    """Return the content of the store by run name, as the client reads it."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=server)
    place = client.get_experiment_by_name(experiment)
    return {run.info.run_name: run for run in client.search_runs([place.experiment_id])}


def history(server: str, run: Any, name: str) -> list[tuple[int, float]]:
    from mlflow.tracking import MlflowClient

    return [(metric.step, metric.value) for metric in MlflowClient(server).get_metric_history(run.info.run_id, name)]


def test_a_store_has_the_settings_metrics_and_provenance_of_the_records(hcl: Command, runs: Path, server: str) -> None:
    code, out, err = hcl("results", "track", "--to", server, "--experiment", "first")
    assert code == 0, err
    assert "4 runs and trials in first" in out and "4 new" in out
    by_name = on(server, "first")
    run = by_name["tiny"]
    assert run.data.params["model.d_model"] == "24" and run.data.params["evaluation.shots"] == "1, 3"
    assert history(server, run, "loss_total") == [(1, 3.0), (2, 1.5)]
    assert run.data.metrics["toy/test/5way/1shot/hcl/accuracy"] == 0.5
    assert run.data.metrics["toy/test/5way/1shot/hcl/levels.global"] == 0.25
    assert run.data.tags["hcl.command"] == "hcl train tiny" and run.data.tags["hcl.versions.torch"] == "2"
    assert (run.info.status, run.info.end_time - run.info.start_time) == ("FINISHED", 3_600_000)
    trial, failed = by_name["study t0"], by_name["study t1"]
    assert trial.data.params == {"optim.lr": "0.1"} and history(server, trial, "val_accuracy") == [(2, 0.5)]
    assert trial.data.tags["mlflow.parentRunId"] == by_name["study"].info.run_id
    assert failed.info.status == "FAILED" and failed.data.tags["hcl.error"] == "not finite"


def test_pushed_again_only_what_is_new_is_sent(hcl: Command, runs: Path, server: str) -> None:
    command = ("results", "track", "--to", server, "--experiment", "again")
    assert hcl(*command).code == 0
    code, out, _ = hcl(*command)
    assert code == 0 and "0 new, 0 values sent" in out
    results.append_epoch(runs / "tiny", {"epoch": 3, "loss_total": 1.0})
    results.write_evaluation(runs / "tiny", replace(RECORD, accuracy=0.6, created="2026-01-02T00:00:00+00:00"))
    code, out, _ = hcl(*command)
    assert code == 0 and "0 new, 4 values sent" in out  # loss, accuracy, and interval and level of another moment
    run = on(server, "again")["tiny"]
    assert history(server, run, "loss_total") == [(1, 3.0), (2, 1.5), (3, 1.0)]
    assert run.data.metrics["toy/test/5way/1shot/hcl/accuracy"] == 0.6


def test_a_run_that_was_begun_anew_is_another(runs: Path) -> None:
    [first] = tracked_runs(results.load(runs / "tiny"))
    origin = results.read_provenance(runs / "tiny")
    results.write_provenance(runs / "tiny", replace(origin, started="2026-02-01T00:00:00+00:00", finished=None))
    [second] = tracked_runs(results.load(runs / "tiny"))
    assert first.identity != second.identity and (first.state, second.state) == ("finished", "running")


def test_marks_are_spelt_out_in_a_metrics_name(runs: Path) -> None:
    peeked = replace(RECORD, protocol="published", leaks_labels=True)
    results.write_evaluation(runs / "tiny", peeked)
    [run] = tracked_runs(results.load(runs / "tiny"))
    names = {metric.name for metric in run.metrics if metric.name.endswith("accuracy") and "/" in metric.name}
    assert names == {"toy/test/5way/1shot/hcl/protocol/leaks_labels/accuracy"}


def test_studies_stand_before_their_trials(runs: Path) -> None:
    study, *trials = tracked_studies(results.load(runs))
    assert study.parent is None and {trial.parent for trial in trials} == {study.identity}


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "file:///tmp/none", "nonsense://x"])
def test_a_server_that_cannot_be_used_is_told_in_one_line(
    hcl: Command, runs: Path, server: str, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, _, err = hcl("results", "track", "--to", uri)
    assert code == 1 and "cannot be used for tracking" in err and "Traceback" not in err


def test_without_mlflow_the_remedy_is_named(hcl: Command, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", None)
    code, _, err = hcl("results", "track", "--to", "sqlite:///x.db")
    assert code == 2 and "pip install 'hcl-orchestrator[mlflow]'" in err
    code, _, err = hcl("results", "track")
    assert code == 2 and "give an MLflow server" in err
