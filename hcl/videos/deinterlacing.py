"""Interlaced frames to pictures, by FFmpeg's filter `bwdif`.

An interlaced frame holds two pictures, half a frame's time apart: the even rows are of the one, the odd rows of the
other. The filter keeps the rows of the one that comes first and fills in the others from them and the frames around.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import av

_MIN_SIDE = 4  # pixels; the filter takes no smaller frames


def deinterlaced(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Yield as many frames in the same order; those that are not flagged as interlaced stay as they are.

    The flag is of each frame, for streams that switch; what a container says of its fields is not asked.
    """
    field_filter: _FieldFilter | None = None
    for frame in frames:
        if field_filter is not None and not field_filter.takes(frame):
            yield from field_filter.rest()
            field_filter = None
        if field_filter is None and _has_fields(frame):
            field_filter = _FieldFilter(frame)
        if field_filter is None:
            yield frame
        else:
            yield from field_filter.filtered(frame)
    if field_filter is not None:
        yield from field_filter.rest()


class _FieldFilter:
    """The filter for frames of one size and format. It holds back one frame, since it looks at the next one."""

    def __init__(self, frame: av.VideoFrame):
        self._kind = _kind(frame)
        self._graph = av.filter.Graph()
        self._graph.threads = 1
        self._graph.link_nodes(
            self._graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=frame.time_base or Fraction(1, 1000),
            ),
            self._graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
            self._graph.add("buffersink"),
        ).configure()

    def takes(self, frame: av.VideoFrame) -> bool:
        return _kind(frame) == self._kind

    def filtered(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        self._graph.vpush(frame)
        yield from self._ready()

    def rest(self) -> Iterator[av.VideoFrame]:
        self._graph.vpush(None)
        yield from self._ready()

    def _ready(self) -> Iterator[av.VideoFrame]:
        while True:
            try:
                yield self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):  # more frames are needed, or there are none
                return


def _kind(frame: av.VideoFrame) -> tuple[str, int, int]:
    return frame.format.name, frame.width, frame.height


def _has_fields(frame: av.VideoFrame) -> bool:
    return frame.interlaced_frame and min(frame.width, frame.height) >= _MIN_SIDE
