"""Test that --restart removes the files of commands in a folder, and nothing else."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

from orchestration.reports.reproduce import REPRODUCES
from orchestration.storage.clearing import OF_RUN, OF_STUDY, clear
from orchestration.sweeps.confirm import CONFIRMATION
from orchestration.sweeps.fused_trials import FUSED_TRIALS
from orchestration.sweeps.ray_tune import _SCRATCH
from orchestration.sweeps.storage.optuna_storage import JOURNAL
from orchestration.sweeps.study import TRIALS
from orchestration.sweeps.sweep import BEST
from orchestration.training import run_files
from orchestration.training.ray_train import _RAY_STATE
from orchestration.training.train import STUDY
from tests.orchestration.conftest import prepare, tiny_experiment, tree


def test_every_name_that_commands_write_is_known() -> None:
    of_run = (
        run_files.LAST,
        run_files.BEST,
        run_files.PROGRESS,
        run_files.LOG,
        run_files.ERROR_LOG,
        run_files.HUNG_LOG,
        run_files.FAILED,
    )
    for path in (*of_run, run_files.NON_FINITE, run_files.FUSION, REPRODUCES, _RAY_STATE):
        assert any(fnmatch(Path(path).parts[0], pattern) for pattern in OF_RUN), path
    of_study = (JOURNAL, f"{JOURNAL}.lock", TRIALS, CONFIRMATION, FUSED_TRIALS, BEST, STUDY, _SCRATCH)
    for path in (*of_study, "sweep.json", "trials.parquet"):
        assert any(fnmatch(path, pattern) for pattern in OF_STUDY), path


def test_what_nobody_knows_stays_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = ("notes.txt", "thesis", "checkpoints.tar", ".git")
    for name in ("experiment.yaml", "metrics.parquet", ".x.partial", *mine[:1], *mine[2:3]):
        (tmp_path / name).write_text("x")
    for name in ("checkpoints", "report", *mine[1:2], *mine[3:]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "thesis")
    (tmp_path / "evaluation").symlink_to(tmp_path / "thesis")  # a link goes, what it leads to stays
    clear(tmp_path, OF_RUN)
    assert {path.name for path in tmp_path.iterdir()} == {*mine, "elsewhere"}
    assert (tmp_path / "thesis" / "file").exists()
    assert "checkpoints.tar" in capsys.readouterr().err


def test_a_folder_of_its_own_goes_at_once_and_none_is_no_error(tmp_path: Path) -> None:
    for name in ("study.yaml", "optuna.journal", "experiment.yaml"):
        (tmp_path / "study").mkdir(exist_ok=True)
        (tmp_path / "study" / name).touch()
    clear(tmp_path / "study", OF_STUDY)
    clear(tmp_path / "study", OF_STUDY)
    assert list(tmp_path.iterdir()) == []


def test_restart_in_a_folder_that_is_no_run_removes_nothing(data_root: Path, tmp_path: Path) -> None:
    """The case is `--runs ~ --set name=Documents --restart`."""
    (tmp_path / "tiny" / "letters").mkdir(parents=True)
    (tmp_path / "tiny" / "letters" / "one.txt").write_text("dear")
    prepare(tiny_experiment(), data_root=data_root, runs=tmp_path, restart=True)
    assert set(tree(tmp_path / "tiny")) == {"letters/one.txt", "experiment.yaml"}
