"""Read a video with OpenCV, and compare doubtful frames with PyAV's.

OpenCV converts each decoded frame to blue, green and red with libswscale, in one buffer for all frames of a video, and
does not check the result. libswscale refuses frames that are flagged as interlaced, and unknown colour formats.
`VideoCapture.retrieve` then reports success and returns the old content of the buffer: uninitialised memory or the
previous frame.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import cv2

from hcl.videos.reader import Distrusted, Picture, Unreadable, VideoHeader
from hcl.videos.reader_check import FrameCheck

_NEVER_INTERLACED = ("VP80", "VP90")
"""Codecs, by OpenCV's names, for which libswscale converts either all frames or none."""


class OpenCVFrames:
    """Read the frames of a video, and verify that OpenCV has converted each of them.

    The first frame is always compared with PyAV's, which costs a few milliseconds. A later frame that OpenCV failed to
    convert equals the previous one; therefore equal frames, and frames of another size, are compared too. In
    compressed videos equal frames are rare even with a still camera.
    For codecs of which all frames or none are converted, the first frame needs no comparison: two different frames
    prove that all are.

    Raises:
        Distrusted: any method raises it if OpenCV reads nothing, or frames that differ from PyAV's.
    """

    decoder: ClassVar[str] = "opencv"

    def __init__(self, source: Path):
        # The backend is named, because OpenCV would try others, one of which reads names with % as numbered images.
        # With one thread, because FFmpeg's output for damaged data depends on the number of threads.
        self._capture = cv2.VideoCapture(str(source), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # rotate as the metadata say
        if not self._capture.isOpened():
            raise Distrusted
        self.header = self._read_header()
        self._source = source
        self._check: FrameCheck | None = None
        self._is_certain = False  # the buffer holds a right frame, so that a failed conversion repeats it
        self._index = -1
        self._picture: Picture | None = None  # of the current frame, after its first request
        self._last: Picture | None = None  # the last requested picture
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
        """Return true if PyAV decodes the same picture for frame `index`."""
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
    """Compare two pictures of the same size, the middle row first because it costs under a hundredth of the rest."""
    middle = one.shape[0] // 2
    return one[middle].tobytes() == other[middle].tobytes() and cv2.norm(one, other, cv2.NORM_INF) == 0


def _fourcc(code: float) -> str:
    """Return a FourCC as text; unprintable characters are written as [number], as FFmpeg does."""
    if not 0 < code < 2**32:
        return ""
    letters = int(code).to_bytes(4, "little")
    return "".join(chr(letter) if 33 <= letter <= 126 else f"[{letter}]" for letter in letters)
