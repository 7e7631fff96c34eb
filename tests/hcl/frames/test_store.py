"""Test extracting and reading frames of tiny real files, intact and broken."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hcl.assembly.inputs import recorded_frames
from hcl.datasets.manifest import VideoRecord, append_record, read_manifest, write_manifest
from hcl.datasets.splits import Partition, Video
from hcl.datasets.video_files import find_videos
from hcl.errors import DataError, StorageError
from hcl.frames import digests as frame_digests
from hcl.frames.decoding import FrameOptions
from hcl.frames.digests import KEPT
from hcl.frames.extraction import discard_partials, extract_video
from hcl.frames.folders import FrameFolder
from hcl.frames.inventory import extraction_jobs, settle_missing, take_inventory
from hcl.frames.packing import pack_dataset
from hcl.frames.store import FrameStore
from hcl.frames.stored_dataset import StoredDataset

CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".webm": "VP80"}
LEVELS = [20, 60, 100, 140, 180, 220, 240]  # grey of each frame's right half; the left half is red


def write_video(path: Path, *, levels: list[int] = LEVELS, width: int = 64, height: int = 48) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODECS[path.suffix]), 10.0, (width, height))
    assert writer.isOpened()
    for level in levels:
        frame = np.full((height, width, 3), level, dtype=np.uint8)
        frame[:, : width // 2] = (0, 0, 200)
        writer.write(frame)
    writer.release()
    return path


def write_images(folder: Path, names: list[str], *, size: tuple[int, int] = (5, 7)) -> None:
    """Write grey frames, the i-th with level 10 i."""
    folder.mkdir(parents=True)
    for index, name in enumerate(names):
        (folder / name).write_bytes(cv2.imencode(".jpg", np.full((*size, 3), 10 * index, np.uint8))[1].tobytes())


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("suffix", sorted(CODECS))
def test_frames_come_back_in_order_and_in_rgb(tmp_path: Path, suffix: str) -> None:
    source = write_video(tmp_path / f"v{suffix}")
    record = extract_video(source, tmp_path / "images" / "class" / "v")
    assert (record.status, record.n_frames, record.width, record.height) == ("ok", 7, 64, 48)
    assert (record.class_name, record.video, record.error) == ("class", "v", "")
    assert record.fps == pytest.approx(10, rel=0.01)
    files = contents(tmp_path / "images")
    assert sorted(files) == [f"class/v/{index}.jpg" for index in range(7)]
    assert record.n_bytes == sum(map(len, files.values()))
    assert (record.source_bytes, record.source_mtime_ns) == (source.stat().st_size, source.stat().st_mtime_ns)

    frames = FrameStore(tmp_path / "images").read(Video("class", "v"), [6, 0, 3, 3])
    assert frames.shape == (4, 48, 64, 3)
    assert frames.dtype == np.uint8
    assert frames[:, 10:40, 40:60].mean((1, 2, 3)) == pytest.approx([240, 20, 140, 140], abs=12)
    red, green, blue = frames[:, 10:40, 5:25].mean((0, 1, 2))
    assert red > 150 > 80 > max(green, blue)


@pytest.mark.parametrize(("short_side", "stored"), [(24, (32, 24)), (48, (64, 48)), (256, (64, 48)), (0, (64, 48))])
def test_the_short_side_only_shrinks(tmp_path: Path, short_side: int, stored: tuple[int, int]) -> None:
    record = extract_video(write_video(tmp_path / "v.avi"), tmp_path / "c" / "v", FrameOptions(short_side))
    assert (record.width, record.height) == stored
    assert FrameStore(tmp_path).read(Video("c", "v"), [0]).shape == (1, stored[1], stored[0], 3)


def test_upright_videos_shrink_by_their_width(tmp_path: Path) -> None:
    record = extract_video(write_video(tmp_path / "v.avi", width=30, height=90), tmp_path / "c" / "v", FrameOptions(10))
    assert (record.width, record.height) == (10, 30)


def test_options_make_another_digest() -> None:
    options = [FrameOptions(), FrameOptions(quality=50), FrameOptions(short_side=10), FrameOptions(n_frames=1)]
    assert len({option.digest for option in options}) == 4
    assert FrameOptions().digest == options[0].digest


@pytest.mark.parametrize("content", [b"", b"not a video\n", bytes(range(256)) * 40], ids=["empty", "text", "bytes"])
@pytest.mark.parametrize("suffix", sorted(CODECS))
def test_what_is_no_video_is_broken_and_takes_stale_frames_along(tmp_path: Path, suffix: str, content: bytes) -> None:
    source = tmp_path / f"v{suffix}"
    source.write_bytes(content)
    write_images(tmp_path / "c" / "v", ["0.jpg"])
    record = extract_video(source, tmp_path / "c" / "v")
    assert (record.status, record.n_frames) == ("broken", 0)
    assert record.error
    assert os.listdir(tmp_path / "c") == []


def test_a_truncated_video_keeps_what_can_be_decoded_and_says_so(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.avi", levels=LEVELS * 5)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    record = extract_video(source, tmp_path / "c" / "v")
    assert record.status == "ok"
    assert 5 < record.n_frames < 30
    assert f"{record.n_frames} frames could be decoded, the file promises 35" in record.error
    assert len(os.listdir(tmp_path / "c" / "v")) == record.n_frames


def test_a_video_that_is_not_there_is_missing(tmp_path: Path) -> None:
    record = extract_video(tmp_path / "v.mp4", tmp_path / "c" / "v")
    assert (record.status, record.error) == ("missing", "cannot be opened: No such file or directory")


def test_new_frames_replace_all_old_ones(tmp_path: Path) -> None:
    destination = tmp_path / "c" / "v"
    extract_video(write_video(tmp_path / "v.avi"), destination)
    extract_video(write_video(tmp_path / "v.avi", levels=[0, 50]), destination)
    assert sorted(os.listdir(destination)) == ["0.jpg", "1.jpg"]
    assert os.listdir(tmp_path / "c") == ["v"]


@pytest.mark.parametrize("name", ["(Rad)Schlag, [die] Bank! #2", "-dash %04d *?", "größe", "n" * 240])
def test_hostile_names(tmp_path: Path, name: str) -> None:
    source = write_video(tmp_path / "videos" / "put [it], (in)" / f"{name}.avi")
    assert find_videos(tmp_path / "videos") == {f"put [it], (in)/{name}": source}
    record = extract_video(source, tmp_path / "images" / "put [it], (in)" / name)
    assert record.status == "ok"
    assert FrameStore(tmp_path / "images").read(Video("put [it], (in)", name), [0]).shape == (1, 48, 64, 3)


def test_where_nothing_can_be_written_nothing_is_said_about_the_video(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("a file")
    with pytest.raises(StorageError, match="frames cannot be written"):
        extract_video(write_video(tmp_path / "v.avi"), tmp_path / "c" / "v")


def test_discard_partials_spares_finished_folders(tmp_path: Path) -> None:
    write_images(tmp_path / "c" / "v", ["0.jpg"])
    write_images(tmp_path / "c" / ".v.0123.partial", ["0.jpg"])
    assert discard_partials(tmp_path) == 1
    assert os.listdir(tmp_path / "c") == ["v"]


def test_find_videos_by_extension_whatever_its_case(tmp_path: Path) -> None:
    for name in ("b/y.MP4", "a/x.y.webm", "a/._x.mp4", "a/notes.txt", "top.mp4", "lost+found/z.mp4", ".git/w.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_videos(tmp_path) == {"a/x.y": tmp_path / "a/x.y.webm", "b/y": tmp_path / "b/y.MP4"}


def test_two_files_of_one_video_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("x.avi", "x.mp4"):
        (tmp_path / "a" / name).touch()
    with pytest.raises(DataError, match=r"'x\.avi' and 'x\.mp4' are both video 'a/x'"):
        find_videos(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        [f"{index}.jpg" for index in range(12)],
        [f"{index}.jpg" for index in range(1, 13)],
        [f"{index:05d}.jpg" for index in range(12)],
        [f"{index:03d}.JPG" for index in range(1, 13)],
        [f"{index}.jpg" for index in range(12, 0, -3)],
        [f"img_{index:05d}.jpg" for index in range(1, 13)],
        [f"{index:05d}.png" for index in range(1, 13)],
        [f"frame {{0}} {index}.jpeg" for index in range(7, 19)],
        [f"v2_{index}.jpg" for index in range(12, 0, -3)],
    ],
    ids=["from 0", "from 1", "padded", "padded from 1", "with gaps", "img_", "png", "text with braces", "text, gaps"],
)
def test_folders_of_other_tools_read_in_the_order_of_their_numbers(tmp_path: Path, names: list[str]) -> None:
    ordered = sorted(names, key=lambda name: int(re.findall(r"\d+", name)[-1]))
    write_images(tmp_path / "c" / "v", ordered)
    for other in ("thumbs.db", "cover1.jpg", "flow_x_00001.jpg", "flow_x_00002.jpg", "flow_y_00001.jpg"):
        (tmp_path / "c" / "v" / other).touch()
    store = FrameStore(tmp_path)
    assert store.n_frames(Video("c", "v")) == len(ordered)
    indices = list(range(len(ordered)))[::-1]
    assert store.read(Video("c", "v"), indices).mean((1, 2, 3)) == pytest.approx([10 * i for i in indices], abs=2)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1.jpg", "00001.jpg", "2.jpg"], "'00001.jpg' and '1.jpg' are both frame 1"),
        (["1.jpg", "1.png"], "'1.jpg' and '1.png' are both frame 1"),
        (["1.jpg", "2.jpg", "img_1.jpg", "img_2.jpg"], "holds images of two kinds, such as '1.jpg' and 'img_1.jpg'"),
        (["a1.jpg", "b1.jpg"], "'a1.jpg' and 'b1.jpg', and either may be the frames"),
    ],
)
def test_frames_that_may_be_one_or_the_other_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    write_images(tmp_path / "c" / "v", names)
    with pytest.raises(DataError, match=message) as caught:
        FrameStore(tmp_path).n_frames(Video("c", "v"))
    assert "c/v" in str(caught.value.where) and caught.value.remedy


def test_reading_beyond_a_video_or_damaged_frames_is_named(tmp_path: Path) -> None:
    video = Video("c", "v")
    write_images(tmp_path / "c" / "v", ["0.jpg", "1.jpg", "2.jpg"])
    write_manifest(tmp_path, [VideoRecord("c", "v", "ok", n_frames=4), VideoRecord("c", "w", "broken", error="text")])
    store = FrameStore(tmp_path)
    assert store.n_frames(video) == 4
    for indices in ([4], [-1], []):
        with pytest.raises(DataError, match="of 4 frames"):
            store.read(video, indices)
    with pytest.raises(DataError, match=r"c/v/3\.jpg: cannot be read: No such file"):
        store.read(video, [0, 3])
    (tmp_path / "c" / "v" / "1.jpg").write_bytes(b"text")
    (tmp_path / "c" / "v" / "0.jpg").write_bytes(b"")
    for index in (0, 1):
        with pytest.raises(DataError, match=rf"c/v/{index}\.jpg: is not an image"):
            store.read(video, [index])
    with pytest.raises(DataError, match=r"c/w: has no frames: broken, text"):
        store.n_frames(Video("c", "w"))
    with pytest.raises(DataError, match=r"c/x: has no frames"):
        store.read(Video("c", "x"), [0])


def test_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "c" / "v", ["0.jpg"])
    write_images(tmp_path / "c" / "w", ["0.jpg"], size=(3, 5))
    os.rename(tmp_path / "c" / "w" / "0.jpg", tmp_path / "c" / "v" / "1.jpg")
    with pytest.raises(DataError, match=r"differ in size: \[\(3, 5\), \(5, 7\)\]"):
        FrameStore(tmp_path).read(Video("c", "v"), [0, 1])


@pytest.mark.parametrize("has_manifest", [True, False])
def test_missing_names_videos_without_frames(tmp_path: Path, has_manifest: bool) -> None:
    for name in ("here", "also"):
        write_images(tmp_path / "c" / name, ["0.jpg"])
    (tmp_path / "c" / "empty").mkdir()
    if has_manifest:
        write_manifest(
            tmp_path,
            [VideoRecord("c", "here", "ok", 1), VideoRecord("c", "gone", "ok", 1), VideoRecord("c", "bad", "broken")],
        )
    names = ("here", "gone", "bad", "also", "empty", "never")
    videos = (*(Video("c", name) for name in names), Video("other class", "v"))
    partition = Partition("toy", "train", ("c", "other class"), videos)
    assert [video.name for video in FrameStore(tmp_path).missing(partition)] == ["gone", "bad", "empty", "never", "v"]


def other_pixels(root: Path) -> None:
    """Append a byte to the last frame of a video."""
    path = root / "c" / "v" / "11.jpg"
    path.write_bytes(path.read_bytes() + b"0")


def one_frame_less(root: Path) -> None:
    (root / "c" / "v" / "11.jpg").unlink()


def same_size(root: Path) -> None:
    """Change a bit of a frame that is neither the first, the middle nor the last, which keeps its size."""
    path = root / "c" / "v" / "4.jpg"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def no_folder(root: Path) -> None:
    shutil.rmtree(root / "c" / "v")


def swapped(root: Path) -> None:
    for old, new in (("v", "x"), ("w", "v"), ("x", "w")):
        os.rename(root / "c" / old, root / "c" / new)


def partition_of(*names: str) -> Partition:
    return Partition("toy", "train", ("c",), tuple(Video("c", name) for name in names))


@pytest.mark.parametrize("change", [other_pixels, same_size, one_frame_less, no_folder, swapped])
def test_frames_of_other_tools_have_another_digest_once_they_change(tmp_path: Path, change: Any) -> None:
    write_images(tmp_path / "one" / "c" / "v", [f"{index}.jpg" for index in range(12)])
    write_images(tmp_path / "one" / "c" / "w", ["0.jpg"])
    root = Path(shutil.copytree(tmp_path / "one", tmp_path / "elsewhere"))
    before = FrameStore(root).digest(partition_of("v", "w"))
    assert before == FrameStore(tmp_path / "one").digest(partition_of("v", "w"))
    assert re.fullmatch("content-[0-9a-f]{16}", before)
    assert (
        len({before, FrameStore(root).digest(partition_of("w", "v")), FrameStore(root).digest(partition_of("v"))}) == 3
    )
    change(root)
    assert FrameStore(root).digest(partition_of("v", "w")) != before


def test_a_copy_has_the_digest_of_its_original(tmp_path: Path) -> None:
    write_images(tmp_path / "one" / "c" / "v", ["0.jpg", "1.jpg"])
    copy = Path(shutil.copytree(tmp_path / "one", tmp_path / "copy"))
    os.utime(copy / "c" / "v" / "0.jpg", ns=(1, 1))
    digest = FrameStore(tmp_path / "one").digest(partition_of("v"))
    assert FrameStore(copy).digest(partition_of("v")) == digest
    for index in range(2):
        os.rename(copy / "c" / "v" / f"{index}.jpg", copy / "c" / "v" / f"img_{index + 1:03d}.jpg")
    assert FrameStore(copy).digest(partition_of("v")) == digest
    pack_dataset(copy)
    assert recorded_frames(digest, FrameStore(copy).digest(partition_of("v"))) == FrameStore(copy).digest(
        partition_of("v")
    )


def test_frames_are_read_once_and_again_where_size_or_time_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "c" / "v", ["0.jpg", "1.jpg"])
    write_images(tmp_path / "c" / "w", ["0.jpg"])
    read: list[Path] = []
    monkeypatch.setattr(FrameFolder, "_bytes", lambda self, path: read.append(path) or path.read_bytes())

    def named() -> str:
        read.clear()
        return FrameStore(tmp_path).digest(partition_of("v", "w"))

    first = named()
    assert len(read) == 3
    assert named() == first and read == []
    os.utime(tmp_path / "c" / "v" / "0.jpg", ns=(1, 1))
    assert named() == first and len(read) == 2
    kept = (tmp_path / KEPT).read_bytes()
    (tmp_path / KEPT).write_bytes(kept[: len(kept) // 2])
    assert named() == first and len(read) == 3


def test_reading_many_frames_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_digests, "_MANY", 1)
    for name in ("v", "w"):
        write_images(tmp_path / "c" / name, ["0.jpg"])
    with pytest.warns(UserWarning, match="the frames of 2 videos of another tool are read, once"):
        FrameStore(tmp_path).digest(partition_of("v", "w"))


def test_digests_of_a_folder_that_cannot_be_written_go_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images"
    write_images(images / "c" / "v", ["0.jpg"])
    (images / KEPT).mkdir()  # a file that cannot be written, even by root
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    FrameStore(images).digest(partition_of("v"))
    assert len(list((tmp_path / "home" / ".cache" / "hcl").glob("digests-*.npz"))) == 1
    monkeypatch.setattr(FrameFolder, "_bytes", lambda self, path: pytest.fail("was read again"))
    FrameStore(images).digest(partition_of("v"))
    monkeypatch.setenv("HOME", str(images / "c" / "v" / "0.jpg"))
    monkeypatch.setattr(FrameFolder, "_bytes", lambda self, path: path.read_bytes())
    with pytest.warns(UserWarning, match="cannot be cached"):
        FrameStore(images).digest(partition_of("v"))


def test_identities_of_earlier_versions_are_not_taken_for_content() -> None:
    assert recorded_frames("0" * 16, "content-" + "1" * 16) == ""
    assert recorded_frames("content-" + "0" * 16, "content-" + "1" * 16) == "content-" + "0" * 16
    assert recorded_frames("0" * 16, "1" * 16) == "0" * 16
    assert recorded_frames("content-" + "0" * 16, "0" * 16) == "0" * 16


def test_extracted_frames_have_another_digest_only_with_other_content(tmp_path: Path) -> None:
    source, folder = write_video(tmp_path / "v.avi"), tmp_path / "c" / "v"
    digests = []
    for options in (FrameOptions(), FrameOptions(), FrameOptions(quality=50)):
        os.utime(source, ns=(len(digests), len(digests)))
        append_record(tmp_path, extract_video(source, folder, options))
        digests.append(FrameStore(tmp_path).digest(partition_of("v")))
    assert digests[0] == digests[1] != digests[2]


def test_frames_that_a_record_tells_of_and_are_gone_are_named(tmp_path: Path) -> None:
    write_images(tmp_path / "c" / "v", ["0.jpg", "1.jpg"])
    write_manifest(tmp_path, [VideoRecord("c", "v", "ok", n_frames=4)])
    with pytest.raises(DataError, match=r"c/v/2\.jpg: cannot be read: No such file"):
        FrameStore(tmp_path).digest(partition_of("v"))


def test_manifest_folds_its_journal_and_tolerates_a_torn_line(tmp_path: Path) -> None:
    a, b = (
        VideoRecord("c", "a", "ok", 3, 12.5, 4, 5, 600, "", "c/a.avi", 7, 2**62, "d"),
        VideoRecord("ü", "b", "broken"),
    )
    write_manifest(tmp_path, [b, a])
    assert list(read_manifest(tmp_path).values()) == [a, b]
    newer = replace(a, n_frames=4)
    append_record(tmp_path, newer)
    append_record(tmp_path, VideoRecord("c", "c", "timeout"))
    with (tmp_path / "manifest.jsonl").open("a") as journal:
        journal.write(json.dumps(asdict(b))[:-9])
    records = read_manifest(tmp_path)
    assert [records["c/a"], records["ü/b"], records["c/c"].status] == [newer, b, "timeout"]
    write_manifest(tmp_path, records.values())
    assert read_manifest(tmp_path) == records
    assert os.listdir(tmp_path) == ["manifest.parquet"]


def test_manifest_does_not_depend_on_the_order_of_records(tmp_path: Path) -> None:
    records = [VideoRecord("c", str(index), "ok", index + 1) for index in range(5)]
    first = write_manifest(tmp_path, records).read_bytes()
    assert write_manifest(tmp_path, records[::-1]).read_bytes() == first


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(StorageError, match=r"manifest\.parquet: is not a manifest"):
        FrameStore(tmp_path)


def test_a_data_root_that_looks_like_a_parquet_partition(tmp_path: Path) -> None:
    root = tmp_path / "fps=12"
    root.mkdir()
    record = VideoRecord("c", "a", "ok", 3)
    write_manifest(root, [record])
    assert read_manifest(root) == {"c/a": record}


def test_jobs_are_what_is_new_changed_or_gone(tmp_path: Path) -> None:
    for name in ("done", "touched", "replaced", "other options", "frames gone", "new", "broken"):
        write_video(tmp_path / "videos" / "toy" / "c" / f"{name}.avi", levels=[0])
    images = tmp_path / "images" / "toy"
    records = {}
    for key, path in take_inventory(StoredDataset(tmp_path, "toy")).files.items():
        if key != "c/new":
            quality = 50 if key == "c/other options" else 90
            records[key] = replace(
                extract_video(path, images / key, FrameOptions(quality=quality)), source=f"c/{path.name}"
            )
    records["c/broken"] = replace(records["c/broken"], status="broken")
    digest = records["c/done"].options_digest
    os.utime(tmp_path / "videos/toy/c/touched.avi", ns=(1, 1))
    (tmp_path / "videos/toy/c/replaced.avi").rename(tmp_path / "videos/toy/c/replaced.mp4")
    os.rename(images / "c" / "frames gone", tmp_path / "elsewhere")

    inventory = take_inventory(StoredDataset(tmp_path, "toy"))
    names = [job.destination.name for job in extraction_jobs(images, inventory, records, digest)]
    assert names == ["frames gone", "new", "other options", "replaced", "touched"]
    again = extraction_jobs(images, inventory, records, digest, retry_failed=True)
    assert {job.destination.name for job in again} - set(names) == {"broken"}


def test_missing_videos_are_recorded_unless_their_frames_are_there(tmp_path: Path) -> None:
    splits, images = tmp_path / "splits" / "toy", tmp_path / "images" / "toy"
    splits.mkdir(parents=True)
    for part in ("train", "val", "test"):
        (splits / f"{part}_class.txt").write_text(part)
        (splits / f"{part}.list").write_text(f"{part}/kept\n{part}/gone")
    write_images(images / "train" / "kept", ["0.jpg"])
    write_images(images / "val" / "kept", ["0.jpg"])
    records = {"train/kept": VideoRecord("train", "kept", "ok", 1), "val/kept": VideoRecord("val", "kept", "missing")}
    settle_missing(images, take_inventory(StoredDataset(tmp_path, "toy")), records)
    assert (images / "missing.txt").read_text() == "test/gone\ntest/kept\ntrain/gone\nval/gone\n"
    assert records.pop("train/kept").status == "ok"
    assert {record.key for record in records.values() if record.status == "missing"} == {
        "test/gone", "test/kept", "train/gone", "val/gone"
    }  # fmt: skip
    assert "val/kept" not in records


def test_no_data_at_all_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"videos/toy: holds no videos"):
        take_inventory(StoredDataset(tmp_path, "toy"))
    with pytest.raises(DataError, match="dataset name"):
        take_inventory(StoredDataset(tmp_path, "../toy"))
    assert os.listdir(tmp_path) == []
