"""Write videos of a known picture in any codec of PyAV's FFmpeg: patches of colour, and a moving white bar."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

PATCHES = np.array(  # blue, green, red
    [
        [(40, 40, 200), (60, 180, 60), (190, 70, 40), (200, 200, 200)],
        [(30, 30, 30), (160, 60, 160), (60, 170, 180), (120, 120, 120)],
    ],
    np.uint8,
)
STEP = 3  # pixels by which the bar moves between fields
BAR = 6  # pixels, its width
FRAME_RATE = 25
_FIELD_ORDERS = {"tff": 2, "bff": 3}  # values in a container: FFmpeg's AV_FIELD_TT and AV_FIELD_BB


@dataclass(frozen=True)
class Made:
    """Describe a video to write. Frame n shows `picture(2 n)`; with `fields`, its second field shows the next picture.

    `fields` is the real order of the frames' fields, `flagged` the order given to the encoder.
    """

    extension: str
    codec: str
    pixel_format: str
    size: tuple[int, int] = (96, 80)
    n_frames: int = 5
    fields: str = ""  # `tff` or `bff`: top or bottom rows first
    flagged: str | None = None  # None: the same as fields
    options: dict[str, str] = field(default_factory=dict)
    matrix: int = 5  # colour matrix; 5 is BT.601, 1 is BT.709, 0 none
    full_range: bool = False
    primaries: int | None = None
    transfer: int | None = None
    rotation: tuple = ()  # display matrix: counterclockwise degrees, mirrored left to right, top to bottom
    ticks: Sequence[int] = ()  # times of the frames; () for one each
    first: int = 0  # number of the first frame

    def write(self, path: Path) -> Path:
        flagged = self.fields if self.flagged is None else self.flagged
        with _priority_kept(), av.open(str(path), "w") as container:
            stream = container.add_stream(self.codec, rate=FRAME_RATE, options=self.options)
            stream.width, stream.height, stream.pix_fmt = *self.size, self.pixel_format
            context = stream.codec_context
            context.thread_count = 1
            if flagged:
                context.flags |= av.codec.context.Flags.interlaced_dct
                context.field_order = _FIELD_ORDERS[flagged]
            context.colorspace, context.color_range = self.matrix, 2 if self.full_range else 1
            if self.primaries is not None:
                context.color_primaries = self.primaries
            if self.transfer is not None:
                context.color_trc = self.transfer
            if self.rotation:
                stream.set_display_rotation(*self.rotation)
            convert = self._converter(flagged)
            for index in range(self.n_frames):
                frame = av.VideoFrame.from_ndarray(self._pixels(self.first + index), format="bgr24")
                frame.pts, frame.time_base = index, Fraction(1, FRAME_RATE)
                convert.vpush(frame)
                converted = convert.vpull()
                converted.colorspace, converted.color_range = self.matrix, 2 if self.full_range else 1
                converted.pts = self.ticks[index] if self.ticks else index
                converted.time_base = Fraction(1, FRAME_RATE)
                container.mux(stream.encode(converted))
            container.mux(stream.encode(None))
        return path

    def _pixels(self, index: int) -> np.ndarray:
        frame = picture(2 * index, self.size)
        if self.fields:
            frame[int(self.fields == "tff") :: 2] = picture(2 * index + 1, self.size)[int(self.fields == "tff") :: 2]
        return frame

    def _converter(self, flagged: str) -> av.filter.Graph:
        """Convert to the pixel format; with fields, convert the colours of each field separately."""
        graph = av.filter.Graph()
        matrix, color_range = "bt709" if self.matrix == 1 else "bt601", "full" if self.full_range else "limited"
        scale = f"interl={int(bool(self.fields))}:flags=bicubic:out_color_matrix={matrix}:out_range={color_range}"
        graph.link_nodes(
            graph.add_buffer(
                width=self.size[0],
                height=self.size[1],
                format=av.VideoFormat("bgr24"),
                time_base=Fraction(1, FRAME_RATE),
            ),
            graph.add("setfield", self.fields or "prog"),
            graph.add("scale", scale),
            graph.add("format", self.pixel_format),
            graph.add("setfield", flagged or "prog"),
            graph.add("buffersink"),
        ).configure()
        return graph


@contextmanager
def _priority_kept() -> Iterator[None]:
    """Restore the priority of this thread, which the AV1 encoder of a process of root makes a real-time one.

    All processes started later would inherit it, a local Ray among them, and keep every other process from running.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def picture(time: int, size: tuple[int, int] = (96, 80)) -> np.ndarray:
    """Draw the patches in two rows of four, and the bar over the middle half of the height."""
    width, height = size
    pixels = PATCHES[np.arange(height)[:, None] * 2 // height, np.arange(width)[None, :] * 4 // width]
    x = bar_at(time, width)
    pixels[height // 4 : 3 * height // 4, x : x + BAR] = 255
    return pixels


def bar_at(time: int, width: int) -> int:
    return (4 + STEP * time) % (width - 2 * BAR)


def patches_of(pixels: np.ndarray) -> np.ndarray:
    """Return the mean colour inside each patch (row, column, colour), above or below the bar's rows."""
    height, width = pixels.shape[:2]
    margin = height // 16
    bands = pixels[margin : height // 4 - margin], pixels[3 * height // 4 + margin : height - margin]
    edges = [(column * width // 4 + width // 16, (column + 1) * width // 4 - width // 16) for column in range(4)]
    return np.array([[band[:, start:stop].reshape(-1, 3).mean(0) for start, stop in edges] for band in bands])


def bar_in(pixels: np.ndarray) -> int:
    """Find the bar: the columns that are brightest in their darkest channel."""
    height = pixels.shape[0]
    rows = pixels[height // 4 + height // 16 : 3 * height // 4 - height // 16].min(2).mean(0)
    return int(np.convolve(rows, np.ones(BAR), "valid").argmax())


def grey(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
