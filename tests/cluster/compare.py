"""Compare the results of disturbed jobs with those of undisturbed ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import results
from hcl.datasets.manifest import read_manifest
from hcl.models.checkpoint import load_checkpoint
from orchestration.training.run_files import BEST, LAST
from tests.orchestration.conftest import tree
from tests.orchestration.training.test_train import TIMED


def ended_well(done: Any) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    assert " succeeded" in done.stderr
    return done.stdout


def assert_same_frames(data: Path, expected_data: Path, dataset: str = "synth_plain") -> None:
    """Assert that all videos have frames, and that the files are equal."""
    images, expected = (root / "images" / dataset for root in (data, expected_data))
    assert {record.status for record in read_manifest(images).values()} == {"ok"}
    assert read_manifest(images).keys() == read_manifest(expected).keys()
    frames = [
        {name: file for name, file in tree(folder).items() if name.endswith(".jpg")} for folder in (images, expected)
    ]
    assert frames[0] == frames[1] and len(frames[0]) > 1000


def epochs_of(folder: Path) -> int:
    """Return the number of epochs whose metrics are on disk."""
    return len(results.read_epochs(folder)) if (folder / "metrics.parquet").exists() else 0


def assert_same_run(folder: Path, expected: Path) -> None:
    """Assert that metrics, without measured times, and checkpoints are equal."""
    assert untimed(folder) == untimed(expected)
    for name in (LAST, BEST):
        found, same = load_checkpoint(folder / name)["model"], load_checkpoint(expected / name)["model"]
        assert all(torch.equal(found[key], same[key]) for key in same | found)


def untimed(folder: Path) -> list[dict[str, Any]]:
    return [{name: one for name, one in row.items() if name not in TIMED} for row in results.read_epochs(folder)]


def evaluations(folder: Path, *further: str) -> list[dict[str, Any]]:
    """Return a run's evaluation records without times, commands, paths and the `further` fields."""
    left_out = {"created", "checkpoint", "command", "seconds", *further}
    records = [json.loads(path.read_text()) for path in sorted((folder / "evaluation").glob("*.json"))]
    return [{name: one for name, one in record.items() if name not in left_out} for record in records]


def outcomes(folder: Path) -> list[Any]:
    trials = results.read_trials(folder)
    return sorted((sorted(trial.params.items()), trial.value, trial.state, trial.epochs) for trial in trials)
