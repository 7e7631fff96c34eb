"""Deinterlace frames with FFmpeg's filter `bwdif`.

An interlaced frame holds two pictures, half a frame's time apart: the even rows belong to one, the odd rows to the
other. The filter keeps the rows of the first picture and interpolates the others from them and the adjacent frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import av

_MIN_SIDE = 4  # pixels; the filter takes no smaller frames


def deinterlaced(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Yield the same number of frames in the same order; frames that are not flagged as interlaced stay unchanged.

    The flag of each frame decides, because streams may switch; the container's information on fields is ignored.
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
    """Filter frames of one size and format. It delays frames by one, because it needs the next frame."""

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
            except (av.BlockingIOError, av.EOFError):  # it needs more frames, or has reached the end
                return


def _kind(frame: av.VideoFrame) -> tuple[str, int, int]:
    return frame.format.name, frame.width, frame.height


def _has_fields(frame: av.VideoFrame) -> bool:
    return frame.interlaced_frame and min(frame.width, frame.height) >= _MIN_SIDE
