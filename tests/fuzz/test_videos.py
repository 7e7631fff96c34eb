"""Test that damaged videos give a record with the reason in bounded time, and leave no partial files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcl.datasets.splits import Video
from hcl.errors import DataError
from hcl.frames.extraction import extract_video
from hcl.frames.folders import FrameFolder
from hcl.frames.store import FrameStore
from tests.fuzz.hostile import contained, fuzzed, mutated

CODECS = {"mp4": "mp4v", "avi": "MJPG", "mkv": "VP80", "webm": "VP90"}
REAL = os.environ.get("HCL_CODECS")  # optional folder of videos in the codecs of the data sets


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return six frames of 32 x 24 pixels in each codec that this OpenCV writes, by extension."""
    folder, found = tmp_path_factory.mktemp("videos"), {}
    for extension, codec in CODECS.items():
        path = folder / f"one.{extension}"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10.0, (32, 24))
        for index in range(6):
            writer.write(np.full((24, 32, 3), 40 * index, np.uint8))
        writer.release()
        if path.exists() and path.stat().st_size > 100:
            found[extension] = path.read_bytes()
    assert found, "OpenCV writes none of the codecs"
    return found


def extract(root: Path, extension: str, content: bytes) -> None:
    """Extract one video into its own root; all frames must read back, or there is a reason and no frames."""
    source = root / "videos" / f"one.{extension}"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(content)
    frames = root / "images" / "class" / "video"
    with contained(root, reads_only=False):
        record = extract_video(source, frames)
        assert record.status in ("ok", "broken")
        if record.status == "ok":
            assert FrameFolder.listed(frames).n_frames == record.n_frames > 0
            store = FrameStore(frames.parent.parent)
            assert store.read(Video("class", "video"), range(record.n_frames)).shape[1:3] == (
                record.height,
                record.width,
            )
        else:
            assert record.error and not frames.exists()
    assert source.read_bytes() == content
    assert not list(frames.parent.glob(".*"))


@fuzzed(25)
@given(st.data())
def test_damaged_videos(tmp_path: Path, videos: dict[str, bytes], data: st.DataObject) -> None:
    extension = data.draw(st.sampled_from(sorted(videos)))
    extract(tmp_path, extension, data.draw(mutated([videos[extension]])))


@fuzzed(15)
@given(st.binary(max_size=200), st.sampled_from(["mp4", "avi", "gif", "ts", "flv"]))
def test_files_that_are_no_videos(tmp_path: Path, content: bytes, extension: str) -> None:
    extract(tmp_path, extension, content)


@pytest.mark.parametrize(
    "content",
    [
        *(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", b"ffconcat version 1.0\nfile /etc/hostname\n"),
        *(b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", b"<svg xmlns='x'/>", b"GIF89a" + b"\xff" * 60),
    ],
)
@pytest.mark.parametrize("extension", ["mp4", "ts", "mpg"])
def test_lists_of_other_files_are_not_followed(tmp_path: Path, content: bytes, extension: str) -> None:
    extract(tmp_path, extension, content)


@pytest.mark.skipif(not REAL, reason="HCL_CODECS names no folder of videos")
@fuzzed(25)
@given(st.data())
def test_damaged_videos_of_the_data_sets_codecs(tmp_path: Path, data: st.DataObject) -> None:
    small = sorted(path for path in Path(str(REAL)).rglob("*.*") if path.is_file() and path.stat().st_size < 2**18)
    path = data.draw(st.sampled_from([one for one in small if one.suffix != ".json"]))
    extract(tmp_path, path.suffix.lstrip("."), data.draw(mutated([path.read_bytes()])))


@fuzzed(40)
@given(st.data())
def test_damaged_frames(tmp_path: Path, data: st.DataObject) -> None:
    whole = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    (tmp_path / "class" / "video").mkdir(parents=True, exist_ok=True)
    (tmp_path / "class" / "video" / "0.jpg").write_bytes(data.draw(mutated([whole])))
    with contained(tmp_path):
        assert FrameStore(tmp_path).read(Video("class", "video"), [0]).ndim == 4


def test_a_frame_that_claims_more_pixels_than_memory(tmp_path: Path) -> None:
    whole = bytearray(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    at = whole.index(b"\xff\xc0")
    whole[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    (tmp_path / "class" / "video").mkdir(parents=True)
    (tmp_path / "class" / "video" / "0.jpg").write_bytes(whole)
    with pytest.raises(DataError):
        FrameStore(tmp_path).read(Video("class", "video"), [0])


def test_a_video_that_is_a_link_to_nowhere_is_missing(tmp_path: Path) -> None:
    (tmp_path / "one.mp4").symlink_to(tmp_path / "none.mp4")
    record = extract_video(tmp_path / "one.mp4", tmp_path / "images" / "class" / "video")
    assert record.status == "missing" and json.dumps(vars(record))
