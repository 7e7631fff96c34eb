"""Test folders of videos in practice: files that are read, left out with a note, or refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hcl.datasets.cards import card_of
from hcl.datasets.sources import find_sources
from hcl.datasets.splits import Video
from hcl.datasets.video_files import VIDEO_EXTENSIONS, find_videos, leftovers, read_tree
from hcl.errors import DataError
from hcl.frames.inventory import take_inventory
from hcl.frames.split_making import list_videos, make_splits
from hcl.frames.stored_dataset import StoredDataset


def files(root: Path, *names: str) -> Path:
    """Write small files, each with different content."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


EXTENSIONS = "mp4 MTS m2ts mts VOB ogv asf f4v divx 3g2 mxf h264 hevc ts mkv WebM gif dv rmvb"


@pytest.mark.parametrize("extension", EXTENSIONS.split(" "))
def test_videos_of_cameras_and_discs_are_found(tmp_path: Path, extension: str) -> None:
    assert list(find_videos(files(tmp_path, f"a/x.{extension}", "a/notes.txt"))) == ["a/x"]


def test_a_class_within_a_folder_of_its_name_is_read_and_found_again(tmp_path: Path) -> None:
    root = files(tmp_path / "raw", "a/a/1.avi", "a/a/2.avi", "b/3.avi", "c/c/4.avi", "c/5.avi")
    tree = read_tree(root)
    assert list(tree.files) == ["a/1", "a/2", "b/3", "c/4", "c/5"]
    assert tree.notes == (
        "3 videos lie in a folder of their class's name within the class and were read, such as 'a/a/1.avi'",
    )
    made = make_splits(tmp_path / "data", "own", root, {"train": 1, "val": 1, "test": 1})["own"]
    videos = [video for part in made.values() for video in part.videos]
    found = find_sources(tmp_path / "data", card_of(tmp_path / "data", "own"), videos)
    assert found == tree.files


def test_folders_of_parts_are_seen_through(tmp_path: Path) -> None:
    root = files(tmp_path / "raw", "train/a/1.mp4", "train/b/2.mp4", "val/a/3.mp4", "test/c/c/4.mp4")
    notes: list[str] = []
    made = make_splits(tmp_path / "data", "own", root, {"train": 1, "val": 1, "test": 1}, tell=notes.append)["own"]
    videos = [video for part in made.values() for video in part.videos]
    assert sorted(video.key for video in videos) == ["a/1", "a/3", "b/2", "c/4"]
    assert "test, train, val were read as one set of 3 classes; their division is not kept" in notes
    assert len(find_sources(tmp_path / "data", card_of(tmp_path / "data", "own"), videos)) == 4
    files(root, "val/b/2.mp4")
    with pytest.raises(DataError, match="'train/b/2.mp4' and 'val/b/2.mp4' are both video 'b/2'"):
        read_tree(root)


