"""Test split lists in the published format, and invalid ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hcl.datasets.splits import Partition, Split, Video, merge, write_split
from hcl.errors import SplitError, StorageError
from hcl.frames.stored_dataset import StoredDataset

HOSTILE = {  # class -> videos, from the published lists, and worse
    "Twisting (wringing) something wet": ("88644", "(Rad)Schlag_die_Bank!_f_cm", "-514AQUrSow_000058"),
    "Putting something, something and [something]": ("a b", "c,d", "*?%04d", "größer", "semi;colon&$(x)`y`"),
    "back\\slash 'quoted\"": (" leading space", "trailing.dots..", "عربي", "100%"),
}


def lists(root: Path, **texts: str) -> Path:
    folder = root / "splits" / "toy"
    folder.mkdir(parents=True)
    base = {f"{part}.list": f"{part}0/v0\n{part}0/v1" for part in ("train", "val", "test")}
    base |= {f"{part}_class.txt": f"{part}0\n" for part in ("train", "val", "test")}
    for name, text in (base | {name.replace("__", "."): text for name, text in texts.items()}).items():
        (folder / name).write_bytes(text.encode())
    return root


def partition(name: str, videos: dict[str, tuple[str, ...]], dataset: str = "toy") -> Partition:
    listed = tuple(Video(class_name, video) for class_name, names in videos.items() for video in names)
    return Partition(dataset, name, tuple(videos), listed)


def test_published_layout_without_last_newline(tmp_path: Path) -> None:
    split = StoredDataset(lists(tmp_path), "toy").split
    assert list(split.partitions) == ["train", "val", "test"]
    assert split.partitions["val"].videos == (Video("val0", "v0"), Video("val0", "v1"))
    assert split.partitions["val"].videos[1].key == "val0/v1"


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    root = lists(tmp_path, train__list="\ufefftrain0/v 0\r\ntrain0/v1\r\n\r\n", train_class__txt="train0\r\n")
    assert [video.name for video in StoredDataset(root, "toy").partition("train").videos] == ["v 0", "v1"]


def test_labels_index_the_classes_in_file_order() -> None:
    part = Partition("toy", "train", ("b", "a"), (Video("a", "x"), Video("b", "y"), Video("a", "z")))
    assert part.labels.dtype == np.int64
    assert part.labels.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="read-only"):
        part.labels[0] = 0


def test_hostile_names_survive_a_round_trip(tmp_path: Path) -> None:
    parts = {
        "train": partition("train", HOSTILE),
        "val": partition("val", {"v": ("0",)}),
        "test": partition("test", {"t": ("0",)}),
    }
    write_split(tmp_path, "toy", parts)
    assert StoredDataset(tmp_path, "toy").split == Split("toy", parts)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"train__list": "train0/v0\nv1\n"}, r"train\.list, line 2: 'v1' is not `class/video`"),
        ({"train__list": "train0/v0\ntrain0/deep/v1\n"}, r"line 2: .* is not `class/video`"),
        ({"train__list": "/etc/passwd\n"}, r"line 1: .* is not `class/video`"),
        ({"train__list": "/passwd\n"}, r"line 1: class name '' cannot be"),
        ({"train__list": "train0/\n"}, r"line 1: video name '' cannot be"),
        ({"train__list": "train0/ \n"}, r"line 1: video name ' ' cannot be"),
        (
            {"train__list": "../v0\n", "train_class__txt": "..\n"},
            r"train_class\.txt, line 1: class name '\.\.' cannot be",
        ),
        ({"train__list": "train0/..\n"}, r"line 1: video name '\.\.' cannot be"),
        ({"train__list": "train0/.hidden\n"}, r"line 1: video name '\.hidden' cannot be"),
        ({"train__list": "train0/v\0\n"}, r"line 1: video name 'v\\x00' cannot be"),
        ({"train__list": "train0/a\tb"}, r"line 1: video name 'a\\tb' .* holds a control character \(U\+0009\)"),
        ({"train__list": "train0/a\x85b"}, r"holds a control character \(U\+0085\)"),
        ({"train__list": "train0/a\u2028b"}, r"holds a line separator \(U\+2028\)"),
        ({"train__list": "train0/gpj\u202ecod"}, r"'gpj\\u202ecod' .* turns the direction of writing \(U\+202E\)"),
        ({"train__list": f"train0/{'x' * 10**6}"}, r"'x{80}'\.\.\. \(1,000,000 characters\) .* has 1,000,000 bytes"),
        ({"train__list": f"train0/{'ß' * 121}"}, r"has 242 bytes, more than 240"),
        ({"train__list": "y" * 10**6}, r"'y{80}'\.\.\. .* is not `class/video`"),
        ({"train__list": "train0/v0\nother/v0\n"}, r"line 2: class 'other' is not among the 1 classes of train_class"),
        ({"train__list": "train0/v0\ntrain0/v1\ntrain0/v0"}, r"line 3: video 'train0/v0' is listed here and in line 1"),
        (
            {"train_class__txt": "train0\n\ntrain0\n"},
            r"train_class\.txt, line 3: class 'train0' is listed here and in line 1",
        ),
        ({"train_class__txt": "train0\nidle\n"}, r"train\.list: 1 of 2 classes have no video: 'idle'"),
        ({"train__list": "\n"}, r"train\.list: has no lines"),
        (
            {"val__list": "train0/v7\nval0/v", "val_class__txt": "train0\nval0"},
            r"partitions train and val share 1 classes: 'train0'",
        ),
    ],
)
def test_what_is_wrong_is_named_with_a_remedy(tmp_path: Path, texts: dict[str, str], message: str) -> None:
    with pytest.raises(SplitError, match=message) as caught:
        StoredDataset(lists(tmp_path, **texts), "toy").check_lists()
    assert caught.value.remedy


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (lists(tmp_path) / "splits" / "toy" / "val_class.txt").unlink()
    with pytest.raises(SplitError, match=r"val_class\.txt: cannot be read: No such file"):
        StoredDataset(tmp_path, "toy").check_lists()


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    (lists(tmp_path) / "splits" / "toy" / "test.list").write_bytes("test0/größer".encode("latin-1"))
    with pytest.raises(SplitError, match=r"test\.list, line 1: is not UTF-8 \(byte 9 of the line\)"):
        StoredDataset(tmp_path, "toy").check_lists()


def test_other_files_are_not_taken_for_lists(tmp_path: Path) -> None:
    path = lists(tmp_path) / "splits" / "toy" / "test.list"
    path.write_bytes("test0/v0\n".encode("utf-16"))
    with pytest.raises(SplitError, match=r"test\.list, line 1: is not UTF-8"):
        StoredDataset(tmp_path, "toy").check_lists()
    with path.open("wb") as file:
        file.truncate(2**30)  # a sparse file
    with pytest.raises(SplitError, match=r"test\.list: has 1,073,741,824 bytes and is no list of names"):
        StoredDataset(tmp_path, "toy").check_lists()


@pytest.mark.parametrize("dataset", ["../toy", "/toy", "", "a/b", ".."])
def test_a_dataset_cannot_leave_the_data_root(tmp_path: Path, dataset: str) -> None:
    with pytest.raises(SplitError, match="dataset name"):
        StoredDataset(lists(tmp_path), dataset).check_lists()


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        ({"a": ("0", "0")}, "video 'a/0' is listed here and in line 1"),
        ({"a": ()}, "no video: 'a'"),
        ({"..": ("0",)}, "class name"),
        ({"a": ("x/../../y",)}, "is not `class/video`"),
        ({"a": ("x\ny",)}, "video name"),
        ({"t": ("0",)}, "share 1 classes: 't'"),
    ],
)
def test_nothing_is_written_that_could_not_be_read(
    tmp_path: Path, videos: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(SplitError, match=message):
        write_split(tmp_path, "toy", {"test": partition("test", {"t": ("0",)}), "train": partition("train", videos)})
    assert not (tmp_path / "splits").exists()


def test_a_partition_is_written_under_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="partition 'train' of 'toy' would be written as 'val'"):
        write_split(tmp_path, "toy", {"val": partition("train", {"a": ("0",)})})


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "splits").write_text("a file")
    with pytest.raises(StorageError, match="cannot be written"):
        write_split(tmp_path, "toy", {"val": partition("val", {"a": ("0",)})})


def test_merge_keeps_order_and_refuses_shared_classes() -> None:
    train, val = partition("train", {"b": ("1",), "a": ("2", "0")}), partition("val", {"c": ("3",)})
    both = merge([train, val], "train+val")
    assert both.classes == ("b", "a", "c")
    assert both.labels.tolist() == [0, 1, 1, 2]
    assert both.videos == train.videos + val.videos
    for wrong in ([train, train], [train, partition("val", {"c": ("3",)}, dataset="other")], []):
        with pytest.raises(SplitError):
            merge(wrong, "both")


def test_digest_follows_content_and_order() -> None:
    one = partition("train", {"a": ("0", "1"), "b": ("2",)})
    assert one.digest() == partition("train", {"a": ("0", "1"), "b": ("2",)}).digest()
    others = [
        partition("train", {"a": ("1", "0"), "b": ("2",)}),
        partition("train", {"b": ("2",), "a": ("0", "1")}),
        partition("val", {"a": ("0", "1"), "b": ("2",)}),
        partition("train", {"a": ("0", "1"), "b": ("2",)}, dataset="other"),
    ]
    assert len({one.digest(), *(other.digest() for other in others)}) == 5
