"""Make artificial records, with every field filled in that a test does not name."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import results
from results import EvaluationRecord, SweepRecord, TrialRecord
from results.records.explanations import ExplanationRecord, write_explanation
from results.records.outcomes import Outcomes, Questions, write_outcomes

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
NAMES = ("a", "b", "<i>c", "d", "e", "f", "g")


def made(p_right: float, seed: int = 0, *, digest: str = "e1", n_episodes: int = 300) -> Outcomes:
    """Return answers that are right with that probability; the questions are the same for all of one digest."""
    rng = np.random.default_rng(9)
    classes = np.argsort(rng.random((n_episodes, 7)), axis=1)[:, :3]
    clips = classes[..., None] * 8 + np.argsort(rng.random((n_episodes, 3, 8)), axis=2)
    answers = np.tile(np.arange(3)[None, :, None], (n_episodes, 1, 4))
    drawn = np.random.default_rng(seed)
    wrong = drawn.random(answers.shape) > p_right
    answers = (answers + wrong * drawn.integers(1, 3, answers.shape)) % 3
    return Outcomes(Questions(digest, NAMES, classes, clips[..., :2], clips[..., 2:6]), answers.astype(np.uint8))


WEBP = base64.b64decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
"""A picture of one pixel."""


@pytest.fixture
def evaluation() -> Callable[..., EvaluationRecord]:
    def build(**changes: Any) -> EvaluationRecord:
        defaults = {
            "run": "made", "method": "hcl", "train_dataset": "plain", "dataset": "plain", "partition": "test", "way": 5,
            "shot": 1, "queries": 3, "episodes": 700, "seed": 0, "accuracy": 0.4773, "ci95": 0.0091, "n_classes": 7,
            "episodes_digest": "e1", "created": "2026-01-01T00:00:00+00:00",
        }  # fmt: skip
        return EvaluationRecord(**{**defaults, **changes})

    return build


@pytest.fixture
def kept(tmp_path, evaluation):
    """Write a record and its answers; return the loaded frame of all."""

    def keep(run: str, outcomes: Outcomes, **changes):
        record = evaluation(
            run=run, episodes_digest=outcomes.questions.digest, accuracy=float(outcomes.accuracies.mean()), **changes
        )
        write_outcomes(results.evaluation_file(tmp_path / run, record), outcomes)
        results.write_evaluation(tmp_path / run, record)
        return results.load(tmp_path / run).evaluations

    return keep


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
def answers() -> Callable[..., Outcomes]:
    """Make answers to 60 artificial episodes of three of seven classes; `skill` is the share of surely right ones."""

    def build(skill: float, class_names: tuple[str, ...] = tuple("abcdefg")) -> Outcomes:
        rng = np.random.default_rng(5)
        classes = np.stack([rng.permutation(len(class_names))[:3] for _ in range(60)])
        support = classes[:, :, None] * 10
        questions = Questions("e1", class_names, classes, support, support + 1 + np.arange(2))
        right = np.broadcast_to(np.arange(3)[None, :, None], (60, 3, 2))
        guess = rng.integers(0, 3, size=(60, 3, 2))
        return Outcomes(questions, np.where(rng.random((60, 3, 2)) < skill, right, guess).astype(np.uint8))

    return build


@pytest.fixture
def full(tmp_path, evaluation, answers, sweep, trials) -> results.Results:
    """Write two runs and a study, with everything that a page can show."""
    for name in ("first", "second"):
        run, held = tmp_path / "runs" / name, {"workers": 2.0, "cpus": 2.0, "gpus": 2.0}
        provenance = results.collect_provenance("hcl train x.yaml", seeds={"experiment": 5}, resources=held)
        results.write_provenance(run, results.finished(provenance))
        (run / "experiment.yaml").write_text("name: x\n")
        for epoch in range(3):
            row = {"epoch": epoch, "loss.total": 2.0, "loss.global": 1.0, "val.accuracy": 0.1 * epoch}
            results.append_epoch(run, {**row, "val.ci95": 0.02, "train_seconds": 1.5, "val_seconds": 0.5})
    folder = tmp_path / "runs" / "first"
    for method, skill in (("hcl", 0.8), ("prototype", 0.4)):
        outcomes = answers(skill)
        accuracy = float(outcomes.accuracies.mean())
        for dataset in ("plain", "dim"):
            for shot in (1, 5):
                record = evaluation(
                    run="first", method=method, dataset=dataset, shot=shot, accuracy=accuracy, levels={"global": 0.25},
                    command="hcl evaluate first",
                )  # fmt: skip
                results.write_outcomes(results.evaluation_file(folder, record), outcomes)
                results.write_evaluation(folder, record)
    for query, best in (("hen/hen_1", "hen"), ("jay/jay_2", "hen")):
        scores = {best: 1.5, ("jay" if best == "hen" else "hen"): 0.5}
        explained = ExplanationRecord(query=query, scores=scores, command="hcl explain first --examples 1")
        write_explanation(folder / "explanations" / f"{query.replace('/', '--')}.json", explained, WEBP)
    results.write_sweep(tmp_path / "runs" / "sigma", sweep, trials)
    return results.load(tmp_path / "runs")


@pytest.fixture
def hostile_results(tmp_path, evaluation, answers) -> results.Results:
    """Write a run and a study in which every name from data is one of HOSTILE."""
    run = tmp_path / "runs" / '<i>run "quoted"'
    for index, name in enumerate(HOSTILE):
        outcomes = answers(0.5, HOSTILE)
        right = float(outcomes.accuracies.mean())
        record = evaluation(method=name, dataset=HOSTILE[index - 1], train_dataset=name, command=name, accuracy=right)
        results.write_evaluation(run, record)
        results.write_outcomes(results.evaluation_file(run, record), outcomes)
        explained = ExplanationRecord(query=f"{name}/x", scores={name: 1.0, "y": 0.5}, support=[name], command=name)
        write_explanation(run / "explanations" / f"{index}.json", explained, WEBP)
    for epoch in range(3):
        results.append_epoch(run, {"epoch": epoch, f"loss.{HOSTILE[0]}": 1.5 - epoch, "val.accuracy": 0.25 * epoch})
    results.write_provenance(run, results.collect_provenance(["hcl", *HOSTILE], digests={HOSTILE[0]: HOSTILE[1]}))
    (run / "experiment.yaml").write_text(f"name: {HOSTILE[2]}\n")
    (run / "evaluation" / "<u>broken.json").write_text("{")
    named = [
        TrialRecord(trial=name, params={HOSTILE[0]: HOSTILE[i - 1], "y": i}, value=0.1 * i, error=name, log=name)
        for i, name in enumerate(HOSTILE)
    ]
    record = SweepRecord(name="s", space={}, objective=HOSTILE[0], best_trial=HOSTILE[5], command=HOSTILE[2])
    results.write_sweep(tmp_path / "runs" / "<b>sweep", record, named)
    return results.load(tmp_path / "runs")
