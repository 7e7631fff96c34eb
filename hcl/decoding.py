"""One video file to JPEGs in a folder, through OpenCV, one frame in memory at a time."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from hcl.manifest import VideoRecord

MAX_PIXELS = 2**26
"""Of one frame; a header that claims more (8K has half of it) is taken for damage, before memory is asked for it."""


@dataclass(frozen=True)
class FrameOptions:
    """How frames are made. `short_side` is in pixels, 0 keeps the size; `n_frames` None takes all of a video."""

    short_side: int = 256
    quality: int = 90  # of the JPEGs, 1 to 100
    n_frames: int | None = None  # this many, spread evenly over the video

    @property
    def digest(self) -> str:
        """Names these options; a change of the way frames are made changes the leading number."""
        return hashlib.sha256(json.dumps([2, self.short_side, self.quality, self.n_frames]).encode()).hexdigest()[:12]


def segment_centres(n_available: int, n_frames: int) -> list[int]:
    """The middle frame of each of n_frames equal segments, in order; every frame where there are no more."""
    if n_available <= n_frames:
        return list(range(n_available))
    return [(2 * segment + 1) * n_available // (2 * n_frames) for segment in range(n_frames)]


def decode_into(folder: Path, source: Path, record: VideoRecord, options: FrameOptions) -> VideoRecord:
    """Write the frames of a video as `<n>.jpg`, n from 0, and say what came.

    Frames spread evenly need the number of frames, which headers get wrong: it is taken from the header, checked
    by going on to the video's end, and where it was wrong in a way that matters, the video is gone through again.

    Raises:
        OSError: a frame cannot be written.
    """
    with _opened(source) as capture:
        if not capture.isOpened():
            problem = "not a video, or in no format that OpenCV reads" if record.source_bytes else "the file is empty"
            return replace(record, status="broken", error=problem)
        record, n_promised = _described(capture, record)
        if (n_pixels := capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) > MAX_PIXELS:
            return replace(record, status="broken", error=f"the header claims frames of {n_pixels:.0f} pixels")
        writer, clock = _Writer(folder, options), _Clock()
        wanted = None if options.n_frames is None else segment_centres(n_promised, options.n_frames)
        n_decoded, note = _walk(capture, wanted, writer.write, clock)
    if options.n_frames and (right := segment_centres(n_decoded, options.n_frames)) != wanted:
        writer = writer.anew()
        with _opened(source) as capture:
            _walk(capture, right, writer.write, _Clock(), stop=right[-1] + 1 if right else 0)
    if not note and n_decoded < 0.95 * n_promised - 1:  # containers promise one or two too many
        note = f"{n_decoded} frames could be decoded, the file promises {n_promised}"
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


def frames_digest(frames: Iterable[bytes]) -> str:
    """32 hexadecimal digits that name a video's encoded frames and their order."""
    digest = _new_digest()
    for encoded in frames:
        _add(digest, encoded)
    return digest.hexdigest()


def frame_checksum(encoded: bytes) -> str:
    """Eight hexadecimal digits that tell an encoded frame from a damaged one."""
    return f"{zlib.crc32(encoded):08x}"


