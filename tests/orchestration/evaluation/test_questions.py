"""Test the questions of an evaluation: refusals before Ray starts, and the fields of records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hcl.config import PUBLISHED_EVALUATION
from hcl.config.resolve import override
from hcl.errors import CheckpointError, ConfigError, DataError, SplitError
from hcl.frames.stored_dataset import DataRoot
from orchestration.evaluation.questions import Target, questions_of
from tests.orchestration.conftest import tiny_experiment, tree


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"evaluation.datasets": ["toy", "tyo"]},
            SplitError,
            "splits/tyo/test_class.txt: there are no lists of data set 'tyo', did you mean .toy.",
        ),
        ({"evaluation.datasets": ["../toy"]}, SplitError, "'../toy' cannot be a folder"),
        ({"evaluation.shots": [1, 4]}, DataError, "class 'hen' has 5 clips, an episode needs 6"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_ray(
    changes: dict[str, Any],
    kind: type[Exception],
    message: str,
    data_root: Path,
    tmp_path: Path,
) -> None:
    experiment = override(tiny_experiment(), changes)
    with pytest.raises(kind, match=message):
        questions_of([Target(tmp_path / "tiny", experiment, methods=("untrained",))], DataRoot(data_root))
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("changes", "from_file", "is_marked"),
    [
        ({}, False, False),
        ({"evaluation.overlapping": True}, False, True),
        ({}, True, True),
        (PUBLISHED_EVALUATION, True, False),  # has a mark of its own
    ],
)
def test_overlapping_episodes_are_told_in_the_record(
    changes: dict[str, Any], from_file: bool, is_marked: bool, data_root: Path, tmp_path: Path
) -> None:
    overlapping, target = (
        Target(tmp_path / "tiny", override(tiny_experiment(), settings), methods=("untrained",))
        for settings in ({"evaluation.overlapping": True}, changes)
    )
    lists = [questions_of([overlapping], DataRoot(data_root))[0].asked] if from_file else None
    questions = questions_of([target], DataRoot(data_root), episodes=lists)
    assert {question.record["overlapping"] for question in questions} == {is_marked}


def test_questions_with_the_same_record_are_refused(data_root: Path, tmp_path: Path) -> None:
    experiment = tiny_experiment()
    fewer = override(experiment, {"evaluation.episodes": 9, "evaluation.shots": [3]})
    targets = [Target(tmp_path / "tiny", settings, methods=("untrained",)) for settings in (experiment, fewer)]
    with pytest.raises(ConfigError, match=r"untrained-toy-test-2way-3shot\.json: two questions of this job"):
        questions_of(targets, DataRoot(data_root))


def test_a_run_without_a_checkpoint_is_refused_before_ray(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="best.pt: no such file") as caught:
        questions_of([Target(tmp_path / "tiny", tiny_experiment())], DataRoot(data_root))
    assert "hcl train" in caught.value.remedy
