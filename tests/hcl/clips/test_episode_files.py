"""Test writing and reading files of episodes, and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hcl.clips.episode_files import MAX_WAY, EpisodeList, lists_for, read_episodes, write_episodes
from hcl.clips.episodes import sample_episodes
from hcl.config.resolve import resolve
from hcl.datasets.splits import Partition, Video
from hcl.errors import ConfigError, EpisodeError, StorageError

CLASSES = ("ant", "bee", "cat")
PARTITION = Partition("toy", "test", CLASSES, tuple(Video(one, f"{one}{i}") for one in CLASSES for i in range(7)))


def drawn(shot: int, dataset: str = "toy", **changes: Any) -> EpisodeList:
    episodes = sample_episodes(PARTITION.labels, way=2, shot=shot, queries=3, episodes=5, seed=4, **changes)
    return EpisodeList.of(replace(PARTITION, dataset=dataset), episodes, seed=4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "deeper" / "episodes.npz"
    write_episodes(path, [drawn(3), drawn(1), drawn(2, "other"), drawn(4, overlapping=True)])
    return path


def test_lists_come_back_as_they_were(path: Path) -> None:
    lists = read_episodes(path)
    assert [(one.dataset, one.partition, one.seed, one.episodes.shot) for one in lists] == [
        ("toy", "test", 4, 3), ("toy", "test", 4, 1), ("other", "test", 4, 2), ("toy", "test", 4, 4),
    ]  # fmt: skip
    assert lists[0].episodes.digest() == drawn(3).episodes.digest()
    assert (lists[0].episodes.classes == drawn(3).episodes.classes).all()
    assert [one.episodes.shot for one in lists_for(PARTITION, lists)] == [1, 3, 4]
    assert list(path.parent.iterdir()) == [path]


def test_other_videos_or_data_sets_are_refused(path: Path) -> None:
    lists = read_episodes(path)
    with pytest.raises(EpisodeError, match="episodes of toy test: are about other videos"):
        lists_for(replace(PARTITION, videos=PARTITION.videos[:-1]), lists)
    with pytest.raises(EpisodeError, match="episodes of third test: are not in the file") as caught:
        lists_for(replace(PARTITION, dataset="third"), lists)
    assert "other test, toy test" in caught.value.remedy


def test_the_digest_names_the_videos_and_the_episodes() -> None:
    """Check that equal indices in two data sets of the same layout have different digests."""
    other = replace(PARTITION, videos=tuple(replace(one, name=f"other_{one.name}") for one in PARTITION.videos))
    one, two = drawn(1), EpisodeList.of(other, drawn(1).episodes, seed=4)
    assert one.episodes.digest() == two.episodes.digest()
    assert len({one.digest(), two.digest(), drawn(2).digest()}) == 3 and len(one.digest()) == 12
    assert one.digest() == drawn(1).digest()


def rewritten(path: Path, **changes: Any) -> None:
    with np.load(path) as arrays:
        content = {name: arrays[name] for name in arrays}
    np.savez(path, **{**content, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"support_0": np.zeros((5, 2, 3), dtype=np.int32)}, "list 0 was changed"),
        ({"query_1": np.zeros((5, 2, 3))}, "query_1 is float64"),
        ({"query_1": np.zeros((5, 2), dtype=int)}, "query_1 is int64 of shape"),
        ({"classes_2": np.zeros((4, 2), dtype=int)}, "support_2 is int32 of shape"),
        ({"support_1": np.full((5, 2, 1), -1)}, "negative"),
        ({"meaning": np.array(json.dumps({"format": "hcl-episodes-9"}))}, "expected 'hcl-episodes-1'"),
        ({"meaning": np.array("{")}, "holds no episodes"),
    ],
)
def test_a_file_that_was_changed_is_refused(changes: dict[str, Any], message: str, path: Path) -> None:
    rewritten(path, **changes)
    with pytest.raises(EpisodeError, match=message) as caught:
        read_episodes(path)
    assert caught.value.where == str(path)


def test_clips_of_another_class_than_their_row_are_refused() -> None:
    one = drawn(1)
    turned = replace(one, episodes=replace(one.episodes, classes=one.episodes.classes[:, ::-1]))
    with pytest.raises(EpisodeError, match="support holds clips of another class"):
        lists_for(PARTITION, [turned])
    beyond = replace(one, episodes=replace(one.episodes, query=one.episodes.query + 100))
    with pytest.raises(EpisodeError, match="query holds clips"):
        lists_for(PARTITION, [beyond])


def test_episodes_of_more_classes_than_an_answer_can_name_are_refused() -> None:
    names = tuple(f"c{index}" for index in range(MAX_WAY + 1))
    many = Partition("toy", "test", names, tuple(Video(name, f"{name}-{i}") for name in names for i in range(2)))
    for way in (MAX_WAY, MAX_WAY + 1):
        drawn = sample_episodes(many.labels, way=way, shot=1, queries=1, episodes=1, seed=0)
        episodes = EpisodeList.of(many, drawn, seed=0)
        if way <= MAX_WAY:
            assert lists_for(many, [episodes]) == [episodes]
            continue
        with pytest.raises(EpisodeError, match="have 257 classes each, at most 256 can be answered") as caught:
            lists_for(many, [episodes])
        assert caught.value.where == "episodes of toy test"
    with pytest.raises(ConfigError, match=r"evaluation\.way"):
        resolve(None, {"evaluation.way": MAX_WAY + 1})
    assert resolve(None, {"evaluation.way": MAX_WAY}).experiment.evaluation.way == MAX_WAY


@pytest.mark.parametrize("content", [b"", b"torn", b"PK\x03\x04torn"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "episodes.npz"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="episodes.npz: cannot be read"):
        read_episodes(path)
    with pytest.raises(StorageError, match="cannot be read: No such file"):
        read_episodes(tmp_path / "none.npz")


def test_no_pickle_is_ever_opened(path: Path) -> None:
    rewritten(path, support_0=np.array([{"code": 1}], dtype=object))
    with pytest.raises(StorageError, match="allow_pickle"):
        read_episodes(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        write_episodes(tmp_path / "file" / "episodes.npz", [drawn(1)])
