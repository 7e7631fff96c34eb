"""Test the arithmetic of a plan with figures computed by hand, and unit costs from a run's records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import results
from cluster.errors import DescriptionError
from cluster.plan import Task, UnitCosts, plan
from hcl.assembly.experiment_files import to_yaml
from hcl.assembly.models import clips_per_epoch
from hcl.errors import ConfigError
from orchestration.clusters.plan_table import size
from orchestration.clusters.unit_costs import measured
from tests.orchestration.conftest import Command, hcl, tiny_experiment  # noqa: F401

COSTS = UnitCosts(clip_s=0.5, val_s=100.0, pair_s=0.001, run_bytes=2e8, feature_bytes=1e6, table_bytes=20.0)
TASK = Task(n_trials=500, workers=4, epochs=10, clips_per_epoch=1000, n_datasets=5, n_clips=1000, speed=2.0)


def test_sixty_four_nodes_of_eight_gpus() -> None:
    made = plan(COSTS, TASK, n_nodes=64, per_node=8)
    assert (made.concurrency, made.limited_by, made.rounds) == (64, "trial_driver of the head", 8)
    assert made.trial_s == 30 + 10 * (1000 * 0.5 + 100) / 4 / 2
    assert made.study_s == 8 * made.trial_s
    assert made.evaluation_s == 30 + 5 * 1000**2 * 0.001 / (64 * 8 * 2)
    assert (made.study_bytes, made.feature_bytes, made.table_bytes) == (500 * 2e8, 5e9, 5 * 1000**2 * 20.0)


@pytest.mark.parametrize(
    ("workers", "n_nodes", "per_node", "n_trials", "expected"),
    [
        (1, 64, 8, 500, (500, "trials", 1)),
        (1, 64, 4, 500, (256, "workers on a node", 2)),
        (3, 10, 8, 500, (20, "workers on a node", 25)),  # two of each node's eight GPUs stay idle
        (16, 10, 8, 500, (5, "workers", 100)),
        (2, 2, 2, 1, (1, "trials", 1)),
    ],
)
def test_what_limits_the_trials_at_once(
    workers: int, n_nodes: int, per_node: int, n_trials: int, expected: tuple[int, str, int]
) -> None:
    task = replace(TASK, workers=workers, n_trials=n_trials)
    made = plan(COSTS, task, n_nodes=n_nodes, per_node=per_node)
    assert (made.concurrency, made.limited_by, made.rounds) == expected


def test_a_trial_that_is_larger_than_the_cluster_is_refused() -> None:
    with pytest.raises(DescriptionError, match="a trial of 4 workers does not fit on 1 x 2"):
        plan(COSTS, TASK, n_nodes=1, per_node=2)


def test_what_was_not_measured_is_not_reckoned() -> None:
    made = plan(replace(COSTS, pair_s=None, feature_bytes=None, table_bytes=None), TASK, n_nodes=1, per_node=8)
    assert made.evaluation_s is None and made.feature_bytes == 0 and made.table_bytes == 0


def write_run(runs: Path) -> Path:
    folder = runs / "tiny"
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text(to_yaml(tiny_experiment(train__workers=2)))  # 2 batches of 8 clips
    for epoch, seconds in ((1, 99.0), (2, 4.0), (3, 6.0), (4, 5.0)):
        results.append_epoch(folder, {"epoch": epoch, "train_seconds": seconds, "val_seconds": 1.5})
    for shot in (1, 2):
        record = results.EvaluationRecord(
            run="tiny", method="hcl", train_dataset="toy", dataset="toy", partition="test", way=2, shot=shot,
            queries=2, episodes=30, seed=0, accuracy=0.5, ci95=0.1, n_clips=10, seconds=2.0,
        )  # fmt: skip
        results.write_evaluation(folder, record)
    (runs / "cache" / "scores").mkdir(parents=True)
    np.savez(runs / "cache" / "scores" / "a.npz", levels=np.zeros((10, 10), np.float32), meaning=np.array("x"))
    (runs / "cache" / "features" / "a").mkdir(parents=True)
    (runs / "cache" / "features" / "a" / "clips-0").write_bytes(bytes(5000))
    return folder


def test_costs_are_read_from_a_runs_records(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    costs, experiment = measured(folder, tmp_path)
    assert clips_per_epoch(experiment) == 16
    assert costs.clip_s == 5.0 * 2 / 16 and costs.val_s == 3.0  # two workers, without the first epoch
    assert costs.pair_s == 4.0 / 100  # two shots share one table
    assert costs.feature_bytes == 500
    assert costs.table_bytes == (tmp_path / "cache" / "scores" / "a.npz").stat().st_size / 100
    (folder / "metrics.parquet").unlink()
    with pytest.raises(ConfigError, match="has no epochs to measure"):
        measured(folder, tmp_path)


def test_the_command_says_what_limits_and_how_long(tmp_path: Path, hcl: Command) -> None:  # noqa: F811
    write_run(tmp_path)
    words = ["cluster", "plan", "tiny", "--runs", tmp_path, "--nodes", "64", "--gpus-per-node", "8", "--trials", "500"]
    code, printed, _ = hcl(*words, "--epochs", "100", "--batches", "4", "--speed", "2")
    assert code == 0
    assert "0.625 s a clip" in printed and "limited by" in printed
    # 32 clips of 0.625 s and a validation of 3 s, by two workers twice as fast, a hundred times: 605 s
    assert "10 min" in printed and "8 rounds" in " ".join(printed.split())


def test_sizes_read_well() -> None:
    assert [size(one) for one in (3.2e6, 1.5e9, 2e12)] == ["3.2 MB", "1.5 GB", "2.0 TB"]
