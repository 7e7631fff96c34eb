"""Test what the command reports of a run that other processes train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import results
from hcl.frames.stored_dataset import DataRoot
from orchestration.training.progress import watching
from orchestration.training.run import Run
from tests.orchestration.conftest import tiny_experiment


def test_an_epoch_that_is_trained_again_is_told_again_and_no_other(tmp_path: Path) -> None:
    run, reported = Run(tiny_experiment(), DataRoot(tmp_path), tmp_path, tmp_path / "tiny"), list[Any]()
    results.write_epochs(run.folder, [{"epoch": 1, "a": 0.5, "b": float("nan")}, {"epoch": 2, "a": 0.25}])
    with watching(run, reported.append, None):
        results.append_epoch(run.folder, {"epoch": 2, "a": 0.75})
        results.append_epoch(run.folder, {"epoch": 3, "a": 0.5, "c": 1.0})
    assert [(row["epoch"], row["a"]) for row in reported] == [(2, 0.75), (3, 0.5)]
