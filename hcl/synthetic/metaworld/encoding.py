"""Write frames as a video file: VP9 in webm, H.264 in mp4 or MPEG-4 in avi.

OpenCV's wheels have no encoder of H.264, hence PyAV.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

FPS = 12


@dataclass(frozen=True)
class Encoder:
    """Describe how the files of one container are encoded, and the share of all files."""

    container: str
    codec: str
    share: float
    options: dict[str, str]
    bit_rate: int | None = None
    tag: str | None = None


ENCODERS = {
    ".webm": Encoder("webm", "libvpx-vp9", 0.5, {"crf": "29", "b": "0", "deadline": "good", "cpu-used": "6"}),
    # With AVX-512, x264's macroblock tree now and then gives other bytes for the same frames.
    ".mp4": Encoder("mp4", "libx264", 0.3, {"crf": "24", "preset": "medium", "x264-params": "mbtree=0"}),
    ".avi": Encoder("avi", "mpeg4", 0.2, {"mbd": "rd"}, bit_rate=190_000, tag="XVID"),
}


def draw_container(rng: np.random.Generator) -> str:
    """Draw the suffix of a video file."""
    shares = [encoder.share for encoder in ENCODERS.values()]
    return tuple(ENCODERS)[int(rng.choice(len(ENCODERS), p=shares))]


def write_video(path: Path, frames: np.ndarray[Any, Any], suffix: str) -> None:
    """Encode frames, uint8 (frame, height, width, 3) in red, green, blue, in the container of a suffix.

    The file holds neither a time nor a random number, so that one processor writes the same bytes each time.
    """
    encoder = ENCODERS[suffix]
    with av.open(str(path), "w", format=encoder.container, options={"fflags": "+bitexact"}) as file:
        stream: Any = file.add_stream(encoder.codec, rate=FPS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        if encoder.tag:
            stream.codec_context.codec_tag = encoder.tag
        if encoder.bit_rate:
            stream.bit_rate = encoder.bit_rate
        stream.codec_context.options = encoder.options
        stream.codec_context.thread_count = 1  # the same bytes however many CPUs there are
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
