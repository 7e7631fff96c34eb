"""Test decoding of odd and damaged files, and of files with a wrong header, which are written here."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcl.datasets.manifest import VideoRecord
from hcl.frames.decoding import FrameOptions, segment_centres
from hcl.frames.extraction import extract_video
from hcl.videos.jpegs import frames_digest


def write_video(
    path: Path, n_frames: int, *, size: tuple[int, int] = (32, 24), codec: str = "MJPG", step: int = 4
) -> Path:
    """Write a video whose i-th frame has level `step` i."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10.0, size)
    assert writer.isOpened()
    for index in range(n_frames):
        writer.write(np.full((size[1], size[0], 3), step * index, np.uint8))
    writer.release()
    return path


def write_gif(path: Path, *, size: tuple[int, int] = (32, 24)) -> Path:
    """Write four frames that fade out."""
    animation = cv2.Animation()
    levels = [np.full((size[1], size[0]), 40 * index, np.uint8) for index in range(4)]
    animation.frames = [np.dstack([level, level, level, 255 - level]) for level in levels]
    animation.durations = np.array([100] * 4)
    assert cv2.imwriteanimation(str(path), animation)
    return path


def extracted(source: Path, **options: int) -> tuple[VideoRecord, list[int]]:
    """Extract a video, and return the record and the stored frames' numbers, which follow from their level."""
    folder = source.parent / "c" / source.stem
    record = extract_video(source, folder, FrameOptions(**options))
    paths = [folder / f"{index}.jpg" for index in range(record.n_frames)]
    assert sorted(os.listdir(folder) if folder.exists() else []) == sorted(path.name for path in paths)
    assert list(folder.parent.glob(".*")) == []
    if record.status == "ok":
        assert record.digest == frames_digest(path.read_bytes() for path in paths)
    return record, [round(cv2.imread(str(path)).mean() / 4) for path in paths]


def promise(path: Path, n_frames: int) -> None:
    """Change the number of frames in the header of an AVI file."""
    content = bytearray(path.read_bytes())
    for chunk, offset in ((b"avih", 24), (b"strh", 40)):
        struct.pack_into("<I", content, content.index(chunk) + offset, n_frames)
    path.write_bytes(content)


def test_segment_centres() -> None:
    assert segment_centres(80, 8) == [5, 15, 25, 35, 45, 55, 65, 75]
    assert segment_centres(7, 3) == [1, 3, 5]
    assert segment_centres(3, 8) == [0, 1, 2]
    assert segment_centres(0, 8) == []
    for n in range(1, 40):
        assert len(set(segment_centres(n, 8))) == min(n, 8)


