"""Test that of equal videos one is kept, and that training and evaluation leave out the others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hcl.clips.episodes import sample_episodes
from hcl.datasets.copies import find_copies, same_files
from hcl.datasets.manifest import VideoRecord, write_manifest
from hcl.datasets.splits import Partition, Video, write_split
from hcl.errors import DataError
from hcl.frames.checking import check_dataset, keep_effective, keep_names
from hcl.frames.effective import read_effective
from hcl.frames.packing import pack_dataset
from hcl.frames.stored_dataset import StoredDataset

N_VIDEOS = 4
CLASSES = {"train": ("ant", "bee"), "val": ("cat",), "test": ("dog", "eel")}
COPIES = {  # copy: original
    "dog/2": "dog/1",  # within a class
    "eel/3": "dog/3",  # under two classes
    "cat/0": "dog/3",
    "ant/1": "cat/2",
    "ant/2": "dog/1",
    "bee/3": "bee/0",
}


def make(root: Path, *, has_manifest: bool = False) -> Path:
    """Write lists of four videos a class, some of them copies, with frames from this or another tool."""
    partitions, records = {}, []
    for name, classes in CLASSES.items():
        videos = tuple(Video(one, str(number)) for one in classes for number in reversed(range(N_VIDEOS)))
        partitions[name] = Partition("toy", name, classes, videos)
        for video in videos:
            content = COPIES.get(video.key, video.key)
            folder = root / "images" / "toy" / video.key
            folder.mkdir(parents=True)
            for index in range(8):
                (folder / f"{index}.jpg").write_text(f"{content} {index}")
            records.append(VideoRecord(video.class_name, video.name, "ok", 8, digest=f"of {content}"))
    if has_manifest:
        write_manifest(root / "images" / "toy", records)
    write_split(root, "toy", partitions)
    return root


def used(root: Path, *, keep_copies: bool = False) -> dict[str, list[str]]:
    stored = StoredDataset(root, "toy")
    parts = {name: stored.effective(name, keep_copies=keep_copies) for name in stored.split.partitions}
    return {name: [video.key for video in part.videos] for name, part in parts.items()}


def test_the_copy_in_test_is_kept_then_that_in_val_then_the_first_by_name() -> None:
    a, b, c = Video("x", "1"), Video("y", "1"), Video("y", "2")
    found = find_copies({"train": {c: "same", b: "same"}, "val": {a: "same", c: "other"}, "test": {}})
    assert found == {"train": {b: (a, "val"), c: (a, "val")}, "val": {}, "test": {}}
    assert find_copies({"train": {c: "same", b: "same"}}) == {"train": {c: (b, "train")}}
    assert str(found["train"][b]) == "a copy of 'x/1' of val"


@pytest.mark.parametrize("has_manifest", [True, False], ids=["extracted", "another tool's"])
@pytest.mark.parametrize("is_checked", [True, False], ids=["checked", "unchecked"])
def test_no_copy_is_trained_on_or_asked_about(tmp_path: Path, has_manifest: bool, is_checked: bool) -> None:
    root = make(tmp_path, has_manifest=has_manifest)
    if is_checked:
        keep_effective(StoredDataset(root, "toy"), check_dataset(StoredDataset(root, "toy")))
    found = used(root)
    everything = [key for keys in used(root, keep_copies=True).values() for key in keys]
    assert len(everything) == 5 * N_VIDEOS
    assert sorted({*everything} - {key for keys in found.values() for key in keys}) == sorted(COPIES)
    stored = StoredDataset(root, "toy")
    assert stored.left_out("train")[Video("ant", "2")] == "a copy of 'dog/1' of test"
    assert stored.left_out("train", keep_copies=True) == {}
    if is_checked:
        accepted = read_effective(stored.effective_file, "toy")["train"]
        assert accepted.digest == stored.effective("train").digest() and not accepted.left_out


def test_support_and_query_of_an_episode_never_are_one_video(tmp_path: Path) -> None:
    part = StoredDataset(make(tmp_path), "toy").effective("test")
    episodes = sample_episodes(part.labels, way=2, shot=1, queries=2, episodes=50, seed=0)
    content = np.array([COPIES.get(video.key, video.key) for video in part.videos])
    for support, query in zip(episodes.support, episodes.query, strict=True):
        assert not set(content[support.ravel()]) & set(content[query.ravel()])


def test_packing_keeps_copies_apart_from_nothing(tmp_path: Path) -> None:
    before = used(make(tmp_path))
    pack_dataset(tmp_path / "images" / "toy")
    assert used(tmp_path) == before


def test_a_check_of_an_earlier_version_is_looked_at_for_copies(tmp_path: Path) -> None:
    keep_effective(StoredDataset(make(tmp_path), "toy"), check_dataset(StoredDataset(tmp_path, "toy")))
    path = StoredDataset(tmp_path, "toy").effective_file
    content = json.loads(path.read_text())
    del content["crc32"]
    for one in content["partitions"].values():
        del one["copies"]
    path.write_text(json.dumps(content))
    assert {video.key for video in StoredDataset(tmp_path, "toy").copies("train")} == {
        "ant/1",
        "ant/2",
        "bee/3",
    }
    assert not set(used(tmp_path)["train"]) & set(COPIES)


def test_a_check_names_both_videos_and_files_count_where_there_are_no_frames(tmp_path: Path) -> None:
    root = make(tmp_path)
    for folder in ("ant/1", "bee/2"):
        for frame in (root / "images" / "toy" / folder).iterdir():
            frame.unlink()
        (root / "images" / "toy" / folder).rmdir()
    files = {"ant/1": "cat/2", "cat/2": "cat/2", "bee/2": "eel/0", "eel/0": "eel/0", "bee/1": "something else"}
    for key, content in files.items():
        path = root / "videos" / "toy" / f"{key}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    check = check_dataset(StoredDataset(root, "toy"))
    keep_names(StoredDataset(root, "toy"), check)
    lines = (root / "splits" / "toy" / "copies.txt").read_text().splitlines()
    assert "train\tant/1\tval\tcat/2" in lines and "train\tbee/2\ttest\teel/0" in lines
    assert len(lines) == len(COPIES) + 1


def test_a_class_of_copies_alone_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    root = make(tmp_path)
    for number in range(N_VIDEOS):
        for index in range(8):
            (root / "images" / "toy" / "bee" / str(number) / f"{index}.jpg").write_text(f"dog/0 {index}")
    with pytest.raises(DataError, match="have lost all of their videos: 'bee'") as caught:
        used(root)
    assert "data.keep_copies=true" in str(caught.value)


def test_files_are_compared_where_their_sizes_are_equal(tmp_path: Path) -> None:
    files = {}
    for name, content in {"a": "one", "b": "one", "c": "two", "d": "three", "e": "", "f": ""}.items():
        files[Video("x", name)] = tmp_path / name
        (tmp_path / name).write_text(content)
    read: list[None] = []
    found = same_files(files, on_file=lambda: read.append(None))
    assert found[Video("x", "a")] == found[Video("x", "b")] != found[Video("x", "c")] and len(found) == len(read) == 3
    assert not same_files(files, among=[Video("x", "d")])
