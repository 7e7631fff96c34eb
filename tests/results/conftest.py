"""Made-up records, each with every field that a test does not name filled in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import results
from results import EvaluationRecord, SweepRecord, TrialRecord

HOSTILE = (
    "<script>alert('x')</script>",
    '"><img src=http://example.invalid/x onerror=alert(1)>',
    "</script><b>bold</b>",
    "\u202eright to left \u05d0\u05d1",
    "a|b\nc,d & 100% $x_1$ {y} \\z",
    "x" * 300,
    '<a href="http://example.invalid">link</a>',
    "{{ 7 * 7 }}",
)


@pytest.fixture
def evaluation() -> Callable[..., EvaluationRecord]:
    def build(**changes: Any) -> EvaluationRecord:
        known = {
            "run": "made", "method": "hcl", "train_dataset": "plain", "dataset": "plain", "partition": "test", "way": 5,
            "shot": 1, "queries": 3, "episodes": 700, "seed": 0, "accuracy": 0.4773, "ci95": 0.0091, "n_classes": 7,
            "episodes_digest": "e1", "created": "2026-01-01T00:00:00+00:00",
        }  # fmt: skip
        return EvaluationRecord(**{**known, **changes})

    return build


@pytest.fixture
def trials() -> list[TrialRecord]:
    sampled = [(0.5, "cosine", 0.31), (0.25, "euclidean", 0.47), (1.0, "cosine", 0.4)]
    made = [
        TrialRecord(
            trial=f"t{index}",
            params={"loss.sigma_ce": sigma, "train.val_shot": 1, "matching.metric": metric},
            value=value,
        )
        for index, (sigma, metric, value) in enumerate(sampled)
    ]
    lost = TrialRecord(
        trial="t3", params={"loss.sigma_ce": 2.0}, value=None, state="failed", error="loss is not finite"
    )
    return [*made, lost]


@pytest.fixture
def sweep() -> SweepRecord:
    return SweepRecord(
        name="sigma",
        space={"loss.sigma_ce": {"low": 0, "high": 2}},
        objective="val.accuracy",
        best_trial="t1",
        n_trials=4,
    )


@pytest.fixture
def hostile_results(tmp_path, evaluation, trials) -> results.Results:
    """A run and a sweep in which every name that can come from data is one of HOSTILE."""
    run = tmp_path / "runs" / '<i>run "quoted"'
    for index, name in enumerate(HOSTILE):
        results.write_evaluation(run, evaluation(method=name, dataset=HOSTILE[index - 1], train_dataset=name))
    for epoch in range(3):
        results.append_epoch(run, {"epoch": epoch, f"loss.{HOSTILE[0]}": 1.5 - epoch, "val.accuracy": 0.25 * epoch})
    results.write_provenance(run, results.collect_provenance(["hcl", *HOSTILE], digests={HOSTILE[0]: HOSTILE[1]}))
    (run / "experiment.yaml").write_text(f"name: {HOSTILE[2]}\n")
    (run / "evaluation" / "<u>broken.json").write_text("{")
    named = [
        TrialRecord(trial=name, params={HOSTILE[0]: HOSTILE[i - 1], "y": i}, value=0.1 * i, error=name)
        for i, name in enumerate(HOSTILE)
    ]
    record = SweepRecord(name="s", space={}, objective=HOSTILE[0], best_trial=HOSTILE[5], command=HOSTILE[2])
    results.write_sweep(tmp_path / "runs" / "<b>sweep", record, named)
    return results.load(tmp_path / "runs")
