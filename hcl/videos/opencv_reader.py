"""Reads a video through OpenCV, and checks against PyAV what OpenCV cannot be trusted with.

OpenCV has libswscale turn each decoded frame into blue, green and red, in one buffer for all frames of a video, and
does not look whether that went well. libswscale refuses frames that are flagged as interlaced, and forms of colour
that it does not know. `VideoCapture.retrieve` then returns success and whatever the buffer holds: memory that nobody
wrote, or the frame before.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import cv2

from hcl.videos.reader import Distrusted, Picture, Unreadable, VideoHeader
from hcl.videos.reader_check import FrameCheck

_NEVER_INTERLACED = ("VP80", "VP90")
"""Codecs, in OpenCV's names, of whose frames libswscale refuses all or none."""


class OpenCVFrames:
    """The frames of a video, each of them known to be written.

    The first is compared with PyAV's, wanted or not, which costs a few milliseconds. From there on a frame that was
    not written shows itself: it equals the one before. One that does, or that has another size, is compared too; in
    compressed videos equal frames are rare even where the camera stood still.
    Where none or all are written, the first needs no comparison: two frames that differ say as much.

    Raises:
        Distrusted: from any method, where OpenCV reads nothing or something else than PyAV.
    """

    decoder: ClassVar[str] = "opencv"

    def __init__(self, source: Path):
        # FFmpeg by name: OpenCV would otherwise try other backends, one of which reads names with % as numbered images.
        # One thread: what FFmpeg makes of damaged data depends on its number of threads.
        self._capture = cv2.VideoCapture(str(source), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # turned as the metadata say
        if not self._capture.isOpened():
            raise Distrusted
        self.header = self._read_header()
        self._source = source
        self._check: FrameCheck | None = None
        self._is_certain = False  # frames were written, so that one that was not equals the one before
        self._index = -1
        self._picture: Picture | None = None  # of the present frame, once it was asked for
        self._last: Picture | None = None  # that was asked for
        self._last_index = -1

    @staticmethod
    def version() -> str:
        return cv2.__version__

    def advance(self) -> bool:
        try:
            if not self._capture.grab():
                if self._index < 0:
                    raise Distrusted(self.header)
                return False
        except cv2.error as error:
            raise Distrusted(self.header) from error
        self._index, self._picture = self._index + 1, None
        if not self._index:
            self.picture()
        return True

    def verify(self) -> None:
        if not self._is_certain and self._last is not None and not self._shows(self._last_index, self._last):
            raise Distrusted(self.header)

    @property
    def milliseconds(self) -> float:
        return self._capture.get(cv2.CAP_PROP_POS_MSEC)

    def picture(self) -> Picture:
        if self._picture is None:
            try:
                is_read, picture = self._capture.retrieve()
            except (cv2.error, MemoryError) as error:
                raise Distrusted(self.header) from error
            if not is_read or not self._is_written(picture):
                raise Distrusted(self.header)
            self._picture = self._last = picture
            self._last_index = self._index
        return self._picture

    def _is_written(self, picture: Picture) -> bool:
        last = self._last
        if last is None:
            is_plain = self.header.codec in _NEVER_INTERLACED and not self.header.rotation
            return is_plain or self._shows(self._index, picture)
        if picture.shape != last.shape or _are_equal(picture, last):
            return self._shows(self._index, picture)
        self._is_certain = True
        return True

    def _shows(self, index: int, picture: Picture) -> bool:
        """Tell whether PyAV has this picture for frame `index`."""
        try:
            self._check = self._check or FrameCheck(self._source)
        except Unreadable:
            return False
        self._is_certain = self._check.shows(index, picture)
        return self._is_certain

    def _read_header(self) -> VideoHeader:
        get = self._capture.get
        fps, n_promised = get(cv2.CAP_PROP_FPS), get(cv2.CAP_PROP_FRAME_COUNT)
        return VideoHeader(
            fps=round(fps, 3) if math.isfinite(fps) and fps > 0 else 0.0,
            n_frames=int(n_promised) if math.isfinite(n_promised) and 0 < n_promised < 2**31 else 0,
            n_pixels=round(get(cv2.CAP_PROP_FRAME_WIDTH) * get(cv2.CAP_PROP_FRAME_HEIGHT)),
            codec=_fourcc(get(cv2.CAP_PROP_FOURCC)),
            pixel_format=_fourcc(get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)),
            rotation=int(get(cv2.CAP_PROP_ORIENTATION_META)) % 360,
        )

    def close(self) -> None:
        self._capture.release()
        if self._check is not None:
            self._check.close()


def _are_equal(one: Picture, other: Picture) -> bool:
    """Compare two pictures of one size. One row tells most apart, for less than a hundredth of the whole."""
    middle = one.shape[0] // 2
    return one[middle].tobytes() == other[middle].tobytes() and cv2.norm(one, other, cv2.NORM_INF) == 0


def _fourcc(code: float) -> str:
    """Four characters, those that cannot be printed as [number], as FFmpeg writes them."""
    if not 0 < code < 2**32:
        return ""
    letters = int(code).to_bytes(4, "little")
    return "".join(chr(letter) if 33 <= letter <= 126 else f"[{letter}]" for letter in letters)
