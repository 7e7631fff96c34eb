"""Test the check of a data set against its lists, and the effective split."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcl.datasets.manifest import VideoRecord, write_manifest
from hcl.datasets.splits import Partition, Video, write_split
from hcl.errors import DataError, SplitError
from hcl.frames.checking import NO_FILE, check_dataset, keep_effective, keep_names
from hcl.frames.effective import read_effective
from hcl.frames.stored_dataset import StoredDataset

CLASSES = {"train": ("a (b), [c]", "b"), "val": ("c",), "test": ("d",)}
N_VIDEOS = 3


def make(root: Path) -> Path:
    """Write lists of three videos a class, and frames of all videos."""
    partitions = {}
    for name, classes in CLASSES.items():
        videos = tuple(Video(one, f"{one}-{number}") for one in classes for number in range(N_VIDEOS))
        partitions[name] = Partition("toy", name, classes, videos)
        for video in videos:
            frames(root, video.key)
    write_split(root, "toy", partitions)
    return root


def frames(root: Path, key: str, n: int = 8) -> None:
    folder = root / "images" / "toy" / key
    folder.mkdir(parents=True)
    noise = np.random.default_rng(list(key.encode()))  # no two videos are copies
    for index in range(n):
        cv2.imwrite(str(folder / f"{index}.jpg"), noise.integers(0, 256, (8, 8, 3), np.uint8))


def drop(root: Path, key: str) -> None:
    folder = root / "images" / "toy" / key
    for frame in folder.iterdir():
        frame.unlink()
    folder.rmdir()


def video_file(root: Path, key: str, content: bytes = b"x") -> Path:
    path = root / "videos" / "toy" / f"{key}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def card(root: Path, text: str) -> None:
    (root / "datasets").mkdir()
    (root / "datasets" / "toy.yaml").write_text(f"name: toy\n{text}")


def keys(videos) -> list[str]:
    return [video.key for video in videos]


def test_what_is_complete_has_no_warnings(tmp_path: Path) -> None:
    card(make(tmp_path), "partitions: {train: {classes: 2, videos: 6}}")
    check = check_dataset(StoredDataset(tmp_path, "toy"))
    assert check.warnings() == [] and check.is_extracted
    assert [part.n_present for part in check.partitions] == [6, 3, 3]
    assert keep_names(StoredDataset(tmp_path, "toy"), check) == []


def test_each_video_is_counted_once(tmp_path: Path) -> None:
    make(tmp_path)
    for name in ("b/b-0", "b/b-1", "b/b-2", "c/c-0", "d/d-0", "d/d-1"):
        drop(tmp_path, name)
    frames(tmp_path, "d/d-0", n=7)
    video_file(tmp_path, "b/b-1")
    video_file(tmp_path, "b/b-2", b"")
    stat = video_file(tmp_path, "c/c-0").stat()
    video_file(tmp_path, "d/d-1", b"y")
    record = VideoRecord("c", "c-0", "broken", error="no\nframe", source_bytes=1, source_mtime_ns=stat.st_mtime_ns)
    replaced = VideoRecord("d", "d-1", "timeout", error="slow", source_bytes=2, source_mtime_ns=0)
    write_manifest(tmp_path / "images" / "toy", [record, replaced])
    train, val, test = (check := check_dataset(StoredDataset(tmp_path, "toy"))).partitions
    assert (keys(train.missing), keys(train.waiting)) == (["b/b-0"], ["b/b-1"])
    assert {video.key: why for video, why in train.broken.items()} == {"b/b-2": "the file is empty"}
    assert (train.n_present, val.n_present, test.n_present) == (4, 2, 3)
    assert keys(val.broken) == ["c/c-0"]
    assert keys(test.waiting) == ["d/d-1"]  # the file that timed out was replaced
    assert {video.key: n for video, n in test.short.items()} == {"d/d-0": 7}
    assert not check.is_extracted
    assert check.warnings() == [
        "train: 1 of 6 videos missing: 'b/b-0'",
        "train: 1 of 6 videos broken: 'b/b-2'",
        "val: 1 of 3 videos broken: 'c/c-0'",
    ]
    assert [path.name for path in keep_names(StoredDataset(tmp_path, "toy"), check)] == ["missing.txt", "broken.txt"]
    folder = tmp_path / "splits" / "toy"
    assert (folder / "missing.txt").read_text() == "b/b-0\n"
    assert (folder / "broken.txt").read_text() == "b/b-2\tthe file is empty\nc/c-0\tno frame\n"
    frames(tmp_path, "b/b-0")
    keep_names(StoredDataset(tmp_path, "toy"), check_dataset(StoredDataset(tmp_path, "toy")))
    assert not (folder / "missing.txt").exists()


def test_files_are_opened_where_there_are_no_frames_and_frames_where_there_are(tmp_path: Path) -> None:
    make(tmp_path)
    video_file(tmp_path, "b/b-0")
    drop(tmp_path, "b/b-1")
    path = video_file(tmp_path, "b/b-1")
    calls = []
    check = check_dataset(
        StoredDataset(tmp_path, "toy"), open_files=lambda files: calls.append(files) or {"b/b-1": "not a video"}
    )
    (opened,) = calls
    assert opened.pop("b/b-1") == path and len(opened) == 11
    assert all(place == tmp_path / "images" / "toy" / key for key, place in opened.items())
    train = check.partitions[0]
    assert keys(train.broken) == ["b/b-1"] and not train.waiting


def test_counts_that_the_card_does_not_name_are_warned_of(tmp_path: Path) -> None:
    card(make(tmp_path), "partitions: {train: {classes: 3, videos: 6000}, val: {classes: 1, videos: 3}}")
    assert check_dataset(StoredDataset(tmp_path, "toy")).warnings() == [
        "train: 2 classes listed, 3 expected",
        "train: 6 videos listed, 6,000 expected",
    ]


def test_one_file_under_two_classes_is_warned_of(tmp_path: Path) -> None:
    card(make(tmp_path), "videos: ['flat/{video}']")
    listed = tmp_path / "splits" / "toy" / "test.list"
    listed.write_text(listed.read_text() + "d/c-1\n")
    frames(tmp_path, "d/c-1")
    assert check_dataset(StoredDataset(tmp_path, "toy")).warnings() == ["1 videos are listed in several classes: 'c-1'"]


def test_the_effective_split_is_what_training_gets(tmp_path: Path) -> None:
    make(tmp_path)
    drop(tmp_path, "b/b-0")
    listed = StoredDataset(tmp_path, "toy").partition("train")
    with pytest.raises(DataError, match=r"1 of 6 videos of toy train have no frames: 'b/b-0'\n.*hcl data check toy"):
        StoredDataset(tmp_path, "toy").effective("train")
    kept = keep_effective(StoredDataset(tmp_path, "toy"), check_dataset(StoredDataset(tmp_path, "toy")))
    partition = StoredDataset(tmp_path, "toy").effective("train")
    assert keys(partition.videos) == [video.key for video in listed.videos if video.key != "b/b-0"]
    assert {video.key: why for video, why in StoredDataset(tmp_path, "toy").left_out("train").items()} == {
        "b/b-0": NO_FILE
    }
    assert partition == kept["train"]
    written = read_effective(StoredDataset(tmp_path, "toy").effective_file, "toy")
    assert written["train"].digest == partition.digest() and written["train"].n_videos == 5
    assert written["test"].digest == StoredDataset(tmp_path, "toy").partition("test").digest()
    frames(tmp_path, "b/b-0")  # what has been accepted stands until the next check
    assert StoredDataset(tmp_path, "toy").effective("train") == partition
    drop(tmp_path, "b/b-1")  # and nothing more goes in silence
    with pytest.raises(DataError, match=r"'b/b-1'\n.*repeat `hcl data check toy`"):
        StoredDataset(tmp_path, "toy").effective("train")


def test_changed_lists_want_another_check(tmp_path: Path) -> None:
    make(tmp_path)
    keep_effective(StoredDataset(tmp_path, "toy"), check_dataset(StoredDataset(tmp_path, "toy")))
    path = tmp_path / "splits" / "toy" / "val.list"
    path.write_text("c/c-0\nc/c-1")
    with pytest.raises(DataError, match=r"the lists of toy val have changed") as caught:
        StoredDataset(tmp_path, "toy").effective("val")
    assert "hcl data check toy" in (caught.value.remedy or "")


def test_a_class_without_videos_leaves_the_effective_split_as_it_was(tmp_path: Path) -> None:
    make(tmp_path)
    keep_effective(StoredDataset(tmp_path, "toy"), check_dataset(StoredDataset(tmp_path, "toy")))
    before = StoredDataset(tmp_path, "toy").effective_file.read_bytes()
    for number in range(N_VIDEOS):
        drop(tmp_path, f"b/b-{number}")
    with pytest.raises(DataError, match="1 of 2 classes of toy train have lost all of their videos: 'b'"):
        keep_effective(StoredDataset(tmp_path, "toy"), check_dataset(StoredDataset(tmp_path, "toy")))
    assert StoredDataset(tmp_path, "toy").effective_file.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"kind": "effective split", "schema": 2, "dataset": "toy", "partitions": {}}',
        b'{"kind": "effective split", "schema": 1, "dataset": "other", "partitions": {}}',
        b'{"kind": "effective split", "schema": 1, "dataset": "toy", "partitions": {"train": {"x": 1}}}',
        b'{"kind": "effective split", "schema": 1, "dataset": "toy", "partitions": {"train": 7}}',
        json.dumps(
            {"kind": "effective split", "schema": 1, "dataset": "toy"}
            | {"partitions": {"train": {"listed_digest": "x", "digest": 1, "n_videos": 2, "left_out": {}}}}
        ).encode(),
        b"[" * 100_000,
    ],
)
def test_a_damaged_effective_split_is_named(tmp_path: Path, content: bytes) -> None:
    StoredDataset(make(tmp_path), "toy").effective_file.write_bytes(content)
    with pytest.raises(DataError, match=r"effective\.json: is not an effective split"):
        StoredDataset(tmp_path, "toy").effective("train")


def test_a_data_root_without_one_video_says_where_it_looked(tmp_path: Path) -> None:
    card(make(tmp_path), "videos: ['elsewhere/{class}/{video}']\nobtain: ask the authors")
    for classes in CLASSES.values():
        for one in classes:
            for number in range(N_VIDEOS):
                drop(tmp_path, f"{one}/{one}-{number}")
    with pytest.raises(DataError, match=r"none of the 12 videos[^$]*elsewhere/\{class\}/\{video\}[^$]*ask the authors"):
        check_dataset(StoredDataset(tmp_path, "toy"))


def test_classes_in_two_partitions_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "splits" / "toy" / "val_class.txt").write_text("d")
    (tmp_path / "splits" / "toy" / "val.list").write_text("d/d-0")
    with pytest.raises(SplitError, match="partitions val and test share 1 classes: 'd'"):
        check_dataset(StoredDataset(tmp_path, "toy"))


def test_videos_that_an_earlier_version_extracted_are_named(tmp_path: Path) -> None:
    make(tmp_path)
    old = VideoRecord("b", "b-1", "ok", n_frames=8, options_digest="abc")
    write_manifest(tmp_path / "images" / "toy", [old, VideoRecord("c", "c-0", "ok", n_frames=8)])
    check = check_dataset(StoredDataset(tmp_path, "toy"))
    assert check.unconfirmed == ("b/b-1",)
    assert check.warnings() == []


def test_a_video_that_an_earlier_version_gave_up_waits_for_the_second_decoder(tmp_path: Path) -> None:
    make(tmp_path)
    drop(tmp_path, "b/b-1")
    stat = video_file(tmp_path, "b/b-1").stat()
    broken = VideoRecord(
        "b", "b-1", "broken", options_digest="abc", source_bytes=stat.st_size, source_mtime_ns=stat.st_mtime_ns
    )
    images = tmp_path / "images" / "toy"
    write_manifest(images, [broken])
    assert [video.key for video in check_dataset(StoredDataset(tmp_path, "toy")).partitions[0].waiting] == ["b/b-1"]
    write_manifest(images, [replace(broken, decoder="pyav")])
    assert [video.key for video in check_dataset(StoredDataset(tmp_path, "toy")).partitions[0].broken] == ["b/b-1"]
