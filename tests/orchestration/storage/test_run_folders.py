"""Test how a run is found by name, path or STUDY/TRIAL, and what a message says where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcl.errors import ConfigError
from orchestration.storage.run_folders import run_folder, similar_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a folder with the runs `first` and `second`, and a study with two trials."""
    for name in ("first", "second", "study", "study/trials/trial-0001", "study/trials/trial-0002"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "experiment.yaml").write_text("")
    return tmp_path / "runs"


@pytest.mark.parametrize("run", ["first", "study/trial-0002"])
def test_a_run_is_found_by_its_name(run: str, runs: Path) -> None:
    assert (run_folder(Path(run), runs) / "experiment.yaml").exists()


@pytest.mark.parametrize(
    ("run", "meant"),
    [("frist", "first"), ("First", "first"), ("sutdy", "study"), ("study/trail-0002", "study/trial-0002")],
)
def test_a_run_that_is_misspelled(run: str, meant: str, runs: Path) -> None:
    with pytest.raises(ConfigError, match=f"is not a run: .*, did you mean `{meant}`?") as caught:
        run_folder(Path(run), runs)
    assert "runs in" in str(caught.value.remedy)


def test_a_misspelled_path_is_mended_in_its_own_folder(runs: Path) -> None:
    assert similar_run(runs / "secnd", Path("elsewhere")) == f", did you mean `{runs / 'second'}`?"


@pytest.mark.parametrize("run", ["nobody", "first"])
def test_nothing_is_meant_by_a_foreign_or_an_existing_name(run: str, runs: Path) -> None:
    assert similar_run(Path(run), runs) == ""


def test_a_message_names_only_some_of_many_runs(runs: Path) -> None:
    for number in range(30):
        (runs / f"run-{number:02}").mkdir()
        (runs / f"run-{number:02}" / "experiment.yaml").write_text("")
    with pytest.raises(ConfigError) as caught:
        run_folder(Path("nobody"), runs)
    remedy = str(caught.value.remedy)
    assert "first, run-00" in remedy and "run-15" not in remedy and "and 21 more: hcl results list" in remedy