def test_parts_may_be_classes(tmp_path: Path) -> None:
    assert list(read_tree(files(tmp_path, "test/1.mp4", "drive/2.mp4", "train/3.mp4")).files) == [
        "drive/2",
        "test/1",
        "train/3",
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a/s1/1.mp4", "a/s2/1.mp4", "b/s1/1.mp4"), r"3 of 3 videos lie deeper .*'a/s1/1.mp4'"),
        (("a/1.mp4", "b/2.mp4", "c/s1/3.mp4"), r"1 of 3 videos lie deeper .*'c/s1/3.mp4'"),
        (
            ("UCF-101/a/1.avi", "UCF-101/b/2.avi"),
            r"2 of 2 videos .*\n.*UCF-101, if its folders are",
        ),
        (("train/a/1.avi", "val/a/b/2.avi"), r"2 of 2 videos lie deeper"),
    ],
)
def test_where_the_classes_cannot_be_told_nothing_is_made(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_splits(tmp_path / "data", "own", files(tmp_path / "raw", *names), {"train": 1, "val": 1, "test": 1})
    assert not (tmp_path / "data").exists()


def test_what_is_left_out_is_told_with_a_number_and_an_example(tmp_path: Path) -> None:
    root = files(tmp_path, "top.mp4", "a/1.mp4", "a/1.f137.webm", "a/1.temp.mp4", "a/2.mp4.part", "a/1.srt", "a/2.xyz")
    files(root, "lost+found/9.mp4", "a/thumbs/1.jpg", "a/cover.jpg", "b/x.f251.webm", "empty/notes.txt")
    os.symlink(root / "nowhere", root / "a" / "3.mp4")
    tree = read_tree(root)
    assert list(tree.files) == ["a/1", "b/x.f251"]  # without x.mp4 it is not a leftover
    assert tree.notes == (
        "1 videos lie in no class folder: left out, such as 'top.mp4'",
        "2 leftovers of a downloader lie beside their videos: left out, such as 'a/1.f137.webm'",
        "1 unfinished downloads: left out, such as 'a/2.mp4.part'",
        "1 links lead nowhere: left out, such as 'a/3.mp4'",
        "1 folders hold no video and are no class, such as 'empty'",
        "1 folders of images beside the videos: left out, such as 'a/thumbs'",
        "4 files are no videos (.srt 1, .xyz 1, .jpg 1, .txt 1): left out, such as 'a/1.srt'",
    )


def test_an_extraction_without_lists_reads_and_tells_the_same(tmp_path: Path) -> None:
    files(tmp_path / "videos" / "toy", "a/a/1.MTS", "b/2.mp4", "b/2.temp.mp4")
    inventory = take_inventory(StoredDataset(tmp_path, "toy"))
    assert inventory.listed == ["a/1", "b/2"] and len(inventory.notes) == 2
    files(tmp_path / "videos" / "toy", "c/subject/3.mp4")
    with pytest.raises(DataError, match="1 of 3 videos lie deeper"):
        take_inventory(StoredDataset(tmp_path, "toy"))


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    files(tmp_path, "a/1.mp4")
    os.symlink(tmp_path, tmp_path / "a" / "again")
    assert list(read_tree(tmp_path).files) == ["a/1"]


def test_leftovers_are_told_from_names_with_dots() -> None:
    names = (
        "x.mp4",
        "x.f137.webm",
        "x.f140-1.m4v",
        "x.fhls-720.mp4",
        "x.temp.mp4",
        "y.f137.mp4",
        "x.final.mp4",
        "x.2.mp4",
    )
    assert sorted(leftovers(names)) == ["x.f137.webm", "x.f140-1.m4v", "x.fhls-720.mp4", "x.temp.mp4"]


def test_copies_are_not_listed_unless_asked_for(tmp_path: Path) -> None:
    root = files(tmp_path / "raw", "a/1.mp4", "b/3.mp4")
    for name in ("a/0.mkv", "b/9.mp4", "c/5.mp4"):
        files(root, name)
        (root / name).write_text("a/1.mp4")
    listing = list_videos(root)
    assert listing.classes == {"a": ("0",), "b": ("3",)}
    assert listing.notes == (
        "3 videos are copies of others: left out, such as a/1 = a/0, b/9 = a/0, c/5 = a/0",
        "1 classes hold nothing but copies and are left out: 'c'",
    )
    assert list_videos(root, keep_copies=True).classes == {"a": ("0", "1"), "b": ("3", "9"), "c": ("5",)}


def test_frames_elsewhere_than_in_the_data_root_are_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    names = [f"{one}/v{number}/img_{index}.png" for one in "abc" for number in (0, 1) for index in (1, 2)]
    root = files(tmp_path / "my frames", *names)
    (root / "a" / "idle").mkdir()
    sizes = {"train": 1, "val": 1, "test": 1}
    with pytest.raises(DataError, match="holds frames, which are read in .*/images alone") as caught:
        make_splits(tmp_path / "data", "own", root, sizes)
    assert f"ln -s '{root}' '{tmp_path}/data/images/my frames'" in str(caught.value)
    (tmp_path / "data" / "images").mkdir(parents=True)
    link = tmp_path / "data" / "images" / "my frames"
    link.symlink_to(root)
    notes: list[str] = []
    made = make_splits(tmp_path / "data", "own", link, sizes, tell=notes.append)["own"]
    assert sum(len(part.videos) for part in made.values()) == 6 and made["train"].videos[0] < Video("d", "")
    assert notes == ["1 folders hold neither videos nor frames: left out, such as 'a/idle'"]


def test_every_extension_is_in_lower_case_with_its_dot() -> None:
    assert all(one.startswith(".") and one == one.lower() and len(one) > 2 for one in VIDEO_EXTENSIONS)
