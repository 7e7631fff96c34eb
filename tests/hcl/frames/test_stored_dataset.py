"""A data set that is read once: what an object of it sees, and what another process gets of it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from hcl.datasets.manifest import VideoRecord, write_manifest
from hcl.datasets.splits import Partition, Video, write_split
from hcl.errors import SplitError, StorageError
from hcl.frames.stored_dataset import DataRoot, StoredDataset

CLASSES = {"train": ("ant", "bee"), "val": ("cat",), "test": ("dog",)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Lists and a manifest of `toy`, with empty folders of frames."""
    write_lists(tmp_path, 3)
    images = tmp_path / "images" / "toy"
    records = []
    for class_name in sum(CLASSES.values(), ()):
        for index in range(3):
            (images / class_name / f"v{index}").mkdir(parents=True)
            records.append(VideoRecord(class_name, f"v{index}", "ok", 4, digest=f"of {class_name}/{index}"))
    write_manifest(images, records)
    return tmp_path


def write_lists(root: Path, n_videos: int) -> None:
    parts = {
        name: Partition("toy", name, classes, tuple(Video(c, f"v{i}") for c in classes for i in range(n_videos)))
        for name, classes in CLASSES.items()
    }
    write_split(root, "toy", parts)


def test_a_data_root_opens_a_data_set_once(root: Path) -> None:
    data = DataRoot(root)
    assert data.dataset("toy") is data.dataset("toy") and data.dataset("toy") is not data.dataset("other")
    assert data == DataRoot(root) and data.dataset("toy") == StoredDataset(root, "toy")
    assert "toy" in data.names()


def test_what_was_read_stays_and_another_object_sees_what_has_changed(root: Path) -> None:
    stored = StoredDataset(root, "toy")
    before, identity = stored.effective("train"), stored.frames_identity(stored.effective("train"))
    assert len(before.videos) == 6
    write_lists(root, 2)
    images = root / "images" / "toy"
    write_manifest(images, [VideoRecord("ant", "v0", "ok", 4, digest="another")])
    assert stored.effective("train") is before and stored.frames_identity(before) == identity
    again = StoredDataset(root, "toy")
    assert again == stored and len(again.partition("train").videos) == 4
    assert again.records.keys() == {"ant/v0"} != stored.records.keys()


def test_what_could_not_be_read_is_read_again(root: Path) -> None:
    stored, manifest = StoredDataset(root, "toy"), root / "images" / "toy" / "manifest.parquet"
    whole, lists = manifest.read_bytes(), root / "splits" / "toy"
    manifest.write_bytes(whole[:-40])
    (lists / "val.list").write_text("cat/v0\ncat/v0\n")
    with pytest.raises(StorageError, match="is not a manifest"):
        stored.effective("train")
    with pytest.raises(SplitError, match="is listed here and in line 1"):
        stored.check_lists()
    manifest.write_bytes(whole)
    (lists / "val.list").write_text("cat/v0\n")
    assert len(stored.effective("train").videos) == 6 and len(stored.split.partitions["val"].videos) == 1


def test_another_process_gets_the_name_and_no_rows(root: Path) -> None:
    data = DataRoot(root)
    stored = data.dataset("toy")
    assert stored.effective("train").videos and stored.frames.n_frames(Video("ant", "v0")) == 4
    sent = pickle.dumps([data, stored])
    assert len(sent) < 400 + 2 * len(str(root)) and b"ant" not in sent
    there, opened = pickle.loads(sent)
    assert (there, opened) == (data, stored) and "records" not in vars(opened)
    assert opened.effective("train") == stored.effective("train")
