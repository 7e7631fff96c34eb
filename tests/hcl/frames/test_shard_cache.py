"""Test the cache of shards on a node's disk: copied once, bounded, kept during reads, and verified."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcl.assembly import inputs
from hcl.config.resolve import resolve
from hcl.datasets.splits import Video
from hcl.errors import DataError
from hcl.frames import shard_cache
from hcl.frames.shard_cache import ShardCache
from hcl.frames.shards import PackedVideo, Shard, packed_videos, write_shard
from hcl.frames.store import FrameStore
from hcl.frames.stored_dataset import StoredDataset

N_SHARDS, N_VIDEOS, N_FRAMES = 3, 2, 4


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Create a data set of three shards, whose frames are bytes with their video's name."""
    folder = tmp_path / "shared" / "images" / "toy"
    folder.mkdir(parents=True)
    for shard in range(N_SHARDS):
        videos = [
            (
                Video("ant", f"{shard}-{video}"),
                [f"{shard} {video} {frame} ".encode() * 999 for frame in range(N_FRAMES)],
            )
            for video in range(N_VIDEOS)
        ]
        write_shard(folder / f"shard-{shard:05d}.tar", videos)
    return folder


def video(images: Path, shard: int) -> PackedVideo:
    return packed_videos(images)[f"ant/{shard}-0"]


def size(images: Path) -> int:
    return (images / "shard-00000.tar").stat().st_size


