"""Test lists in the formats of other tools, beside videos and frames on disk."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from hcl.datasets.list_formats import Lines, Reading, put_right
from hcl.datasets.splits import Video
from hcl.errors import DataError, SplitError
from hcl.frames.checking import check_dataset
from hcl.frames.inventory import take_inventory
from hcl.frames.packing import pack_dataset
from hcl.frames.store import FrameStore
from hcl.frames.stored_dataset import StoredDataset

PARTS = {"train": "Brush Hair", "val": "kicken größer", "test": "sit"}
N_VIDEOS = 3


def data_root(root: Path, *, frames: bool = False) -> Path:
    """Create videos, or frames of another tool, of one class in each partition."""
    for class_name in PARTS.values():
        for number in range(N_VIDEOS):
            kind, name = ("images", f"v {number}/0.jpg") if frames else ("videos", f"v {number}.mp4")
            path = root / kind / "toy" / class_name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{class_name} {number}")
    return root


def write_lists(root: Path, line: str, *, classes: str = "{c}") -> None:
    """Write lists of all videos; `line` is a template with {c}, {v} and the label {l}."""
    folder = root / "splits" / "toy"
    folder.mkdir(parents=True)
    for label, (part, class_name) in enumerate(PARTS.items()):
        lines = [line.format(c=class_name, v=f"v {number}", l=label) for number in range(N_VIDEOS)]
        (folder / f"{part}.list").write_text("\n".join(lines))
        (folder / f"{part}_class.txt").write_text(classes.format(c=class_name))


def read(classes: Lines, videos: Lines, *existing: str) -> Reading:
    """Read lines while only some names exist."""
    return put_right(classes, videos, as_it_is=existing.__contains__, by_spelling=existing.__contains__)


FORMS = {
    "as published": ("{c}/{v}", 0),
    "extensions": ("{c}/{v}.mp4", 3),
    "labels": ("{c}/{v}.mp4 {l}", 6),
    "labels without extension": ("{c}/{v} {l}", 3),
    "frames and labels": ("{c}/{v} 120 {l}", 3),
    "frames and labels behind a tab": ("{c}/{v}\t120\t{l}", 3),
    "trailing blanks": ("{c}/{v}  ", 3),
    "trailing tab": ("{c}/{v}.mp4\t", 6),
}


@pytest.mark.parametrize("has_frames", [False, True], ids=["videos", "frames"])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_unambiguous_is_read_and_told(tmp_path: Path, form: str, has_frames: bool) -> None:
    line, n_notes = FORMS[form]
    write_lists(data_root(tmp_path, frames=has_frames), line)
    split = StoredDataset(tmp_path, "toy").split
    assert [video.key for video in split.partitions["train"].videos] == [f"Brush Hair/v {n}" for n in range(N_VIDEOS)]
    assert len(split.notes) == n_notes
    inventory = take_inventory(StoredDataset(tmp_path, "toy"))
    assert not inventory.missing and len(inventory.files) == (0 if has_frames else 9)
    assert inventory.notes == split.notes == check_dataset(StoredDataset(tmp_path, "toy")).notes


def respelled(name: str, spelling: str) -> str:
    match spelling:
        case "case":
            return name.upper().replace("SS", "ß") if "ß" in name else name.upper()
        case "underscores":
            return name.replace(" ", "_")
    return unicodedata.normalize("NFD", name)


@pytest.mark.parametrize("has_frames", [False, True], ids=["videos", "frames"])
@pytest.mark.parametrize("spelling", ["case", "underscores", "unicode"])
def test_another_spelling_on_disk_is_found(tmp_path: Path, spelling: str, has_frames: bool) -> None:
    write_lists(data_root(tmp_path, frames=has_frames), "{c}/{v}")
    for path in sorted((tmp_path / ("images" if has_frames else "videos") / "toy").rglob("*"), reverse=True):
        if path.suffix != ".jpg":
            path.rename(path.with_name(respelled(path.stem, spelling) + path.suffix))
    inventory = take_inventory(StoredDataset(tmp_path, "toy"))
    assert not inventory.missing
    split = StoredDataset(tmp_path, "toy").split
    assert split.partitions["val"].videos[0] == Video("kicken größer", "v 0")  # what a record says stays the list's
    if not has_frames:
        n = {"case": 9, "underscores": 9, "unicode": 3}[spelling]
        assert [note.partition(",")[0] for note in inventory.notes] == [
            f"{n} videos were found under another spelling of their names"
        ]
        return
    for part in split.partitions.values():
        assert StoredDataset(tmp_path, part.dataset).effective(part.name) == part
    digests = [FrameStore(tmp_path / "images" / "toy").digest(part) for part in split.partitions.values()]
    pack_dataset(tmp_path / "images" / "toy")
    for part, digest in zip(split.partitions.values(), digests, strict=True):
        store = FrameStore(tmp_path / "images" / "toy")
        assert store.missing(part) == () and store.digest(part) == digest.removeprefix("content-")


def test_classes_of_the_list_take_the_spelling_of_the_class_file(tmp_path: Path) -> None:
    write_lists(data_root(tmp_path), "{c}/{v}")
    path = tmp_path / "splits" / "toy" / "train.list"
    path.write_text(path.read_text().replace("Brush Hair", "brush_hair"))
    assert StoredDataset(tmp_path, "toy").partition("train").videos[0] == Video("Brush Hair", "v 0")
    (tmp_path / "splits" / "toy" / "train_class.txt").write_text("Brush Hair\nBRUSH HAIR\n")
    with pytest.raises(SplitError, match="class 'brush_hair' is not among the 2 classes"):
        StoredDataset(tmp_path, "toy").partition("train")


def test_a_folder_of_the_file_system_among_the_classes_is_no_class(tmp_path: Path) -> None:
    write_lists(data_root(tmp_path), "{c}/{v}", classes="{c} \nlost+found\n")
    split = StoredDataset(tmp_path, "toy").split
    assert split.partitions["test"].classes == ("sit",)
    assert len(split.notes) == 3 and "lost+found" in split.notes[0]


def test_what_exists_as_it_is_written_is_read_as_it_is_written(tmp_path: Path) -> None:
    """Read names that end in a blank, an extension or a number."""
    write_lists(tmp_path, "{c}/{v}.mp4 {l}")
    for label, class_name in enumerate(PARTS.values()):
        (tmp_path / "images" / "toy" / class_name / f"v 0.mp4 {label}").mkdir(parents=True)
    assert StoredDataset(tmp_path, "toy").partition("val").videos[0].name == "v 0.mp4 1"
    for line, name in (("a/x.mp4", "a/x.mp4"), ("a/x ", "a/x "), ("a/x 3", "a/x 3")):
        assert read([(1, "a")], [(1, line)], name).videos == [(1, line)]


def test_numbers_that_belong_to_names_stay() -> None:
    """Keep the numbers, because no file on disk shows that they are labels."""
    videos = [(1, "a/v 0"), (2, "b/v 1")]
    assert read([(1, "a"), (2, "b")], videos).videos == videos
    mixed = [(1, "a/v 0.mp4"), (2, "b/v 1")]
    assert read([(1, "a"), (2, "b")], mixed).videos == mixed


def test_two_names_that_become_one_are_refused(tmp_path: Path) -> None:
    write_lists(data_root(tmp_path), "{c}/{v}.mp4")
    path = tmp_path / "splits" / "toy" / "test.list"
    path.write_text("sit/v 0.mp4\nsit/v 0.avi\n")
    with pytest.raises(SplitError, match="video 'sit/v 0' is listed here and in line 1"):
        StoredDataset(tmp_path, "toy").check_lists()


def test_where_nothing_is_found_a_path_and_the_nearest_name_are_shown(tmp_path: Path) -> None:
    write_lists(data_root(tmp_path), "{c}/{v}")
    for path in (tmp_path / "videos" / "toy").glob("*/*.mp4"):
        path.rename(path.with_name(f"clip-{path.name}"))
    with pytest.raises(DataError, match="holds none of the 9 videos that the split lists") as caught:
        take_inventory(StoredDataset(tmp_path, "toy"))
    folder = tmp_path / "videos" / "toy" / "Brush Hair"
    assert f"{folder}/v 0.* was looked for, and {folder} holds 'clip-v 0.mp4'" in str(caught.value)
    with pytest.raises(DataError, match="holds 'clip-v 0.mp4'"):
        check_dataset(StoredDataset(tmp_path, "toy"))


def test_two_spellings_of_one_name_are_not_chosen_from(tmp_path: Path) -> None:
    write_lists(data_root(tmp_path), "{c}/{v}")
    folder = tmp_path / "videos" / "toy" / "sit"
    (folder / "v 0.mp4").rename(folder / "V 0.mp4")
    (folder / "v_0.mp4").write_text("another")
    assert take_inventory(StoredDataset(tmp_path, "toy")).missing == ["sit/v 0"]
