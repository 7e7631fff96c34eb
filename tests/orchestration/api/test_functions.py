"""Test the functions for Python: from frames to a page, with the files and records of the commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from hcl.assembly.experiment_files import load_resolved
from hcl.errors import ConfigError
from orchestration import api
from orchestration.training.run import Run
from tests.architecture.pages import ROOT, read_page
from tests.orchestration.conftest import tiny_experiment

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def places(local_ray: ModuleType, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"data": data_root, "runs": tmp_path_factory.mktemp("api")}


@pytest.fixture(scope="module")
def run(places: dict[str, Any]) -> api.TrainedRun:
    return api.train(tiny_experiment(), {"name": "first", "train.epochs": 2}, **places)


def test_a_training_returns_its_epochs_and_a_repeated_one_does_not_train(
    run: api.TrainedRun, places: dict[str, Any]
) -> None:
    assert run.folder == places["runs"] / "first" and run.experiment == load_resolved(run.folder / "experiment.yaml")
    assert run.epochs["epoch"].tolist() == [1, 2]
    assert run.best["val_accuracy"] == run.epochs["val_accuracy"].max()
    written = (run.folder / "checkpoints" / "last.pt").stat().st_mtime_ns
    again = api.train(tiny_experiment(), ["name=first", "train.epochs=2"], **places)
    assert (run.folder / "checkpoints" / "last.pt").stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(again.epochs, run.epochs)


def test_an_evaluation_returns_its_own_records_only(run: api.TrainedRun, places: dict[str, Any]) -> None:
    api.evaluate(run.folder, settings=["evaluation.shots=[3]"], **places)
    found = api.evaluate("first", settings={"evaluation.shots": [1]}, methods=["hcl", "prototype"], **places)
    assert [(record.method, record.shot) for record in found.records] == [("hcl", 1), ("prototype", 1)]
    assert sorted(found.frame["method"]) == ["hcl", "prototype"] and set(found.frame["shot"]) == {1}
    accuracies = {record.method: record.accuracy for record in found.records}
    assert dict(zip(found.frame["method"], found.frame["accuracy"], strict=True)) == pytest.approx(accuracies)
    everything = api.load_results(run.folder).evaluations
    assert sorted(everything["shot"]) == [1, 1, 3]


def test_a_fusion_is_chosen_on_val_and_evaluated_on_test(run: api.TrainedRun, places: dict[str, Any]) -> None:
    found = api.fuse(run.folder, trials=20, **places)
    assert found.search.n_trials == 20 and "hcl fused" in found.records
    assert {record.partition for of_label in found.records.values() for record in of_label} == {"test"}
    fused = api.evaluate(run.folder, fused=True, **places)
    assert [record.method for record in fused.records] == ["hcl fused"] * 2


def test_a_study_returns_its_trials_and_the_best_experiment(places: dict[str, Any]) -> None:
    found = api.sweep(
        tiny_experiment(), "d_model", {"name": "study", "train.epochs": 1, "train.val_episodes": 10},
        trials=2, seed=1, stop_rule="none", **places,
    )  # fmt: skip
    assert found.trials["state"].tolist() == ["complete", "complete"] and found.record.objective == "val_accuracy"
    best = found.trials.set_index("trial").loc[found.record.best_trial]
    assert found.best.model.d_model == best["params.model.d_model"]
    assert load_resolved(found.folder / "best.yaml") == found.best


def test_predictions_are_rows_of_the_queries(run: api.TrainedRun, places: dict[str, Any], tmp_path: Path) -> None:
    images = places["data"] / "images" / "toy"
    for class_name in ("hen", "jay"):
        (tmp_path / "support" / class_name).mkdir(parents=True)
        shutil.copytree(images / class_name / f"{class_name}_0", tmp_path / "support" / class_name / "one")
    found = api.predict(
        run.folder, tmp_path / "support", images / "hen" / "hen_1", images / "jay" / "jay_2", to=tmp_path / "to",
        calibrated_on=None, **places,
    )  # fmt: skip
    assert [Path(name).name for name in found.frame["query"]] == ["hen_1", "jay_2"] and set(found.frame["answer"]) <= {
        "hen",
        "jay",
    }
    assert found.frame["confidence"].isna().all() and (tmp_path / "to" / "page.html").exists()


def test_a_report_has_the_run(run: api.TrainedRun, places: dict[str, Any], tmp_path: Path) -> None:
    api.evaluate(run.folder, **places)
    made = api.report(run.folder, to=tmp_path / "page", title="From Python")
    text = made.page.read_text()
    assert "From Python" in text and "first" in text


def test_wrong_use_is_an_error_with_a_remedy(run: api.TrainedRun, places: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="unknown method 'hlc'"):
        api.evaluate(run.folder, methods=["hlc"], **places)
    with pytest.raises(ConfigError, match="would evaluate another model"):
        api.evaluate(run.folder, settings={"model.d_model": 8}, **places)
    with pytest.raises(ConfigError, match="nothing to evaluate"):
        api.evaluate(**places)
    with pytest.raises(ConfigError, match="is not a run"):
        api.fuse("second", **places)


def test_a_run_of_the_command_is_read(trained: Run) -> None:
    found = api.evaluate(trained.folder, settings=["evaluation.shots=[1]"], data=trained.data.path, runs=trained.runs)
    assert [record.shot for record in found.records] == [1]


def in_a_process(code: str, folder: Path) -> str:
    """Run code as a notebook would, in an empty folder, with a Ray of its own; return what it prints."""
    paths = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={**os.environ, **paths}, capture_output=True, text=True,
        timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.long
def test_the_notebook_goes_from_videos_to_a_table(tmp_path: Path) -> None:
    """The cells are those of the page, so that one run tests both."""
    notebook = json.loads((ROOT / "orchestration" / "first_table.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    (example,) = read_page(ROOT / "orchestration" / "PYTHON.md").python
    assert "\n".join(cells).split() == example.split()
    out = in_a_process("\n".join(cells), tmp_path)
    assert "prototype" in out and "ci95_classes" in out and out.count("\n") >= 6
    assert (tmp_path / "page" / "index.html").stat().st_size > 10_000
