"""Define `VideoFrames`, the common interface of the two decoders `opencv_reader` and `pyav_reader`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from jaxtyping import UInt8

Picture = UInt8[np.ndarray, "height width 3"]
"""One frame as displayed, rotated as the metadata say; channels blue, green, red."""


@dataclass(frozen=True)
class VideoHeader:
    """Hold the header of a video file, whose values may be wrong."""

    fps: float = 0.0  # 0: unknown
    n_frames: int = 0  # 0: unknown
    n_pixels: int = 0  # of one frame
    codec: str = ""
    pixel_format: str = ""
    rotation: int = 0  # degrees clockwise


class Unreadable(Exception):
    """Report that a file, or the rest of it, cannot be decoded; the text is the reason."""


class Distrusted(Exception):
    """Report that OpenCV reads nothing or wrong pictures; the exception carries the header that OpenCV read."""

    def __init__(self, header: VideoHeader | None = None):
        super().__init__("OpenCV does not read this video correctly")
        self.header = header


class VideoFrames(Protocol):
    """Define the interface of an open video: frames are decoded in order, and converted to pixels on request."""

    decoder: ClassVar[str]
    header: VideoHeader

    @staticmethod
    def version() -> str:
        """Return the version of the decoder's package."""

    def advance(self) -> bool:
        """Decode the next frame; return False after the last frame that can be decoded."""

    @property
    def milliseconds(self) -> float:
        """Return the time of the current frame; NaN if it has none."""

    def picture(self) -> Picture:
        """Return the current frame."""

    def verify(self) -> None:
        """Verify the pictures that were returned; call it after the last one."""

    def close(self) -> None: ...
