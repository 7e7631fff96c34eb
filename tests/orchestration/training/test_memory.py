"""Test the estimates of a dry run from shapes, for settings at the limits of their ranges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hcl.frames.stored_dataset import DataRoot
from orchestration.evaluation.questions import Target, questions_of
from orchestration.training.memory import estimate_memory
from orchestration.training.run import Run
from tests.orchestration.conftest import prepare, tiny_experiment

EPISODES: dict[str, Any] = {"train__episode_way": 3, "train__episode_queries": 2, "train__episodes_per_step": 2}


@pytest.mark.parametrize(
    ("regime", "backbone"), [("hcl", "resnet18"), ("hcl", "efficientnet_lite0"), ("protonet", "resnet18")]
)
def test_frames_of_one_cell_have_a_memory_and_features(
    regime: str, backbone: str, data_root: Path, tmp_path: Path
) -> None:
    """The case is the smallest frames of a frozen backbone: one frame has one value per channel, without a variance."""
    experiment = tiny_experiment(
        **EPISODES, clips__size=32, model__backbone=backbone, train__regime=regime, model__pooled_from="encoder"
    )
    run = prepare(experiment, data_root=data_root, runs=tmp_path)
    assert [job.clip_shape()[2:] for job in run.grid_jobs()] == [(1, 1)] * 2
    assert estimate_memory(run, 4).peak > 0
    untrained = () if regime == "hcl" else ("prototype",)
    questions = questions_of([Target(run.folder, experiment, methods=untrained or ("untrained",))], DataRoot(data_root))
    assert all(question.cell.feature_bytes() > 0 for question in questions)


def test_the_order_of_numbers_in_memory_changes_no_estimate(data_root: Path, tmp_path: Path) -> None:
    plain, other = (
        Run(
            tiny_experiment(model__train_backbone=True, train__channels_last=channels_last),
            DataRoot(data_root),
            tmp_path,
            tmp_path,
        )
        for channels_last in (False, True)
    )
    assert estimate_memory(plain, 4) == estimate_memory(other, 4)
