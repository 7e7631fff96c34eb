"""Compare pictures that OpenCV returned with PyAV's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import cv2

from hcl.videos.pyav_reader import decoded, opened, picture_of
from hcl.videos.reader import Picture, Unreadable

TOLERANCE = 2.0
"""Maximum mean difference of two pictures of one frame, in levels of 255. With the FFmpeg of the tested versions they
are equal; other versions may round differently. Uninitialised memory, a wrong rotation and a wrong colour conversion
differ by more than ten."""


class FrameCheck:
    """Decode a video in parallel to OpenCV, up to the frame to compare. Raises Unreadable."""

    def __init__(self, source: Path):
        self._source = source
        # FFmpeg decodes a part of most files to complete their headers, which takes half of the time of a first frame.
        # Without it, frames may be in the wrong order, or no video be found; the file is then opened again.
        self._is_hasty = True
        try:
            self._open(probesize="32")
        except Unreadable:
            self._open_anew()

    def shows(self, index: int, picture: Picture) -> bool:
        """Return true if frame `index` looks like the picture. Indices must not decrease.

        The result is False for interlaced frames, which OpenCV does not convert: a still one may equal the previous.
        """
        if self._shows(index, picture):
            return True
        if not self._is_hasty:
            return False
        self.close()
        self._open_anew()
        return self._shows(index, picture)

    def close(self) -> None:
        self._container.close()

    def _open(self, **options: str) -> None:
        self._container, stream = opened(self._source, **options)
        self._frames: Iterator[av.VideoFrame] = decoded(self._container, stream)
        self._frame: av.VideoFrame | None = None
        self._index = -1

    def _open_anew(self) -> None:
        self._is_hasty = False
        self._open()

    def _shows(self, index: int, picture: Picture) -> bool:
        while self._index < index:
            self._frame = next(self._frames, None)
            if self._frame is None:
                return False
            self._index += 1
        if self._frame is None or self._frame.interlaced_frame:
            return False
        try:
            shown = picture_of(self._frame)
        except Unreadable:
            return False
        return picture.shape == shown.shape and cv2.norm(picture, shown, cv2.NORM_L1) <= TOLERANCE * shown.size
