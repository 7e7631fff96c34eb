"""What the two decoders have in common: `opencv_frames` and `pyav_frames` both read a video as `VideoFrames`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from jaxtyping import UInt8

Picture = UInt8[np.ndarray, "height width 3"]
"""One frame as it is shown, turned as the metadata say; blue, green, red."""


@dataclass(frozen=True)
class VideoHeader:
    """The header of a video file, which need not be true."""

    fps: float = 0.0  # 0: it does not say
    n_frames: int = 0  # 0: it does not say
    n_pixels: int = 0  # of one frame
    codec: str = ""
    pixel_format: str = ""
    rotation: int = 0  # degrees clockwise


class Unreadable(Exception):
    """The file, or the rest of it, cannot be decoded; the text is the reason."""


class Distrusted(Exception):
    """OpenCV reads nothing, or something that is not the picture of the video. Carries what it says of the header."""

    def __init__(self, header: VideoHeader | None = None):
        super().__init__("OpenCV does not read this video correctly")
        self.header = header


class VideoFrames(Protocol):
    """The frames of one open video, from the first on; decoded one after the other, made pixels where they are asked
    for."""

    decoder: ClassVar[str]
    header: VideoHeader

    @staticmethod
    def version() -> str:
        """Return the version of the decoder's package."""

    def advance(self) -> bool:
        """Go to the next frame; False at the end of what can be decoded."""

    @property
    def milliseconds(self) -> float:
        """The time of the present frame; NaN if it has none."""

    def picture(self) -> Picture:
        """Return the present frame."""

    def verify(self) -> None:
        """Make sure of the pictures that were returned so far; to be called after the last one."""

    def close(self) -> None: ...
