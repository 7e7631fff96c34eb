"""Read a video with PyAV, the second decoder, whose wheel contains its own FFmpeg."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from hcl.videos.deinterlacing import deinterlaced
from hcl.videos.reader import Picture, Unreadable, VideoHeader

NO_VIDEO = "not a video, or in no format that FFmpeg reads"

_PLAIN_PRIMARIES = (1, 4, 5, 6, 7)  # of BT.709 and older standards, which are treated alike
_WIDE_PRIMARIES = (8, 9, 10, 11, 12, 22)  # of BT.2020, cinema and others
_HIGH_RANGE = (16, 18)  # transfer functions of PQ and HLG
_UNKNOWN = 2  # in FFmpeg's lists of primaries and of transfer functions
_BT709 = 1

av.logging.set_level(None)  # FFmpeg logs too much on damaged videos


class PyAVFrames:
    """Read the frames of a video; frames flagged as interlaced are deinterlaced into one picture each.

    Raises:
        Unreadable: FFmpeg cannot read the file or cannot convert a frame.
    """

    decoder: ClassVar[str] = "pyav"

    def __init__(self, source: Path):
        self._container, stream = opened(source)
        self.header = _read_header(stream)
        frames = decoded(self._container, stream)
        # A flagged frame of HEVC is already a single field of half the height.
        self._frames = frames if self.header.codec == "hevc" else deinterlaced(frames)
        self._frame: av.VideoFrame | None = None

    @staticmethod
    def version() -> str:
        return av.__version__

    def advance(self) -> bool:
        self._frame = next(self._frames, None)
        return self._frame is not None

    def verify(self) -> None:
        """Do nothing: PyAV raises exceptions for all errors."""

    @property
    def milliseconds(self) -> float:
        time = self._frame.time if self._frame is not None else None
        return math.nan if time is None else 1000 * time

    def picture(self) -> Picture:
        assert self._frame is not None, "advance was not called"
        return picture_of(self._frame)

    def close(self) -> None:
        self._container.close()


def opened(source: Path, **options: str) -> tuple[InputContainer, VideoStream]:
    """Open a file and its video stream with a single-threaded decoder. Raises Unreadable.

    Args:
        options: options of FFmpeg's demuxers.
    """
    try:
        # The whitelist prevents that a playlist with the name of a video opens a connection.
        container = av.open(str(source), metadata_errors="ignore", options=options | {"protocol_whitelist": "file"})
    except (av.FFmpegError, ValueError, MemoryError) as error:
        raise Unreadable(NO_VIDEO) from error
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.codec_context is None:
        container.close()
        raise Unreadable(NO_VIDEO)
    stream.codec_context.thread_count = 1
    return container, stream


def decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Yield the frames up to the end or the first damaged one, as OpenCV does."""
    try:
        yield from container.decode(stream)
    except (av.FFmpegError, MemoryError):
        return


def picture_of(frame: av.VideoFrame) -> Picture:
    """Convert a frame to a picture, identical to OpenCV's if OpenCV can convert the frame. Raises Unreadable.

    Colour matrix and range are those of the frame's metadata, by default BT.601 and limited. BT.2020 and other wide
    gamuts, and high dynamic range, are converted to BT.709. Transparency is dropped, and pixels that are not square
    stay as they are.
    """
    primaries, transfer = frame.color_primaries, frame.color_trc
    standard = {}
    if primaries in _WIDE_PRIMARIES or transfer in _HIGH_RANGE:
        standard = {
            "dst_color_primaries": primaries if primaries in _PLAIN_PRIMARIES else _BT709,
            "dst_color_trc": _BT709 if transfer in (*_HIGH_RANGE, _UNKNOWN) else transfer,
        }
    try:
        shown = _reformatter().reformat(
            frame, format="bgr24", interpolation=Interpolation.BICUBIC, threads=1, **standard
        )
    except (av.FFmpegError, MemoryError) as error:
        raise Unreadable(
            f"FFmpeg makes no picture of {frame.format.name} with colour matrix {frame.colorspace}: {error}"
        ) from error
    return np.ascontiguousarray(_turned(shown.to_ndarray(), frame))


@cache
def _reformatter() -> VideoReformatter:
    """Return the process's reformatter: its tables for wide gamuts take three seconds to compute and are reused."""
    return VideoReformatter()


def _turned(picture: Picture, frame: av.VideoFrame) -> Picture:
    """Rotate and mirror the picture by the frame's display matrix; angles other than multiples of 90° are ignored."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return picture
    # A pixel at (x, y) is shown at (a x + c y, b x + d y), up to a shift to the result's corner.
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if a and d and not (b or c):
        return picture[:: _step(d), :: _step(a)]
    if b and c and not (a or d):
        return picture.transpose(1, 0, 2)[:: _step(b), :: _step(c)]
    return picture


def _step(factor: int) -> int:
    return 1 if factor > 0 else -1


def _read_header(stream: VideoStream) -> VideoHeader:
    context, rate = stream.codec_context, stream.average_rate
    n_frames = stream.frames
    if not n_frames and stream.duration and stream.time_base and rate:
        n_frames = round(stream.duration * stream.time_base * rate)
    return VideoHeader(
        fps=round(float(rate), 3) if rate else 0.0,
        n_frames=max(0, n_frames),
        n_pixels=context.width * context.height,
        codec=context.codec.canonical_name,
        pixel_format=context.pix_fmt or "",
    )
