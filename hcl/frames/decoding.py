"""Decode a video into JPEGs in a folder, with one frame in memory at a time.

OpenCV decodes. If it cannot read a file or reads it wrongly (`hcl.videos.opencv_reader`), PyAV decodes the whole file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from hcl.datasets.manifest import VideoRecord
from hcl.videos.jpegs import FrameWriter
from hcl.videos.opencv_reader import OpenCVFrames
from hcl.videos.pyav_reader import PyAVFrames
from hcl.videos.reader import Distrusted, Picture, Unreadable, VideoFrames, VideoHeader

MAX_PIXELS = 2**26
"""Maximum pixels of a frame (8K has half as many); a header with more counts as damage before memory is allocated."""


@dataclass(frozen=True)
class FrameOptions:
    """Hold the options of extraction. `short_side` is in pixels, 0 keeps the size; `n_frames` None keeps all frames."""

    short_side: int = 256
    quality: int = 90  # JPEG quality, 1 to 100
    n_frames: int | None = None  # this many, spread evenly over the video

    @property
    def digest(self) -> str:
        """Return a digest of the options; the leading number changes when extraction itself changes."""
        return hashlib.sha256(json.dumps([2, self.short_side, self.quality, self.n_frames]).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Probe:
    """Hold the decoder that reads a video's first frame, or the problem if none does."""

    decoder: str
    decoder_version: str
    problem: str = ""


def segment_centres(n_available: int, n_frames: int) -> list[int]:
    """Return the middle frame of each of n_frames equal segments in order; all frames if there are no more."""
    if n_available <= n_frames:
        return list(range(n_available))
    return [(2 * segment + 1) * n_available // (2 * n_frames) for segment in range(n_frames)]


def decode_into(folder: Path, source: Path, record: VideoRecord, options: FrameOptions) -> VideoRecord:
    """Write the frames of a video as `<n>.jpg`, n from 0, and return the completed record.

    Evenly spaced frames require the number of frames, which headers may get wrong: it is taken from the header and
    checked by decoding to the end; if the choice of frames differs with the right number, the video is decoded again.

    Args:
        folder: an empty folder.
    Raises:
        OSError: a frame cannot be written.
    """
    try:
        return _decode_by(OpenCVFrames, folder, source, record, options)
    except Distrusted as reason:
        header = reason.header
    for path in folder.iterdir():
        path.unlink()
    try:
        return _decode_by(PyAVFrames, folder, source, record, options, header)
    except Unreadable as reason:
        problem = str(reason) if record.source_bytes else "the file is empty"
        return replace(_by(PyAVFrames, record), status="broken", error=problem)


def probe(source: Path) -> Probe:
    """Decode the first frame of a video as `decode_into` does, and return the decoder or the problem."""
    for frames_of in (OpenCVFrames, PyAVFrames):
        try:
            with closing(frames_of(source)) as frames:
                problem = _problem_with(frames.header)
                if not problem and frames.advance():
                    frames.picture()
                    frames.verify()
                elif not problem:
                    problem = "no frame could be decoded"
                return Probe(frames_of.decoder, frames_of.version(), problem)
        except Distrusted:
            continue
        except Unreadable as reason:
            return Probe(PyAVFrames.decoder, PyAVFrames.version(), str(reason))
    raise AssertionError("the last decoder returns or raises Unreadable")


def _decode_by(
    frames_of: Callable[[Path], VideoFrames],
    folder: Path,
    source: Path,
    record: VideoRecord,
    options: FrameOptions,
    header: VideoHeader | None = None,
) -> VideoRecord:
    """Decode by one decoder. `header` is the header that OpenCV read; the record takes its values from there."""
    with closing(frames_of(source)) as frames:
        header = header or frames.header
        record = replace(
            _by(frames, record),
            fps=header.fps,
            codec=header.codec,
            pixel_format=header.pixel_format,
            rotation=header.rotation,
        )
        if problem := _problem_with(frames.header):
            return replace(record, status="broken", error=problem)
        writer, clock = FrameWriter(folder, options.short_side, options.quality), _Clock()
        wanted = None if options.n_frames is None else segment_centres(header.n_frames, options.n_frames)
        n_decoded, note = _walk(frames, wanted, writer.write, clock)
    if options.n_frames and (right := segment_centres(n_decoded, options.n_frames)) != wanted:
        writer = writer.anew()
        with closing(frames_of(source)) as frames:
            _walk(frames, right, writer.write, _Clock(), stop=right[-1] + 1 if right else 0)
    if not note and n_decoded < 0.95 * header.n_frames - 1:  # containers often announce one or two too many
        note = f"{n_decoded} frames could be decoded, the file promises {header.n_frames}"
    if not writer.n_frames:
        return replace(record, status="broken", error=note or "no frame could be decoded")
    return replace(
        record,
        status="ok",
        n_frames=writer.n_frames,
        n_decoded=n_decoded,
        width=writer.size[0],
        height=writer.size[1],
        n_bytes=writer.n_bytes,
        digest=writer.digest.hexdigest(),
        checksums="".join(writer.checksums),
        variable_rate=clock.is_variable,
        error=note,
    )


def _by(frames: VideoFrames | type[VideoFrames], record: VideoRecord) -> VideoRecord:
    return replace(record, decoder=frames.decoder, decoder_version=frames.version())


def _problem_with(header: VideoHeader) -> str:
    too_large = header.n_pixels > MAX_PIXELS
    return f"the header claims frames of {header.n_pixels:.0f} pixels" if too_large else ""


def _walk(
    frames: VideoFrames,
    wanted: Collection[int] | None,
    keep: Callable[[Picture], None],
    clock: _Clock,
    stop: int | None = None,
) -> tuple[int, str]:
    """Decode frame after frame and pass the wanted ones (None: all) to `keep`; the others are not turned into pixels.

    Returns:
        The number of frames, and the problem that stopped decoding before the end ("" without one).
    """
    chosen = None if wanted is None else frozenset(wanted)
    n_frames = 0
    try:
        while n_frames != stop and frames.advance():
            clock.tick(frames.milliseconds)
            if chosen is None or n_frames in chosen:
                keep(frames.picture())
            n_frames += 1
        frames.verify()
    except Unreadable as error:
        return n_frames, f"decoding failed after {n_frames} frames: {error}"
    return n_frames, ""


class _Clock:
    """Detect times between frames that vary by more than the rounding of a container's clock."""

    def __init__(self) -> None:
        self.last, self.total, self.n = math.nan, 0.0, 0
        self.shortest, self.longest = math.inf, 0.0

    def tick(self, milliseconds: float) -> None:
        if (step := milliseconds - self.last) > 0:  # excludes the first frame and timestamps that go back
            self.total, self.n = self.total + step, self.n + 1
            self.shortest, self.longest = min(self.shortest, step), max(self.longest, step)
        self.last = milliseconds

    @property
    def is_variable(self) -> bool:
        """Return true if steps differ by over a quarter; rounding to 1 or 10 ms is less at 60 or 6 frames a second."""
        return self.n > 1 and self.longest - self.shortest > 0.25 * self.total / self.n
