"""Test that files of an earlier version are read and resumed: a data set, caches, runs and a study of commit 8b5efe4.

`tests/golden/earlier/files.tar.xz` holds the files of these commands (ResNet-18 with weights of a short pattern, so
that the archive stays small; previous checkpoints and TensorBoard files are left out):

    hcl extract toy; hcl train tiny.yaml; hcl evaluate runs/tiny; hcl train whole.yaml
    hcl train stopped.yaml        # killed after its first epoch of twelve; whole.yaml is the same without the kill
    hcl sweep study.yaml --space weights_space.yaml --trials 2 --sampler tpe
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from types import ModuleType

import pytest

import results
from tests.conftest import ROOT
from tests.orchestration.conftest import Command, tree

pytestmark = pytest.mark.ray
N_EPOCHS = 12


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ROOT / "tests" / "golden" / "earlier" / "files.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def here(earlier: Path, hcl: Command, local_ray: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command line in the folder of the files, on the session's Ray."""
    monkeypatch.chdir(earlier)
    return hcl


def test_frames_are_not_extracted_again(here: Command, earlier: Path) -> None:
    before = tree(earlier / "data")
    code, out, err = here("extract", "toy")
    assert code == 0, err
    assert "0 extracted, 50 there already" in out
    assert tree(earlier / "data") == before


def test_an_evaluation_is_answered_from_the_caches(here: Command, earlier: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sorted((earlier / "runs" / "cache").rglob("*"))}
    accuracies = {path: results.read_evaluation(path).accuracy for path in earlier.glob("runs/tiny/evaluation/*.json")}
    assert len(accuracies) == 2
    code, _, err = here("evaluate", "runs/tiny")
    assert code == 0, err
    assert "damaged" not in err
    assert {path: path.stat().st_mtime_ns for path in sorted((earlier / "runs" / "cache").rglob("*"))} == before
    assert {path: results.read_evaluation(path).accuracy for path in accuracies} == accuracies


def test_a_killed_run_is_resumed_from_its_checkpoint(here: Command, earlier: Path) -> None:
    first = results.read_epochs(earlier / "runs" / "stopped")
    assert len(first) == 1
    code, _, err = here("train", "stopped.yaml")
    own = earlier / "runs" / "stopped" / "experiment.yaml"
    assert code == 2 and "loss.cycle_temperature 1.0 there, 0.01 now" in err and f"hcl train {own}" in err
    code, _, err = here("train", own)
    assert code == 0, err
    resumed, whole = (results.read_epochs(earlier / "runs" / name) for name in ("stopped", "whole"))
    assert [row["epoch"] for row in resumed] == list(range(1, N_EPOCHS + 1))
    assert resumed[0] == first[0]
    # Another processor rounds differently, so the epoch after the checkpoint is close, not equal.
    assert resumed[1]["loss_total"] == pytest.approx(whole[1]["loss_total"], rel=1e-3)


def test_a_study_keeps_its_trials_and_gets_more(here: Command, earlier: Path) -> None:
    study = earlier / "runs" / "study"
    before = results.read_trials(study)
    assert [trial.state for trial in before] == ["complete", "complete"]
    options = ("--space", "weights_space.yaml", "--trials", "3", "--sampler", "tpe")
    code, out, err = here("sweep", "study.yaml", *options)
    own = study / "experiment.yaml"
    assert code == 2 and "another experiment" in err and f"hcl sweep {own}" in err
    code, out, err = here("sweep", own, *options)
    assert code == 0, err
    after = results.read_trials(study)
    assert after[:2] == before
    assert len(after) == 3
    assert after[2].state in ("complete", "pruned")
    assert "trial-0002" in out + err


def test_every_run_is_in_lists_and_on_a_page(here: Command, earlier: Path) -> None:
    code, out, err = here("results", "list", "runs")
    assert code == 0, err
    assert all(name in out for name in ("stopped", "study", "tiny", "whole"))
    assert "damaged" not in out + err
    code, _, err = here("report", "runs/tiny", "runs/stopped", "runs/study", "--to", "page")
    assert code == 0, err
    assert "tiny" in next((earlier / "page").glob("*.html")).read_text()