@contextmanager
def _opened(source: Path) -> Iterator[cv2.VideoCapture]:
    # FFmpeg by name: OpenCV would otherwise try other backends, one of which reads names with % as numbered images.
    # One thread: what FFmpeg makes of damaged data depends on its number of threads.
    capture = cv2.VideoCapture(str(source), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # turned as the metadata say
    try:
        yield capture
    finally:
        capture.release()


def _described(capture: cv2.VideoCapture, record: VideoRecord) -> tuple[VideoRecord, int]:
    """The record with what the header says, and the number of frames that it promises (0: none)."""
    fps, n_promised = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    record = replace(
        record,
        fps=round(fps, 3) if math.isfinite(fps) and fps > 0 else 0.0,
        codec=_fourcc(capture.get(cv2.CAP_PROP_FOURCC)),
        pixel_format=_fourcc(capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)),
        rotation=int(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360,
    )
    return record, int(n_promised) if math.isfinite(n_promised) and 0 < n_promised < 2**31 else 0


def _walk(
    capture: cv2.VideoCapture,
    wanted: Collection[int] | None,
    keep: Callable[[np.ndarray], None],
    clock: _Clock,
    stop: int | None = None,
) -> tuple[int, str]:
    """Decode frame after frame and keep those wanted (None: all); the others are never turned into pixels.

    Returns:
        The number of frames, and what stopped it, if that was not the end.
    """
    chosen = None if wanted is None else frozenset(wanted)
    n_frames = 0
    try:
        while n_frames != stop and capture.grab():
            clock.tick(capture.get(cv2.CAP_PROP_POS_MSEC))
            if chosen is None or n_frames in chosen:
                is_read, frame = capture.retrieve()
                if not is_read:
                    break
                keep(frame)
            n_frames += 1
    except (cv2.error, MemoryError) as error:
        return n_frames, f"decoding failed after {n_frames} frames: {error}"
    return n_frames, ""


@dataclass
class _Writer:
    """Writes frames into a folder as they come. Where the resolution changes, later ones take the first one's size."""

    folder: Path
    options: FrameOptions
    n_frames: int = 0
    n_bytes: int = 0
    size: tuple[int, int] = (0, 0)  # width, height
    digest: hashlib.blake2b = field(default_factory=lambda: _new_digest())
    checksums: list[str] = field(default_factory=list)

    def write(self, frame: np.ndarray) -> None:
        if not self.n_frames:
            self.size = _stored_size(frame, self.options.short_side)
        small = _resized(frame, self.size)
        encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, self.options.quality])[1].tobytes()
        (self.folder / f"{self.n_frames}.jpg").write_bytes(encoded)
        _add(self.digest, encoded)
        self.checksums.append(frame_checksum(encoded))
        self.n_frames, self.n_bytes = self.n_frames + 1, self.n_bytes + len(encoded)

    def anew(self) -> _Writer:
        """An empty one for the same folder, emptied."""
        for index in range(self.n_frames):
            (self.folder / f"{index}.jpg").unlink()
        return _Writer(self.folder, self.options)


class _Clock:
    """Whether the time between frames varies by more than the rounding of a container's clock."""

    def __init__(self) -> None:
        self.last, self.total, self.n = math.nan, 0.0, 0
        self.shortest, self.longest = math.inf, 0.0

    def tick(self, milliseconds: float) -> None:
        if (step := milliseconds - self.last) > 0:  # neither the first frame nor a clock that was set back
            self.total, self.n = self.total + step, self.n + 1
            self.shortest, self.longest = min(self.shortest, step), max(self.longest, step)
        self.last = milliseconds

    @property
    def is_variable(self) -> bool:
        """Containers round to 1 or 10 ms: at 60 or 6 frames a second that is less than a quarter of a step."""
        return self.n > 1 and self.longest - self.shortest > 0.25 * self.total / self.n


def _stored_size(frame: np.ndarray, short_side: int) -> tuple[int, int]:
    """(width, height) of a frame whose shorter side is brought down to `short_side` pixels."""
    height, width = frame.shape[:2]
    scale = min(1.0, short_side / min(height, width)) if short_side else 1.0
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Halved by averaging while at least twice too large, then linearly: a third of the time of averaging alone at
    the same sharpness, for averaging over a fraction of a pixel costs more than the JPEG that follows."""
    while frame.shape[1] >= 2 * size[0] and frame.shape[0] >= 2 * size[1]:
        frame = cv2.resize(frame, (frame.shape[1] // 2, frame.shape[0] // 2), interpolation=cv2.INTER_AREA)
    if (frame.shape[1], frame.shape[0]) != size:
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
    return frame


def _fourcc(code: float) -> str:
    """Four characters, those that cannot be printed as [number], as FFmpeg writes them."""
    if not 0 < code < 2**32:
        return ""
    letters = int(code).to_bytes(4, "little")
    return "".join(chr(letter) if 33 <= letter <= 126 else f"[{letter}]" for letter in letters)


def _new_digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _add(digest: hashlib.blake2b, encoded: bytes) -> None:
    digest.update(len(encoded).to_bytes(8, "little"))  # so that no byte can move from one frame to the next
    digest.update(encoded)
