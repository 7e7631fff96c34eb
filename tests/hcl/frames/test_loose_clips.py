"""Find and open clips of no data set."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcl.errors import DataError, VideoError
from hcl.frames.decoding import FrameOptions
from hcl.frames.extraction import extract_video, recorded_options
from hcl.frames.loose_clips import VIDEO, LooseClip, find_clips, find_support, opened_clip
from hcl.frames.store import FrameStore


def write_frames(folder: Path, n: int = 3, ending: str = "png", seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index in range(n):
        cv2.imwrite(str(folder / f"img_{index + 1:03d}.{ending}"), rng.integers(0, 256, (20, 30, 3), np.uint8))
    return folder


def write_video(path: Path, n: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for index in range(n):
        writer.write(np.full((48, 64, 3), 20 * index, np.uint8))
    writer.release()
    return path


def found(path: Path, root: Path) -> list[str]:
    return [os.path.relpath(clip.path, root) for clip in find_clips(path)]


def test_videos_and_folders_of_frames_are_found_at_any_depth(tmp_path: Path) -> None:
    for name in ("b.mp4", "deep/er/a.webm", ".hidden.mp4", "note.txt", "half.mp4.part", "lost+found/x.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    write_frames(tmp_path / "deep" / "frames")
    write_frames(tmp_path / "with video")
    (tmp_path / "with video" / "v.mkv").write_bytes(b"x")
    expected = ["b.mp4", "deep/er/a.webm", "deep/frames", "with video/v.mkv"]
    assert found(tmp_path, tmp_path) == expected
    assert found(tmp_path / "deep" / "frames", tmp_path) == ["deep/frames"]
    assert found(tmp_path / "note.txt", tmp_path) == ["note.txt"]  # named, so it is meant
    for path in (tmp_path / "nothing", tmp_path / "lost+found" / "none.mp4"):
        with pytest.raises(DataError, match="no such file"):
            find_clips(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no video"):
        find_clips(tmp_path / "empty")


def test_each_subfolder_is_a_class(tmp_path: Path) -> None:
    write_frames(tmp_path / "s" / "wave" / "one")
    write_frames(tmp_path / "s" / "wave" / "two")
    with pytest.raises(DataError, match="at least two"):
        find_support(tmp_path / "s")
    (tmp_path / "s" / "clap").mkdir()
    with pytest.raises(DataError, match="clap: holds no video"):
        find_support(tmp_path / "s")
    (tmp_path / "s" / "clap" / "x.mp4").write_bytes(b"x")
    classes = find_support(tmp_path / "s")
    assert {name: [clip.path.name for clip in clips] for name, clips in classes.items()} == {
        "clap": ["x.mp4"],
        "wave": ["one", "two"],
    }
    with pytest.raises(DataError, match="no such folder"):
        find_support(tmp_path / "t")


def test_a_video_has_the_frames_of_an_extraction(tmp_path: Path) -> None:
    video, options = write_video(tmp_path / "v.avi"), FrameOptions(short_side=24, quality=70)
    record = extract_video(video, tmp_path / "images" / VIDEO.class_name / VIDEO.name, options)
    expected = FrameStore(tmp_path / "images", records={record.key: record})
    with opened_clip(LooseClip(video, "v"), options) as store:
        assert store.n_frames(VIDEO) == 7
        np.testing.assert_array_equal(store.read(VIDEO, range(7)), expected.read(VIDEO, range(7)))
        folder = store.images_root
    assert not folder.exists()


def test_frames_of_another_tool_are_read_as_they_are(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f")
    with opened_clip(LooseClip(folder, "f"), FrameOptions(short_side=4)) as store:
        frames = store.read(VIDEO, [0, 2])
    np.testing.assert_array_equal(frames[1][..., ::-1], cv2.imread(str(folder / "img_003.png")))
    assert folder.exists() and len(list(folder.iterdir())) == 3


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    first, second = (write_frames(tmp_path / name) for name in ("a", "b"))
    other = write_frames(tmp_path / "c", seed=1)
    video = write_video(tmp_path / "v.avi")
    copy = tmp_path / "copy.avi"
    copy.write_bytes(video.read_bytes())
    digests = [LooseClip(path, "").digest() for path in (first, second, other, video, copy)]
    assert digests[0] == digests[1] and digests[3] == digests[4] and len(set(digests)) == 3


@pytest.mark.parametrize("kind", ["text", "empty", "gone", "no frames", "bad frame", "two kinds", "pipe"])
def test_what_cannot_be_read_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    if kind in ("text", "empty"):
        path.write_bytes(b"text" if kind == "text" else b"")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "gone":
        write_frames(path, n=0 if kind == "no frames" else 2)
    if kind == "bad frame":
        (path / "img_002.png").write_bytes(b"text")
    if kind == "two kinds":
        (path / "other_1.png").write_bytes(b"x")
        (path / "other_2.png").write_bytes(b"x")
    clip = LooseClip(path, "clip")
    if kind == "pipe":
        with pytest.raises(VideoError, match="no ordinary file"):
            clip.digest()
        return
    with pytest.raises(DataError) as caught, opened_clip(clip, FrameOptions()) as store:
        store.read(VIDEO, range(store.n_frames(VIDEO)))
    assert str(path) in (caught.value.where or "")
    if kind == "gone":
        with pytest.raises(VideoError, match="cannot be opened"):
            clip.digest()


@pytest.mark.parametrize(
    "options", [FrameOptions(), FrameOptions(short_side=24), FrameOptions(32, 71), FrameOptions(0, 90, 4)], ids=str
)
def test_options_are_found_again_in_a_manifest(options: FrameOptions, tmp_path: Path) -> None:
    records = [
        extract_video(write_video(tmp_path / f"{n}.avi", n), tmp_path / "i" / "c" / str(n), options) for n in (3, 7)
    ]
    assert recorded_options(records) == options
    assert recorded_options([]) is None
