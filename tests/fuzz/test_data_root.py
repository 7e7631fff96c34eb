"""Test hostile data roots: lists, names, manifests, shards and folders of frames."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hcl.datasets.cards import card_of, known_datasets
from hcl.datasets.class_names import read_names, spelled_out
from hcl.datasets.manifest import VideoRecord, append_record, read_manifest, write_manifest
from hcl.datasets.sources import find_sources
from hcl.datasets.splits import Split, Video
from hcl.errors import StorageError
from hcl.frames.effective import read_effective
from hcl.frames.packing import pack_dataset, unpack_dataset
from hcl.frames.shards import _SCHEMA, _TRAILER, Shard, write_shard
from hcl.frames.store import FrameStore
from hcl.frames.stored_dataset import StoredDataset
from tests.fuzz.hostile import altered, contained, fuzzed, mutated, texts

LISTS = {
    **{f"{part}_class.txt": f"{part} one\n{part}_two\n".encode() for part in ("train", "val", "test")},
    **{f"{part}.list": f"{part} one/v1\n{part}_two/v 2\n".encode() for part in ("train", "val", "test")},
}
FRAMES = [b"\xff\xd8first\xff\xd9", b"\xff\xd8second\xff\xd9"]
RECORD = VideoRecord("train one", "v1", "ok", n_frames=2, width=4, height=4)


def use(root: Path, split: Split) -> None:
    """Use a split, whose names must give paths exactly two levels below the root."""
    videos = [video for partition in split.partitions.values() for video in partition.videos]
    images = StoredDataset(root, "made").images_root
    for video in videos:
        assert (images / video.key).resolve().parent.parent == images.resolve()
    find_sources(root, card_of(root, "made"), videos)
    store = FrameStore(images)
    for video in videos:
        with contained(root):
            store.read(video, [0])
    for partition in split.partitions.values():
        StoredDataset(root, partition.dataset).effective(partition.name)


@fuzzed(20)
@given(st.sampled_from(sorted(LISTS)), st.data())
def test_lists(tmp_path: Path, name: str, data: st.DataObject) -> None:
    folder = tmp_path / "splits" / "made"
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in LISTS.items():
        (folder / file).write_bytes(data.draw(mutated([content])) if file == name else content)
    with contained(tmp_path):
        use(tmp_path, StoredDataset(tmp_path, "made").split)
    with contained(tmp_path):
        known_datasets(tmp_path)


@fuzzed(25)
@given(texts, texts)
@example("..", "v")
@example("train", "../../../out")
@example("manifest.jsonl", "v")
@example("manifest.parquet", "v")
@example("shard-0.tar", "v")
def test_names_that_are_taken_are_folders_of_the_root(tmp_path: Path, class_name: str, video: str) -> None:
    """Create, list, pack, unpack and read folders with all names that a list accepts."""
    root = tmp_path / hashlib.sha256(f"{class_name!r} {video!r}".encode()).hexdigest()[:8]
    shutil.rmtree(root, ignore_errors=True)
    folder = root / "splits" / "made"
    folder.mkdir(parents=True)
    for file, content in LISTS.items():
        (folder / file).write_bytes(content)
    with contained(root, reads_only=False):
        name = class_name.encode(errors="surrogatepass")
        (folder / "test_class.txt").write_bytes(name)
        (folder / "test.list").write_bytes(name + b"/" + video.encode(errors="surrogatepass"))
        split = StoredDataset(root, "made").split
        for one in split.partitions["test"].videos:
            frames = StoredDataset(root, "made").images_root / one.key
            frames.mkdir(parents=True)
            (frames / "0.jpg").write_bytes(FRAMES[0])
            write_manifest(
                StoredDataset(root, "made").images_root, [VideoRecord(one.class_name, one.name, "ok", n_frames=1)]
            )
            pack_dataset(StoredDataset(root, "made").images_root)
            assert FrameStore(StoredDataset(root, "made").images_root).packed_keys() == {one.key}
            unpack_dataset(StoredDataset(root, "made").images_root)
            assert (frames / "0.jpg").read_bytes() == FRAMES[0]


@fuzzed(25)
@given(mutated([b"train one,first\ntrain_two,second\n", b"train_two second\n", b"a\tb\n"]))
def test_files_of_names(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    with contained(tmp_path):
        read_names(tmp_path / "names.txt", ["train_two"])
    spelled_out(content.decode(errors="replace"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_manifest(tmp_path_factory.mktemp("manifest"), [RECORD]).read_bytes()


def look(images: Path) -> None:
    for record in read_manifest(images).values():
        assert isinstance(record.n_frames, int) and record.n_frames >= 0
        video = Video(record.class_name, record.video)
        with contained(images):
            FrameStore(images).read(video, [0], min_side=2)
    FrameStore(images).packed_keys()


@fuzzed(25)
@given(st.data())
def test_damaged_manifests(tmp_path: Path, manifest: bytes, data: st.DataObject) -> None:
    (tmp_path / "manifest.parquet").write_bytes(data.draw(mutated([manifest])))
    with contained(tmp_path):
        look(tmp_path)


@fuzzed(25)
@given(altered(json.loads(json.dumps(vars(RECORD)))))
@example({**vars(RECORD), "n_frames": 10**400})
@example({**vars(RECORD), "class_name": "../.."})
def test_lines_of_the_journal(tmp_path: Path, row: Any) -> None:
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row) + "\n" + "[" * 100_000 + "\n")
    with contained(tmp_path):
        look(tmp_path)


@fuzzed(20)
@given(altered(dict(vars(RECORD)), n_most=1))
def test_manifests_with_other_columns(tmp_path: Path, row: Any) -> None:
    try:
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "manifest.parquet")
    except (pa.ArrowException, OverflowError, UnicodeError, TypeError, AttributeError, ValueError):
        return  # it cannot be written as a table
    with contained(tmp_path):
        look(tmp_path)


def test_what_is_added_to_a_journal_is_read(tmp_path: Path) -> None:
    append_record(tmp_path, RECORD)
    assert read_manifest(tmp_path) == {RECORD.key: RECORD}


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("shard") / "shard-0.tar"
    write_shard(path, [(Video("a", "v1"), FRAMES), (Video("b", "v2"), FRAMES[:1])])
    return path.read_bytes()


def read_shard(path: Path) -> None:
    with contained(path.parent):
        for packed in Shard.opened(path).videos():
            with contained(path.parent):
                packed.read()
    with contained(path.parent):
        Shard.opened(path).verify()
    with contained(path.parent):
        look(path.parent)


@fuzzed(25)
@given(st.data())
def test_damaged_shards(tmp_path: Path, shard: bytes, data: st.DataObject) -> None:
    (tmp_path / "shard-0.tar").write_bytes(data.draw(mutated([shard])))
    read_shard(tmp_path / "shard-0.tar")


INDEX = {"class_name": "a", "video": "v", "digest": "d", "offsets": [512, 1024], "sizes": [5, 5], "checksums": [1, 2]}
NUMBERS = st.lists(st.sampled_from([None, -1, 0, 5, 512, 2**31 - 1, 2**40, 2**63 - 1, -(2**63)]), max_size=3)


@fuzzed(30)
@given(
    st.fixed_dictionaries(
        {name: st.none() | texts for name in ("class_name", "video", "digest")}
        | {name: st.none() | NUMBERS for name in ("offsets", "sizes", "checksums")}
    ),
    st.sets(st.sampled_from(sorted(INDEX)), min_size=1, max_size=2),
    st.sampled_from([0, 0, 0, 2**63, 2**64 - 1]),
)
@example(INDEX | {"class_name": None}, {"class_name"}, 0)
@example(INDEX | {"sizes": [-1, 5]}, {"sizes"}, 0)
@example(INDEX | {"offsets": [2**40, 0]}, {"offsets"}, 0)
@example(INDEX | {"checksums": [1]}, {"checksums"}, 0)
@example(INDEX, {"digest"}, 2**63)
def test_shards_with_a_made_up_index(tmp_path: Path, row: dict[str, Any], changed: set[str], far: int) -> None:
    """Write shards with a forged index and its right digest, as an attacker would."""
    try:
        table = pa.Table.from_pylist([INDEX | {name: row[name] for name in changed}], schema=_SCHEMA)
    except (pa.ArrowException, OverflowError, UnicodeError):
        return  # such an index cannot be written
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    index = buffer.getvalue()
    trailer = _TRAILER.pack(b"hcl frames 1\n\0\0\0", far or 2048, len(index), hashlib.sha256(index).digest())
    (tmp_path / "shard-0.tar").write_bytes(bytes(2048) + index + trailer)
    read_shard(tmp_path / "shard-0.tar")


EFFECTIVE = {
    "kind": "effective split", "schema": 1, "dataset": "made",
    "partitions": {"test": {"listed_digest": "a", "digest": "b", "n_videos": 1, "left_out": {"a/b": "broken"}}},
}  # fmt: skip


@fuzzed(20)
@given(altered(EFFECTIVE))
def test_effective_splits(tmp_path: Path, content: Any) -> None:
    (tmp_path / "splits" / "made").mkdir(parents=True, exist_ok=True)
    (tmp_path / "splits" / "made" / "effective.json").write_text(json.dumps(content))
    with contained(tmp_path):
        read_effective(StoredDataset(tmp_path, "made").effective_file, "made")


def test_frames_that_link_out_of_a_data_root_stay_there(tmp_path: Path) -> None:
    """Pack a folder of frames that is a link; its target must be neither moved nor removed."""
    outside, images = tmp_path / "outside", tmp_path / "images"
    outside.mkdir()
    (outside / "0.jpg").write_bytes(FRAMES[0])
    (images / "a").mkdir(parents=True)
    (images / "a" / "v").symlink_to(outside)
    with contained(images.parent, reads_only=False):
        pack_dataset(images)
    assert (outside / "0.jpg").read_bytes() == FRAMES[0]


def test_text_that_is_none_in_a_manifest(tmp_path: Path) -> None:
    """Write invalid UTF-8, which Arrow checks only when the text is read."""
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe"))
    pq.write_table(pa.table({"class_name": broken, "video": ["v"], "status": ["ok"]}), tmp_path / "manifest.parquet")
    with pytest.raises(StorageError, match="not a manifest"):
        read_manifest(tmp_path)


def test_a_whole_shard_is_read(tmp_path: Path, shard: bytes) -> None:
    (tmp_path / "shard-0.tar").write_bytes(shard)
    assert [len(one.read()) for one in Shard.opened(tmp_path / "shard-0.tar").videos()] == [2, 1]