def copies(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.shard")}


def test_what_was_copied_is_read_without_the_shared_folder(images: Path, tmp_path: Path) -> None:
    cache, one = ShardCache(tmp_path / "cache", 10**9), video(images, 0)
    expected = one.read([2, 0, 2])
    assert cache.read(one, [2, 0, 2]) == expected
    assert copies(cache.folder) == {f"{one.shard.digest}.shard"}
    shutil.move(images / "shard-00000.tar", tmp_path / "away.tar")
    assert cache.read(one, [2, 0, 2]) == expected
    assert ShardCache(cache.folder, 10**9).read(one, [3]) == [b"0 0 3 " * 999]  # another process, another run


def test_the_longest_unused_make_room_and_what_is_read_stays(images: Path, tmp_path: Path) -> None:
    limit = 2 * size(images) + 100
    first, second = ShardCache(tmp_path / "cache", limit), ShardCache(tmp_path / "cache", limit)
    zero, one, two = (video(images, shard) for shard in range(3))
    first.read(zero, [0])
    second.read(one, [0])
    assert second.read(two, [0]) == two.read([0])  # both copies are in use, so that it is read without one
    assert len(copies(first.folder)) == 2
    del first  # like the end of a process
    third = ShardCache(tmp_path / "cache", limit)
    third.read(two, [0])
    assert copies(third.folder) == {f"{one.shard.digest}.shard", f"{two.shard.digest}.shard"}
    del second, third
    os.utime(tmp_path / "cache" / f"{one.shard.digest}.shard", (1, 1))
    ShardCache(tmp_path / "cache", limit).read(zero, [0])
    assert copies(tmp_path / "cache") == {f"{zero.shard.digest}.shard", f"{two.shard.digest}.shard"}


def test_a_shard_of_the_same_name_with_other_frames_has_a_copy_of_its_own(images: Path, tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", 10**9)
    cache.read(video(images, 0), [0])
    write_shard(images / "shard-00000.tar", [(Video("ant", "0-0"), [b"other"] * N_FRAMES)])
    assert ShardCache(tmp_path / "cache", 10**9).read(video(images, 0), [0]) == [b"other"]
    assert len(copies(cache.folder)) == 2


@pytest.mark.parametrize("damage", ["cut off", "changed", "gone"])
def test_a_damaged_copy_is_made_again_from_the_shared_one(
    images: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache, one = ShardCache(tmp_path / "cache", 10**9), video(images, 0)
    cache.read(one, [0])
    (copy,) = cache.folder.glob("*.shard")
    if damage == "cut off":
        os.truncate(copy, 100)
    elif damage == "changed":
        content = bytearray(copy.read_bytes())
        content[600] ^= 1
        copy.write_bytes(content)
    else:
        copy.unlink()
    assert cache.read(one, [0]) == [b"0 0 0 " * 999]
    assert not copies(cache.folder)
    assert "; the shard is copied again" in caplog.text and copy.name in caplog.text
    assert cache.read(one, [1]) == [b"0 0 1 " * 999]
    assert len(copies(cache.folder)) == 1, "it is copied again"


def test_a_process_keeps_few_copies_open(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the most recently read copies open, because each needs a file descriptor."""
    monkeypatch.setattr(shard_cache, "_MOST_HELD", 2)
    cache, open_before = ShardCache(tmp_path / "cache", 10**9), len(os.listdir("/proc/self/fd"))
    for shard in (0, 1, 0, 2, 1, 0):
        assert cache.read(video(images, shard), [1]) == [f"{shard} 0 1 ".encode() * 999]
    assert len(os.listdir("/proc/self/fd")) - open_before <= 2
    assert len(copies(cache.folder)) == N_SHARDS


def test_a_damaged_shard_is_told_as_without_a_cache(images: Path, tmp_path: Path) -> None:
    one = video(images, 0)
    os.truncate(images / "shard-00000.tar", 100)
    with pytest.raises(DataError, match="is not what was packed"):
        ShardCache(tmp_path / "cache", 10**9).read(one, [0])
    assert not list((tmp_path / "cache").glob("*.shard"))


def test_a_cache_that_cannot_be_written_costs_nothing_but_speed(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert ShardCache(tmp_path / "file", 10**9).read(video(images, 0), [0]) == [b"0 0 0 " * 999]


def test_a_process_killed_while_it_copies_leaves_nothing_that_is_taken_for_whole(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_half_and_die(source: Path, target: Path) -> None:
        target.write_bytes(Path(source).read_bytes()[:1000])
        os.kill(os.getpid(), signal.SIGKILL)

    cache, one = ShardCache(tmp_path / "cache", 10**9), video(images, 0)
    with monkeypatch.context() as patched:
        patched.setattr(shard_cache.shutil, "copyfile", copy_half_and_die)
        process = multiprocessing.get_context("fork").Process(target=cache.read, args=(one, [0]))
        process.start()
        process.join(30)
    assert process.exitcode == -signal.SIGKILL and not copies(cache.folder)
    assert len(list(cache.folder.glob(".*.partial"))) == 1
    assert cache.read(one, [0]) == [b"0 0 0 " * 999]
    assert len(copies(cache.folder)) == 1 and not list(cache.folder.glob(".*.partial"))


def _read_all(images: Path, folder: Path, done: Path) -> None:
    cache = ShardCache(folder, 10**9)
    for key, one in packed_videos(images).items():
        shard, number = key.removeprefix("ant/").split("-")
        assert cache.read(one, [1]) == [f"{shard} {number} 1 ".encode() * 999]
    done.touch()


def test_processes_share_one_copy(images: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_read_all, args=(images, tmp_path / "cache", tmp_path / f"done-{number}"))
        for number in range(4)
    ]
    for process in processes:
        process.start()
    deadline = time.monotonic() + 60
    for process in processes:
        process.join(max(0, deadline - time.monotonic()))
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(copies(tmp_path / "cache")) == N_SHARDS
    assert Shard.opened(next((tmp_path / "cache").glob("*.shard"))).index.num_rows == N_VIDEOS


def test_a_loader_of_another_process_opens_its_own_copies(images: Path, tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", 10**9)
    cache.read(video(images, 0), [0])
    again = pickle.loads(pickle.dumps(cache))
    assert again.read(video(images, 0), [0]) == [b"0 0 0 " * 999]


def test_frames_are_the_same_through_the_cache_that_an_experiment_names(images: Path, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    encoded = cv2.imencode(".jpg", picture)[1].tobytes()
    write_shard(images / "shard-00009.tar", [(Video("bee", "b"), [encoded] * 2)])
    changes = {"data.dataset": "toy", "data.cache_dir": str(tmp_path / "cache"), "data.cache_gb": 0.001}
    store = inputs.frame_store(resolve(None, changes).experiment, StoredDataset(tmp_path / "shared", "toy"))
    read = store.read(Video("bee", "b"), [1])
    assert np.array_equal(read, FrameStore(images).read(Video("bee", "b"), [1]))
    assert len(copies(tmp_path / "cache")) == 1