def test_all_frames_or_some_spread_evenly(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.avi", 41)
    record, stored = extracted(source)
    assert (record.n_frames, record.n_decoded, stored) == (41, 41, list(range(41)))
    record, stored = extracted(source, n_frames=4)
    assert (record.n_frames, record.n_decoded, stored) == (4, 41, [5, 15, 25, 35])
    assert extracted(source, n_frames=41)[1] == list(range(41))
    assert extracted(source, n_frames=99)[1] == list(range(41))


@pytest.mark.parametrize("promised", [0, 1, 20, 39, 60, 4000])
def test_frames_are_spread_over_what_is_there_whatever_the_header_says(tmp_path: Path, promised: int) -> None:
    source = write_video(tmp_path / "v.avi", 41)
    promise(source, promised)
    record, stored = extracted(source, n_frames=4)
    assert (record.status, record.n_decoded, stored) == ("ok", 41, [5, 15, 25, 35])
    assert ("the file promises 60" in record.error) == (promised == 60)


def test_a_truncated_video_is_spread_over_its_rest(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.avi", 40)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    record, stored = extracted(source, n_frames=4)
    assert 5 < record.n_decoded < 25
    assert stored == segment_centres(record.n_decoded, 4)
    assert f"{record.n_decoded} frames could be decoded, the file promises 40" in record.error


def test_the_manifest_says_what_the_video_is(tmp_path: Path) -> None:
    record, _ = extracted(write_video(tmp_path / "v.avi", 5))
    assert (record.codec, record.pixel_format, record.rotation, record.variable_rate) == ("MJPG", "I420", 0, False)
    record, _ = extracted(write_video(tmp_path / "w.webm", 5, codec="VP80"))
    assert (record.codec, record.variable_rate) == ("VP80", False)


def test_rotation_metadata_turn_the_frames_and_are_recorded(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mp4", 5, codec="mp4v")
    content = source.read_bytes()
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    track = content.index(b"tkhd")
    source.write_bytes(content[:track] + content[track:].replace(upright, turned, 1))
    record, _ = extracted(source)
    assert (record.rotation, record.width, record.height) == (90, 24, 32)


def test_a_changing_frame_rate_is_recorded(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mp4", 10, codec="mp4v")
    content = source.read_bytes()
    table = content.index(b"stts")
    count, n_frames, step = struct.unpack(">III", content[table + 8 : table + 20])
    assert (count, n_frames) == (1, 10)
    # A second entry makes the table, and each box around it, eight bytes longer; the frames precede them.
    uneven = content[: table + 8] + struct.pack(">IIIII", 2, 5, step // 2, 5, 3 * step // 2) + content[table + 20 :]
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        at = uneven.index(box) - 4
        (size,) = struct.unpack(">I", uneven[at : at + 4])
        uneven = uneven[:at] + struct.pack(">I", size + 8) + uneven[at + 4 :]
    source.write_bytes(uneven)
    record, _ = extracted(source)
    assert (record.n_frames, record.variable_rate) == (10, True)


@pytest.mark.parametrize("size", [(33, 25), (1, 1), (16, 200), (200, 16)])
def test_odd_tiny_narrow_and_wide_frames(tmp_path: Path, size: tuple[int, int]) -> None:
    record, _ = extracted(write_gif(tmp_path / "v.gif", size=size), short_side=64)
    assert (record.status, record.n_frames, record.width, record.height) == ("ok", 4, *size)


def test_one_frame_and_none(tmp_path: Path) -> None:
    assert extracted(write_video(tmp_path / "v.avi", 1))[1] == [0]
    assert extracted(write_video(tmp_path / "v.avi", 1), n_frames=8)[1] == [0]
    for options in ({}, {"n_frames": 8}):
        assert extracted(write_video(tmp_path / "w.avi", 0), **options)[0].status == "broken"


def test_grey_and_transparent_videos_come_in_three_colours(tmp_path: Path) -> None:
    frames = [np.full((24, 32), 40 * index, np.uint8) for index in range(4)]
    writer = cv2.VideoWriter(str(tmp_path / "g.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (32, 24), isColor=False)
    for frame in frames:
        writer.write(frame)
    writer.release()
    write_gif(tmp_path / "t.gif")
    for name in ("g.avi", "t.gif"):
        record, _ = extracted(tmp_path / name)
        assert record.status == "ok", name
        frame = cv2.imread(str(tmp_path / "c" / Path(name).stem / "0.jpg"), cv2.IMREAD_UNCHANGED)
        assert frame.shape == (24, 32, 3)


def test_a_header_that_claims_huge_frames_costs_no_memory(tmp_path: Path) -> None:
    source = write_gif(tmp_path / "v.gif")
    content = bytearray(source.read_bytes())
    struct.pack_into("<HH", content, 6, 12000, 12000)  # size of the canvas
    source.write_bytes(content)
    record, _ = extracted(source)
    assert (record.status, record.error) == ("broken", "the header claims frames of 144000000 pixels")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path: Path) -> None:
    for n_frames in (300, 4000):
        write_video(tmp_path / f"{n_frames}.mp4", n_frames, size=(64, 48), codec="mp4v", step=0)
    script = """
import resource, sys
from pathlib import Path
from hcl.frames.decoding import FrameOptions
from hcl.frames.extraction import extract_video
from hcl.videos.jpegs import frames_digest
for n_frames in (300, 4000):
    for options in (FrameOptions(), FrameOptions(n_frames=8)):
        record = extract_video(Path(sys.argv[1]) / f"{n_frames}.mp4", Path(sys.argv[1]) / "c" / str(n_frames), options)
        assert record.n_decoded == n_frames
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    outcome = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    short, long = (int(line) / 1024 for line in outcome.stdout.split())  # MiB
    assert long - short < 15  # all frames together are 35
