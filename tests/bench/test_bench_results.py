"""Measure the conversion of ten thousand evaluation records to data frames; `make bench` prints it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import results
from results.records.outcomes import Outcomes, Questions, write_outcomes

N_RUNS, METHODS, DATASETS, SHOTS = 100, ("hcl", "otam", "prototype", "untrained"), 5, 5


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 10,000 records; those of one run have the answers to 1,000 episodes of 25 queries."""
    root, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    classes = np.argsort(rng.random((1000, 24)), axis=1)[:, :5]
    clips = np.zeros((1000, 5, 6), dtype=np.int64)
    questions = Questions("e", tuple(map(str, range(24))), classes, clips[..., :1], clips[..., 1:])
    for run in range(N_RUNS):
        for dataset in range(DATASETS):
            for method in METHODS:
                for shot in range(1, SHOTS + 1):
                    outcomes = Outcomes(questions, rng.integers(0, 5, (1000, 5, 5)).astype(np.uint8))
                    accuracy = float(outcomes.accuracies.mean())
                    record = results.EvaluationRecord(
                        run=f"run{run}", method=method, train_dataset="data", dataset=f"data{dataset}",
                        partition="test", way=5, shot=shot, queries=5, episodes=1000, seed=0, accuracy=accuracy,
                        ci95=0.01, levels={"global": 0.2, "temporal": 0.3, "spatial": 0.4}, episodes_digest="e",
                    )  # fmt: skip
                    path = results.write_evaluation(root / f"run{run}", record)
                    if run == 0:
                        write_outcomes(path, outcomes)
    return root


def test_ten_thousand_records_load_in_seconds(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.perf_counter()
    found = results.load(runs)
    loaded = time.perf_counter() - began
    began = time.perf_counter()
    episodes = found.episodes
    read = time.perf_counter() - began
    megabytes = episodes.memory_usage(deep=True).sum() / 1e6
    with capsys.disabled():
        print(f"\n  {len(found.evaluations):,} records in {loaded:.1f} s; {len(episodes):,} episodes in {read:.1f} s, "
              f"{megabytes:.0f} MB")  # fmt: skip
    assert len(found.evaluations) == 10_000 and len(episodes) == 100_000
    assert loaded < 10 and read < 10
