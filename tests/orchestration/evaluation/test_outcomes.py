"""Test the files that an evaluation writes into a run's folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import results
from hcl.clips.episode_files import EpisodeList
from hcl.clips.episodes import sample_episodes
from hcl.datasets.splits import Partition, Video
from orchestration.evaluation import outcomes


def partition(dataset: str, classes: tuple[str, ...]) -> Partition:
    return Partition(
        dataset, "test", classes, tuple(Video(name, f"{name}{index}") for name in classes for index in range(6))
    )


def asked_of(part: Partition) -> EpisodeList:
    episodes = sample_episodes(part.labels, way=2, shot=1, queries=3, episodes=20, seed=0)
    return EpisodeList.of(part, episodes, seed=0)


def test_data_sets_of_the_same_layout_keep_their_own_questions(tmp_path: Path) -> None:
    for part in (partition("one", ("ant", "bee", "cat")), partition("two", ("run", "sit", "wave"))):
        episode_list = asked_of(part)
        answered = outcomes.outcomes_of(np.random.default_rng(0).random((20, 6, 2)), episode_list, part.classes)
        results.write_outcomes(tmp_path / f"{part.dataset}.json", answered)
        from_disk = results.read_outcomes(
            tmp_path / f"{part.dataset}.json", episode_list.digest(), answered.accuracies.mean()
        )
        assert from_disk is not None and from_disk.questions.class_names == part.classes
    assert len(list(tmp_path.glob("episodes-*.npz"))) == 2
