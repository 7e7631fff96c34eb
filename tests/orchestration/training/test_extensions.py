"""Run the example of hcl/EXTENSIONS.md as printed: train on two workers, sweep its setting, evaluate, report."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml

from hcl.assembly.experiment_files import load_resolved
from hcl.errors import ConfigError
from orchestration import api
from orchestration.cli import app
from orchestration.clusters.submission import check_command
from tests.architecture.pages import ROOT, read_page
from tests.orchestration.conftest import TINY

PAGE = ROOT / "hcl" / "EXTENSIONS.md"
OF_THE_PAGE = ("name", "model.backbone", "model.train_backbone", "model.weights")
SMALL = {path: value for path, value in TINY.items() if path not in OF_THE_PAGE} | {
    "train.epochs": 1,
    "train.val_shot": 1,
    "evaluation.datasets": [],
    "train.val_fusions": 0,
    "train.episode_way": 2,
    "train.episode_queries": 2,
    "train.episodes_per_step": 2,
}


def printed(language: str, n: int = 0) -> str:
    return str(re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[n])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extensions")
    (folder / "mine.py").write_text(printed("python"))
    (folder / "mine.yaml").write_text(printed("yaml"))
    (folder / "margin.yaml").write_text(printed("yaml", 1))
    return folder


@pytest.fixture(scope="module")
def places(local_ray: ModuleType, data_root: Path, folder: Path) -> dict[str, Any]:
    return {"data": data_root, "runs": folder / "runs"}


@pytest.fixture(scope="module")
def run(folder: Path, places: dict[str, Any]) -> api.TrainedRun:
    return api.train(folder / "mine.yaml", {**SMALL, "train.workers": 2}, **places)


def test_the_example_is_short() -> None:
    assert len([line for line in printed("python").splitlines() if line.strip()]) < 60
    assert len(read_page(PAGE).python) == 1


@pytest.mark.ray
def test_it_trains_on_two_workers_and_its_folder_has_the_code(run: api.TrainedRun, folder: Path) -> None:
    assert run.epochs["epoch"].tolist() == [1]
    assert (run.folder / "mine.py").read_text() == printed("python")
    settings = yaml.safe_load((run.folder / "experiment.yaml").read_text())
    assert settings["train"]["regime"] == "./mine.py:MarginNet" and settings["regime"] == {"margin": 0.25}
    assert load_resolved(run.folder / "experiment.yaml").digest() == run.experiment.digest()


@pytest.mark.ray
def test_it_is_evaluated_beside_the_other_methods_and_reported(
    run: api.TrainedRun, places: dict[str, Any], tmp_path: Path
) -> None:
    found = api.evaluate(run.folder, methods=["MarginNet", "LastFrame", "prototype"], **places)
    accuracies = {(record.method, record.shot): record.accuracy for record in found.records}
    assert {method for method, _ in accuracies} == {"MarginNet", "LastFrame", "prototype"} and len(accuracies) == 6
    assert all(0 <= accuracy <= 1 for accuracy in accuracies.values())
    api.report(run.folder, to=tmp_path / "page")
    text = next((tmp_path / "page").glob("*.html")).read_text()
    assert "MarginNet" in text and "LastFrame" in text


@pytest.mark.ray
def test_its_setting_is_searched(folder: Path, places: dict[str, Any]) -> None:
    settings = {**SMALL, "name": "margins", "train.val_episodes": 5}
    found = api.sweep(
        folder / "mine.yaml", folder / "margin.yaml", settings, trials=2, seed=1, stop_rule="none", **places
    )
    margins = found.trials["params.regime.margin"].tolist()
    assert found.trials["state"].tolist() == ["complete", "complete"] and len(set(margins)) == 2
    assert found.best.regime.margin in margins  # type: ignore[attr-defined]


@pytest.mark.ray
def test_changed_code_is_another_experiment(run: api.TrainedRun, folder: Path, places: dict[str, Any]) -> None:
    changed = folder / "changed"
    changed.mkdir()
    (changed / "mine.py").write_text(printed("python").replace("tensor(10.0)", "tensor(20.0)"))
    (changed / "mine.yaml").write_text(printed("yaml"))
    with pytest.raises(ConfigError, match=r"train\.regime MarginNet \([0-9a-f]{12}\) there, MarginNet \("):
        api.train(changed / "mine.yaml", {**SMALL, "train.workers": 2}, **places)


def test_submit_packs_the_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group, at = typer.main.get_command(app), ["--data", "/d", "--runs", "/r"]
    command = check_command(group, ["train", str(folder / "mine.yaml"), *at])  # type: ignore[arg-type]
    packed = {Path(place).name: path for place, path in command.files.items()}
    assert packed == {"mine.yaml": folder / "mine.yaml", "mine.py": folder / "mine.py"}
    assert len({Path(place).parent for place in command.files}) == 1
    monkeypatch.chdir(folder)
    words = ["train", "demo", "--set", "train.regime=./mine.py:MarginNet", *at]
    command = check_command(group, words)  # type: ignore[arg-type]
    (place,) = command.files
    assert command.files[place] == folder / "mine.py" and f"train.regime={place}:MarginNet" in command.words
