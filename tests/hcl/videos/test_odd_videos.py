"""Test that many kinds of videos with a known picture are stored as displayed, or refused with the reason."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcl.datasets.manifest import VideoRecord
from hcl.frames.decoding import FrameOptions, probe, segment_centres
from hcl.frames.extraction import extract_video
from hcl.videos.opencv_reader import OpenCVFrames
from hcl.videos.pyav_reader import PyAVFrames
from hcl.videos.reader_check import TOLERANCE
from tests.hcl.videos.made_videos import Made, bar_at, bar_in, grey, patches_of, picture

WHOLE = FrameOptions(short_side=0, quality=100)
PROGRESSIVE = {
    "h264": Made("mp4", "libx264", "yuv420p"),
    "h264, B-frames": Made("ts", "libx264", "yuv420p", n_frames=12, options={"bf": "3"}),
    "h264, 10 bits": Made("mp4", "libx264", "yuv420p10le"),
    "h264, 4:2:2": Made("mov", "libx264", "yuv422p"),
    "h264, 4:2:2, 10 bits": Made("mp4", "libx264", "yuv422p10le"),
    "h264, 4:4:4": Made("mkv", "libx264", "yuv444p"),
    "h264, full range": Made("mp4", "libx264", "yuvj420p", full_range=True),
    "h264, BT.709": Made("mp4", "libx264", "yuv420p", matrix=1),
    "h264, RGB": Made("mp4", "libx264rgb", "bgr24", matrix=0),
    "h264, odd size": Made("mp4", "libx264", "yuv444p", size=(101, 77)),
    "h264, fake-interlaced": Made("mp4", "libx264", "yuv420p", options={"x264-params": "fake-interlaced=1"}),
    "hevc": Made("mp4", "libx265", "yuv420p", options={"x265-params": "log-level=none"}),
    "hevc, 12 bits": Made("mp4", "libx265", "yuv420p12le", options={"x265-params": "log-level=none"}),
    "mpeg2": Made("mpg", "mpeg2video", "yuv420p"),
    "mpeg4": Made("avi", "mpeg4", "yuv420p"),
    "prores": Made("mov", "prores_ks", "yuv422p10le"),
    "prores, transparent": Made("mov", "prores_ks", "yuva444p10le"),
    "dnxhr": Made("mov", "dnxhd", "yuv422p", size=(256, 128), options={"profile": "dnxhr_sq"}, matrix=1),
    "ffv1": Made("mkv", "ffv1", "yuv420p"),
    "ffv1, 4:4:4, 10 bits": Made("mkv", "ffv1", "yuv444p10le"),
    "ffv1, 4:1:1": Made("mkv", "ffv1", "yuv411p"),
    "ffv1, full range": Made("mkv", "ffv1", "yuv420p", full_range=True),
    "ffv1, transparent": Made("mkv", "ffv1", "yuva420p"),
    "ffv1, 16 bits RGB": Made("mkv", "ffv1", "rgb48le", matrix=0),
    "mjpeg": Made("avi", "mjpeg", "yuvj420p", full_range=True),
    "mjpeg, 4:4:4": Made("mov", "mjpeg", "yuvj444p", full_range=True),
    "vp8": Made("webm", "libvpx", "yuv420p"),
    "vp9": Made("webm", "libvpx-vp9", "yuv420p"),
    "vp9, odd size": Made("webm", "libvpx-vp9", "yuv420p", size=(101, 77)),
    "vp9, 4:4:4": Made("webm", "libvpx-vp9", "yuv444p"),
    "h263": Made("3gp", "h263", "yuv420p", size=(128, 96)),
    "flash": Made("flv", "flv", "yuv420p"),
    "wmv2": Made("wmv", "wmv2", "yuv420p"),
    "png": Made("mov", "png", "rgb24", matrix=0),
    "png, transparent": Made("mov", "png", "rgba", matrix=0),
    "qtrle": Made("mov", "qtrle", "rgb24", matrix=0),
    "qtrle, transparent": Made("mov", "qtrle", "argb", matrix=0),
    "huffyuv": Made("avi", "huffyuv", "yuv422p"),
    "huffyuv, RGB": Made("avi", "huffyuv", "rgb24", matrix=0),
    "utvideo": Made("avi", "utvideo", "yuv422p"),
    "raw": Made("avi", "rawvideo", "bgr24", matrix=0),
    "raw, packed": Made("mov", "rawvideo", "uyvy422"),
    "raw, 15 bits": Made("avi", "rawvideo", "rgb555le", matrix=0),
    "v210": Made("mov", "v210", "yuv422p10le"),
    "jpeg2000": Made("mov", "jpeg2000", "yuv444p"),
    "one frame": Made("mp4", "libx264", "yuv420p", n_frames=1),
}
GREY = {
    "ffv1, grey": Made("mkv", "ffv1", "gray"),
    "ffv1, 16 bits grey": Made("mkv", "ffv1", "gray16le"),
    "qtrle, palette of greys": Made("mov", "qtrle", "gray"),
}
TFF, BFF = {"x264-params": "tff=1:log-level=none"}, {"x264-params": "bff=1:log-level=none"}
INTERLACED = {
    "h264, MBAFF, tff": Made("mp4", "libx264", "yuv420p", fields="tff", options=TFF),
    "h264, MBAFF, bff": Made("ts", "libx264", "yuv420p", fields="bff", options=BFF),
    "h264, MBAFF, B-frames": Made("ts", "libx264", "yuv420p", fields="tff", n_frames=12, options=TFF | {"bf": "3"}),
    "h264, 4:2:2, 10 bits, tff": Made("mov", "libx264", "yuv422p10le", fields="tff", options=TFF),
    "h264, one frame": Made("mp4", "libx264", "yuv420p", fields="tff", options=TFF, n_frames=1),
    "mpeg2, tff": Made("mpg", "mpeg2video", "yuv420p", fields="tff"),
    "mpeg2, bff": Made("ts", "mpeg2video", "yuv420p", fields="bff"),
    "mpeg2, 4:2:2": Made("ts", "mpeg2video", "yuv422p", fields="tff"),
    "mpeg4": Made("avi", "mpeg4", "yuv420p", fields="tff"),
    "dv, PAL": Made("avi", "dvvideo", "yuv420p", size=(720, 576), fields="bff", n_frames=3),
    "dv, 4:1:1": Made("mov", "dvvideo", "yuv411p", size=(720, 480), fields="bff", n_frames=3),
    "prores": Made("mov", "prores_ks", "yuv422p10le", fields="tff"),
    "ffv1": Made("mkv", "ffv1", "yuv420p", fields="tff"),
    "v210": Made("mov", "v210", "yuv422p10le", fields="tff"),
    "h264, flagged without fields": Made("mp4", "libx264", "yuv420p", flagged="tff", options=TFF),
    "mpeg2, flagged without fields": Made("ts", "mpeg2video", "yuv420p", flagged="bff"),
    "h264, uneven times": Made("mp4", "libx264", "yuv420p", fields="tff", options=TFF, ticks=(0, 1, 2, 7, 8)),
    "h264, BT.709, full range": Made(
        "mp4", "libx264", "yuvj420p", fields="tff", options=TFF, matrix=1, full_range=True
    ),
}
OTHERS = {  # OpenCV does not read these, or shows them with a wrong orientation
    "av1": Made("mp4", "libsvtav1", "yuv420p"),
    "av1, 10 bits": Made("webm", "libsvtav1", "yuv420p10le"),
}


def stored(source: Path, options: FrameOptions = WHOLE) -> tuple[VideoRecord, list[np.ndarray]]:
    """Extract twice, require equal results, and return the record and the frames."""
    folder = source.parent / "c" / source.stem
    records = [extract_video(source, folder, options) for _ in range(2)]
    assert records[0] == records[1]
    return records[0], [cv2.imread(str(folder / f"{index}.jpg")) for index in range(records[0].n_frames)]


def assert_shown(
    frame: np.ndarray,
    time: int,
    size: tuple[int, int],
    *,
    levels: float = 8.0,
    as_shown: Callable[[np.ndarray], np.ndarray] = lambda pixels: pixels,
) -> None:
    """Assert the patches' colours to eight levels (lossy codecs and limited ranges change up to five, a wrong matrix or
    range at least ten), and the bar to one pixel, a third of its movement between fields."""
    expected = as_shown(picture(time, size))
    assert frame.shape == expected.shape
    assert np.abs(patches_of(frame) - patches_of(expected)).max() < levels
    assert abs(bar_in(frame) - bar_at(time, size[0])) <= 1


def made(tmp_path: Path, video: Made) -> Path:
    return video.write(tmp_path / f"video.{video.extension}")


@pytest.mark.parametrize("name", PROGRESSIVE)
def test_progressive_videos_are_read_by_opencv(tmp_path: Path, name: str) -> None:
    video = PROGRESSIVE[name]
    record, frames = stored(made(tmp_path, video))
    assert (record.status, record.decoder, record.decoder_version) == ("ok", "opencv", cv2.__version__)
    assert (record.n_frames, record.error) == (video.n_frames, "")
    for index, frame in enumerate(frames):
        assert_shown(frame, 2 * index, video.size)


@pytest.mark.parametrize("name", GREY)
def test_grey_videos(tmp_path: Path, name: str) -> None:
    video = GREY[name]
    record, frames = stored(made(tmp_path, video))
    assert (record.status, record.decoder, record.n_frames) == ("ok", "opencv", video.n_frames)
    for index, frame in enumerate(frames):
        assert_shown(frame, 2 * index, video.size, as_shown=grey)


@pytest.mark.parametrize("name", INTERLACED)
def test_interlaced_videos_are_deinterlaced(tmp_path: Path, name: str) -> None:
    video = INTERLACED[name]
    source = made(tmp_path, video)
    record, frames = stored(source)
    assert (record.status, record.decoder, record.n_frames) == ("ok", "pyav", video.n_frames), record.error
    assert record.variable_rate == bool(video.ticks)
    for index, frame in enumerate(frames):
        assert_shown(frame, 2 * index, video.size)  # the first field's picture
    record, few = stored(source, replace(WHOLE, n_frames=2))
    chosen = segment_centres(video.n_frames, 2)
    assert (record.n_decoded, len(few)) == (video.n_frames, len(chosen))
    assert all(np.array_equal(frame, frames[index]) for frame, index in zip(few, chosen, strict=True))


@pytest.mark.parametrize("name", OTHERS)
def test_videos_that_opencv_does_not_read(tmp_path: Path, name: str) -> None:
    video = OTHERS[name]
    source = made(tmp_path, video)
    record, frames = stored(source)
    assert (record.status, record.decoder, record.n_frames) == ("ok", "pyav", video.n_frames)
    assert probe(source).decoder == "pyav" and not probe(source).problem
    for index, frame in enumerate(frames):
        assert_shown(frame, 2 * index, video.size)


def test_fields_that_are_not_flagged_stay_together(tmp_path: Path) -> None:
    video = Made("mp4", "libx264", "yuv420p", fields="tff", flagged="")
    record, frames = stored(made(tmp_path, video))
    assert (record.decoder, record.n_frames) == ("opencv", video.n_frames)
    for index, frame in enumerate(frames):
        assert np.abs(patches_of(frame) - patches_of(picture(2 * index))).max() < 8
        assert bar_at(2 * index, 96) - 1 <= bar_in(frame) <= bar_at(2 * index + 1, 96) + 1


TURNS = {
    "90": ((90,), lambda pixels: np.rot90(pixels, -1), "opencv"),  # the inverse of the display's rotation
    "180": ((180,), lambda pixels: np.rot90(pixels, 2), "opencv"),
    "270": ((270,), lambda pixels: np.rot90(pixels, 1), "opencv"),
    "left to right": ((0, True, False), lambda pixels: pixels[:, ::-1], "pyav"),
    "top to bottom": ((0, False, True), lambda pixels: pixels[::-1], "pyav"),
    "90, mirrored": ((90, True, False), lambda pixels: np.rot90(pixels[:, ::-1], -1), "pyav"),
}


@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize("fields", ["", "tff"])
def test_videos_are_turned_and_mirrored_as_they_are_shown(tmp_path: Path, name: str, fields: str) -> None:
    rotation, turn_back, decoder = TURNS[name]
    video = Made(
        "mp4", "libx264", "yuv420p", rotation=rotation, fields=fields, options=TFF if fields else {}, n_frames=2
    )
    record, frames = stored(made(tmp_path, video))
    assert (record.status, record.decoder) == ("ok", "pyav" if fields else decoder)
    for index, frame in enumerate(frames):
        assert_shown(turn_back(frame), 2 * index, video.size)


SEGMENT = Made("ts", "libx264", "yuv420p", options={"x264-params": "log-level=none", "bf": "0"})
SWITCHES = {
    "progressive, interlaced": [SEGMENT, replace(SEGMENT, fields="tff", options=TFF | {"bf": "0"})],
    "interlaced, progressive": [replace(SEGMENT, fields="bff", options=BFF | {"bf": "0"}), SEGMENT],
    "one interlaced frame": [
        SEGMENT,
        replace(SEGMENT, fields="tff", options=TFF | {"bf": "0"}, n_frames=1),
        replace(SEGMENT, n_frames=4),
    ],
    "pixel format": [SEGMENT, replace(SEGMENT, pixel_format="yuv422p10le")],
    "interlaced, pixel format": [
        replace(SEGMENT, fields="tff", options=TFF | {"bf": "0"}),
        replace(SEGMENT, fields="tff", options=TFF | {"bf": "0"}, pixel_format="yuv422p"),
    ],
    "size": [SEGMENT, replace(SEGMENT, size=(144, 120))],
    "interlaced, size": [replace(SEGMENT, size=(144, 120), fields="tff", options=TFF | {"bf": "0"}), SEGMENT],
}


@pytest.mark.parametrize("name", SWITCHES)
def test_streams_that_switch_midway(tmp_path: Path, name: str) -> None:
    source, n_frames = tmp_path / "video.ts", 0
    with source.open("wb") as joined:
        for segment in SWITCHES[name]:
            joined.write(replace(segment, first=n_frames).write(tmp_path / "segment.ts").read_bytes())
            n_frames += segment.n_frames
    record, frames = stored(source)
    assert (record.status, record.n_frames) == ("ok", n_frames)
    size = SWITCHES[name][0].size  # later frames take the first one's size
    scale = size[0] / SWITCHES[name][-1].size[0]
    for index, frame in enumerate(frames):
        is_scaled = "size" in name and index >= SWITCHES[name][0].n_frames
        assert frame.shape == (size[1], size[0], 3)
        assert np.abs(patches_of(frame) - patches_of(picture(2 * index, size))).max() < 8
        expected = scale * bar_at(2 * index, SWITCHES[name][-1].size[0]) if is_scaled else bar_at(2 * index, size[0])
        assert abs(bar_in(frame) - expected) <= (2 if is_scaled else 1), index


def test_colours_that_ffmpeg_does_not_convert_are_refused_with_the_reason(tmp_path: Path) -> None:
    source = made(tmp_path, Made("mkv", "ffv1", "yuv420p", matrix=8))  # YCgCo
    record, _ = stored(source)
    assert (record.status, record.decoder) == ("broken", "pyav")
    assert "FFmpeg makes no picture of yuv420p with colour matrix 8" in record.error
    assert probe(source).problem in record.error


SAME = {
    "h264, 10 bits": PROGRESSIVE["h264, 10 bits"],
    "ffv1, 4:1:1": PROGRESSIVE["ffv1, 4:1:1"],
    "ffv1, full range": PROGRESSIVE["ffv1, full range"],
    "vp9, odd size": PROGRESSIVE["vp9, odd size"],
    "gif": Made("gif", "gif", "bgr8", matrix=0),
    "HLG": Made("mkv", "ffv1", "yuv420p", matrix=9, primaries=9, transfer=18),
}


@pytest.mark.parametrize("name", SAME)
def test_both_decoders_make_the_same_pictures(tmp_path: Path, name: str) -> None:
    source = made(tmp_path, SAME[name])
    with closing(OpenCVFrames(source)) as one, closing(PyAVFrames(source)) as other:
        for _ in range(SAME[name].n_frames):
            assert one.advance() and other.advance()
            assert np.abs(one.picture().astype(int) - other.picture()).mean() <= TOLERANCE
            assert one.milliseconds == pytest.approx(other.milliseconds, abs=1)
        assert not one.advance() and not other.advance()


def test_still_scenes_stay_with_opencv(tmp_path: Path) -> None:
    video = Made("mkv", "ffv1", "yuv420p", n_frames=1)
    source = made(tmp_path, video)
    writer = cv2.VideoWriter(str(tmp_path / "still.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (96, 80))
    for _ in range(6):
        writer.write(picture(0))
    writer.release()
    record, frames = stored(source.with_name("still.avi"))
    assert (record.decoder, record.n_frames) == ("opencv", 6)
    assert all(np.array_equal(frame, frames[0]) for frame in frames)


def test_names_that_are_not_utf8_in_metadata(tmp_path: Path) -> None:
    source = made(tmp_path, replace(INTERLACED["h264, MBAFF, tff"], extension="mkv"))
    content = source.read_bytes()
    assert content.count(b"Lavf") > 1
    source.write_bytes(content.replace(b"Lavf", b"\xff\xfe\xe9\xe8"))
    assert stored(source)[0].status == "ok"


@pytest.mark.parametrize("first", ["av", "cv2"])
def test_both_libraries_live_in_one_process(tmp_path: Path, first: str) -> None:
    """Load both libraries, which each contain an FFmpeg, in both orders."""
    sources = [INTERLACED["mpeg2, tff"].write(tmp_path / "i.mpg"), PROGRESSIVE["h264"].write(tmp_path / "p.mp4")]
    script = f"""
import {first}
import sys
from pathlib import Path
from hcl.frames.extraction import extract_video
for path in sys.argv[1:]:
    record = extract_video(Path(path), Path(path).parent / "c" / Path(path).stem)
    print(record.status, record.decoder, record.digest)
"""
    command = [sys.executable, "-c", script, *map(str, sources)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["ok", "pyav"], ["ok", "opencv"]]
    assert [line.split()[2] for line in lines] == [stored(path, FrameOptions())[0].digest for path in sources]


def test_writing_a_video_leaves_the_priority_of_the_process(tmp_path: Path) -> None:
    made(tmp_path, OTHERS["av1"])
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
