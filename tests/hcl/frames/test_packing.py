"""Test packing frames into shards and unpacking them, with damage and interruptions."""

from __future__ import annotations

import os
import pickle
import tarfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader

from hcl.clips.dataset import ClipDataset
from hcl.clips.dataset import test_transform as make_test_transform
from hcl.datasets.manifest import VideoRecord, read_manifest, write_manifest
from hcl.datasets.splits import Partition, Video, write_split
from hcl.errors import DataError, SplitError, StorageError
from hcl.files.atomic import discard_folder
from hcl.files.locking import exclusive
from hcl.frames import packing
from hcl.frames.inventory import extraction_jobs, take_inventory
from hcl.frames.packing import pack_dataset, unpack_dataset
from hcl.frames.shards import Shard, write_shard
from hcl.frames.store import FrameStore
from hcl.frames.stored_dataset import StoredDataset
from hcl.videos.jpegs import frames_digest

VIDEOS = [Video(name, f"{name} ({i}), [x]") for name in ("open", "put #1", "zip") for i in range(3)]


def frame(level: int, size: tuple[int, int] = (8, 12)) -> bytes:
    noise = np.random.default_rng(level).integers(0, 40, (*size, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", noise + np.uint8(level))[1].tobytes()


def store(root: Path, video: Video, frames: list[bytes]) -> VideoRecord:
    folder = root / video.key
    folder.mkdir(parents=True)
    for index, content in enumerate(frames):
        (folder / f"{index}.jpg").write_bytes(content)
    size = {"n_frames": len(frames), "width": 12, "height": 8, "n_bytes": sum(map(len, frames))}
    return VideoRecord(video.class_name, video.name, "ok", digest=frames_digest(frames), **size)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Create nine videos of 2 to 10 frames, and a broken one."""
    root = tmp_path / "images" / "toy"
    root.mkdir(parents=True)
    records = [store(root, video, [frame(10 * n + i) for i in range(n + 2)]) for n, video in enumerate(VIDEOS)]
    write_manifest(root, [*records, VideoRecord("zip", "bad", "broken", error="text")])
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_both_stores_read_the_same_and_unpacking_gives_every_byte_back(images: Path) -> None:
    before = contents(images)
    folders = {video: FrameStore(images).read(video, [1, 0, 1]) for video in VIDEOS}
    summary = pack_dataset(images, videos_per_shard=4)
    assert (summary.n_moved, summary.n_shards) == (9, 3)
    assert sorted(os.listdir(images)) == ["manifest.parquet", *(f"shard-0000{n}.tar" for n in range(3))]
    packed = FrameStore(images)
    for number, video in enumerate(VIDEOS):
        assert packed.n_frames(video) == number + 2
        assert np.array_equal(packed.read(video, [1, 0, 1]), folders[video])
    partition = Partition("toy", "train", ("open", "zip"), (*VIDEOS[:3], Video("zip", "bad"), Video("zip", "never")))
    assert [video.name for video in packed.missing(partition)] == ["bad", "never"]
    with pytest.raises(DataError, match="zip/bad: has no frames: broken, text"):
        packed.read(Video("zip", "bad"), [0])

    assert pack_dataset(images).n_moved == 0
    assert unpack_dataset(images).n_moved == 9
    assert contents(images) == before


def test_packing_leaves_the_digest_of_a_partition_alone(images: Path) -> None:
    partition = Partition("toy", "train", ("open", "put #1", "zip"), tuple(VIDEOS))
    before = FrameStore(images).digest(partition)
    pack_dataset(images, videos_per_shard=4)
    assert FrameStore(images).digest(partition) == before
    (images / "manifest.parquet").unlink()  # shards hold the names too
    assert FrameStore(images).digest(partition) == before
    store(images, VIDEOS[1], [frame(200)])  # frames of another tool: folders take precedence over shards
    assert FrameStore(images).n_frames(VIDEOS[1]) == 1
    assert FrameStore(images).digest(partition) != before


def test_a_shard_is_a_tar_that_any_tool_reads(images: Path) -> None:
    expected = {name: content for name, content in contents(images).items() if name.endswith(".jpg")}
    pack_dataset(images)
    with tarfile.open(images / "shard-00000.tar") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    assert members.pop("index.parquet")
    assert members == expected


def test_new_changed_and_broken_videos_join_the_shards(images: Path) -> None:
    pack_dataset(images, videos_per_shard=4)
    untouched = (images / "shard-00002.tar").stat().st_mtime_ns
    records = read_manifest(images)
    new, changed, broken = Video("open", "new"), VIDEOS[1], VIDEOS[5]
    for video in (new, changed):
        records[video.key] = store(images, video, [frame(200), frame(210), frame(220)])
    records[broken.key] = replace(records[broken.key], status="broken", error="cut off")
    write_manifest(images, records.values())

    for is_packed in (False, True):
        frames = FrameStore(images)
        assert frames.n_frames(new) == frames.n_frames(changed) == 3
        assert frames.read(changed, [0]).mean() > 200
        assert frames.n_frames(VIDEOS[0]) == 2
        with pytest.raises(DataError, match="broken, cut off"):
            frames.read(broken, [0])
        assert broken.key not in FrameStore(images).packed_keys()
        if not is_packed:
            assert pack_dataset(images, videos_per_shard=4).n_moved == 2
    assert (images / "shard-00002.tar").stat().st_mtime_ns == untouched
    held = [[packed.video for packed in Shard.opened(path).videos()] for path in sorted(images.glob("shard-*"))]
    assert held == [VIDEOS[:4], [VIDEOS[4], *VIDEOS[6:8]], VIDEOS[8:], [new]]


def test_nothing_goes_before_its_copy_is_on_the_disk(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def noted(module: object, name: str, *, of: Callable[..., object] = lambda *_: "") -> None:
        original = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *given, **named: (calls.append(f"{name} {of(*given)}"), original(*given, **named))[1]
        )

    noted(os, "replace", of=lambda _, path: Path(path).name)
    noted(packing, "sync_folder", of=lambda path: Path(path).name)
    noted(packing, "discard_folder", of=lambda path: Path(path).name)
    pack_dataset(images, videos_per_shard=9)
    assert calls[:3] == ["replace shard-00000.tar", f"sync_folder {images.name}", f"discard_folder {VIDEOS[0].name}"]

    calls.clear()
    noted(os, "sync")
    noted(packing, "publish_folder", of=lambda _, path: Path(path).parent.parent.name)
    noted(Path, "unlink", of=lambda path: path.name)
    unpack_dataset(images)
    kept = [call for call in calls if call.split()[0] in ("publish_folder", "sync", "unlink")]
    assert kept == [*[f"publish_folder {images.name}"] * 9, "sync ", "unlink shard-00000.tar"]


def test_what_trains_and_evaluates_sees_no_difference(tmp_path: Path, images: Path) -> None:
    partition = Partition("toy", "train", ("open", "put #1", "zip"), (*VIDEOS, Video("zip", "bad")))
    write_split(tmp_path, "toy", {"train": partition})
    transform = make_test_transform(8, "crop")
    views = []
    for pack in (False, True):
        if pack:
            pack_dataset(images, videos_per_shard=2)
        used = StoredDataset(tmp_path, "toy").effective("train")
        assert used.videos == tuple(VIDEOS)
        clips = ClipDataset(FrameStore(images), used.videos, n_frames=4, sampling="segments", transform=transform)
        views.append([clip.numpy() for clip in DataLoader(clips, num_workers=2)])
    assert np.array_equal(*views)


def test_frames_of_other_tools_are_packed_as_they_are(tmp_path: Path) -> None:
    store(tmp_path, Video("c", "v"), [frame(level) for level in (10, 60)])
    for number in (2, 1):  # numbered from 1, padded
        os.rename(tmp_path / "c" / "v" / f"{number - 1}.jpg", tmp_path / "c" / "v" / f"{number:05d}.jpg")
    expected = FrameStore(tmp_path).read(Video("c", "v"), [0, 1])
    pack_dataset(tmp_path)
    assert np.array_equal(FrameStore(tmp_path).read(Video("c", "v"), [0, 1]), expected)


def test_what_is_packed_counts_as_extracted(tmp_path: Path, images: Path) -> None:
    records = read_manifest(images)
    for video in VIDEOS[:2]:
        source = tmp_path / "videos" / "toy" / f"{video.key}.avi"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(b"a video")
        stamp = {
            "source_bytes": 7,
            "source_mtime_ns": source.stat().st_mtime_ns,
            "options_digest": "d",
            "decoder": "opencv",
        }
        records[video.key] = replace(records[video.key], source=f"{video.key}.avi", **stamp)
    write_manifest(images, records.values())
    pack_dataset(images)
    inventory = take_inventory(StoredDataset(tmp_path, "toy"))
    assert extraction_jobs(images, inventory, records, "d") == []
    (images / "shard-00000.tar").unlink()
    assert len(extraction_jobs(images, take_inventory(StoredDataset(tmp_path, "toy")), records, "d")) == 2


@pytest.mark.parametrize("step", ["write_shard", "replace", "discard_folder"])
def test_an_interrupted_packing_goes_on_to_the_same_bytes(
    images: Path, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    os.rename(images, whole)
    tree = contents(whole)
    pack_dataset(whole, videos_per_shard=2)
    for n_done in range(5):
        root = tmp_path / f"{step} {n_done}"
        for name, content in tree.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        with monkeypatch.context() as patched:
            interrupt(patched, packing.os if step == "replace" else packing, step, n_done)
            with pytest.raises(KeyboardInterrupt):
                pack_dataset(root, videos_per_shard=2)
        frames = FrameStore(root)
        assert [frames.read(video, [0]).shape for video in VIDEOS] == [(1, 8, 12, 3)] * 9
        pack_dataset(root, videos_per_shard=2)
        assert contents(root) == contents(whole)


@pytest.mark.parametrize("n_done", range(0, 9, 2))
def test_an_interrupted_unpacking_goes_on(images: Path, n_done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(images)
    pack_dataset(images, videos_per_shard=2)
    with monkeypatch.context() as patched:
        interrupt(patched, packing, "publish_folder", n_done)
        with pytest.raises(KeyboardInterrupt):
            unpack_dataset(images)
    frames = FrameStore(images)
    assert [frames.read(video, [0]).shape for video in VIDEOS] == [(1, 8, 12, 3)] * 9
    unpack_dataset(images)
    assert contents(images) == before


def interrupt(patched: pytest.MonkeyPatch, module: object, name: str, n_done: int) -> None:
    """Allow `n_done` calls of a function, and raise KeyboardInterrupt at the next one."""
    function, calls = getattr(module, name), []

    def counted(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) > n_done:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    patched.setattr(module, name, counted)


def test_every_flipped_bit_is_named(images: Path) -> None:
    pack_dataset(images)
    path = images / "shard-00000.tar"
    whole = path.read_bytes()
    places = {packed.video: packed for packed in Shard.opened(path).videos()}
    rng = np.random.default_rng(0)
    for video in VIDEOS:
        index = places[video].n_frames - 1
        content = places[video].read([index])[0]
        flipped = bytearray(whole)
        flipped[whole.index(content) + int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        frames = FrameStore(images)
        with pytest.raises(DataError, match=rf"shard-00000\.tar: {video.class_name}/.*/{index}\.jpg is not what was"):
            frames.read(video, [index])
        frames.read(video, [0])
        with pytest.raises(DataError, match="is not what was packed"):
            unpack_dataset(images)
        assert path.exists()
    index_at = whole.rindex(b"PAR1", 0, -64)
    for place in (index_at - 9, len(whole) - 1, len(whole) - 40, len(whole) - 60):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(DataError, match=r"shard-00000\.tar: (its index is not|is not a shard)"):
            FrameStore(images)
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"shard-00000\.tar: is not a shard"):
            FrameStore(images)


def test_a_bit_that_was_flipped_before_packing_is_named_and_nothing_is_lost(images: Path) -> None:
    path = images / VIDEOS[4].key / "1.jpg"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    before = contents(images)
    with pytest.raises(DataError, match=r"put #1 \(1\), \[x\]: its frames are not those that were extracted"):
        pack_dataset(images)
    assert contents(images) == before


@pytest.mark.parametrize("video", [Video("..", "v"), Video("c", "../../v"), Video("/tmp", "v"), Video("c", ".hidden")])
def test_a_shard_cannot_name_what_lies_elsewhere(tmp_path: Path, video: Video) -> None:
    write_shard(tmp_path / "shard-00000.tar", [(video, [frame(1)])])
    for use in (FrameStore, pack_dataset, unpack_dataset):
        with pytest.raises(SplitError, match="name in a shard"):
            use(tmp_path)
    assert os.listdir(tmp_path) == ["shard-00000.tar"]


def test_one_command_at_a_time(images: Path) -> None:
    for command in (pack_dataset, unpack_dataset):
        with exclusive(images), pytest.raises(StorageError, match="another command"):
            command(images)


def test_nothing_to_pack_or_to_unpack(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no frames"):
        pack_dataset(tmp_path)
    with pytest.raises(DataError, match="holds no shards"):
        unpack_dataset(tmp_path)


def read_often(images: Path, seed: int) -> int:
    """Return the number of right results in 300 random readings of a store that was opened before the fork."""
    rng = np.random.default_rng([seed])
    n_right = 0
    for _ in range(300):
        number = int(rng.integers(len(VIDEOS)))
        index = int(rng.integers(number + 2))
        n_right += SHARED["store"]._packed[VIDEOS[number].key].read([index]) == [frame(10 * number + index)]
    return n_right


SHARED: dict[str, FrameStore] = {}


def test_many_processes_read_one_store(images: Path) -> None:
    pack_dataset(images, videos_per_shard=4)
    SHARED["store"] = FrameStore(images)
    # Not a Pool: it ends its processes by SIGTERM, which Ray's handler, inherited from an earlier test, swallows.
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        assert list(pool.map(read_often, [images] * 4, range(4))) == [300] * 4


def test_reduced_decoding_keeps_the_pixels_asked_for(tmp_path: Path) -> None:
    video = Video("c", "v")
    record = store(tmp_path, video, [frame(30, (96, 128))])
    write_manifest(tmp_path, [replace(record, width=128, height=96)])
    for pack in (False, True):
        if pack:
            pack_dataset(tmp_path)
        shapes = [FrameStore(tmp_path).read(video, [0], min_side=side).shape[1:3] for side in (0, 97, 49, 48, 24, 5)]
        assert shapes == [(96, 128), (96, 128), (96, 128), (48, 64), (24, 32), (12, 16)]
        reduced = FrameStore(tmp_path).read(video, [0], min_side=48)[0]
        expected = cv2.resize(FrameStore(tmp_path).read(video, [0])[0], (64, 48), interpolation=cv2.INTER_AREA)
        assert np.abs(reduced.astype(int) - expected).mean() < 4


def test_a_store_survives_pickling_and_notices_what_went(images: Path) -> None:
    copy = pickle.loads(pickle.dumps(FrameStore(images)))
    assert copy.n_frames(VIDEOS[0]) == 2
    discard_folder(images / VIDEOS[0].key)
    with pytest.raises(DataError, match=r"0\.jpg: cannot be read"):
        copy.read(VIDEOS[0], [0])


def test_what_lies_beside_frames_is_neither_packed_nor_removed(images: Path) -> None:
    notes = images / VIDEOS[0].key / "flow.npy"
    notes.write_bytes(b"mine")
    summary = pack_dataset(images, videos_per_shard=4)
    assert (summary.n_moved, summary.n_left) == (8, 1)
    assert notes.read_bytes() == b"mine" and (notes.parent / "1.jpg").exists()
    other = images / VIDEOS[1].key / "notes.txt"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    with pytest.raises(DataError, match="holds files that are no frames"):
        unpack_dataset(images)
    assert other.exists() and len(list(images.glob("shard-*.tar"))) == 2
    other.unlink()
    other.parent.rmdir()
    unpack_dataset(images)
    assert (images / VIDEOS[1].key / "0.jpg").exists() and notes.exists()


def test_folders_that_hold_more_than_frames_are_left_alone(images: Path) -> None:
    """Check that packing keeps these folders, because removing them would delete another tool's files."""
    (images / "zip" / "other").mkdir()
    for name in ("img_1.jpg", "img_2.jpg", "flow_x_1.jpg", "notes.txt", "Thumbs.db"):
        (images / "zip" / "other" / name).write_bytes(frame(7))
    (images / "zip" / "plain").mkdir()
    for name in ("img_1.jpg", "Thumbs.db"):
        (images / "zip" / "plain" / name).write_bytes(frame(8))
    summary = pack_dataset(images)
    assert (summary.n_moved, summary.n_left) == (len(VIDEOS) + 1, 1)
    assert len(list((images / "zip" / "other").iterdir())) == 5
    assert FrameStore(images).n_frames(Video("zip", "other")) == 2
