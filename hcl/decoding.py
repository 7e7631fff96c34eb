"""One video file to JPEGs in a folder, through OpenCV, one frame in memory at a time."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from hcl.manifest import VideoRecord


def options_digest(*, short_side: int = 256, quality: int = 90, max_frames: int | None = None) -> str:
    """Names the settings that frames depend on; a change of the way frames are made changes the leading number."""
    return hashlib.sha256(json.dumps([1, short_side, quality, max_frames]).encode()).hexdigest()[:12]


def decode_into(
    folder: Path, source: Path, record: VideoRecord, short_side: int, quality: int, max_frames: int | None
) -> VideoRecord:
    """Write frames as they come and say what came. Raises OSError where a frame cannot be written."""
    # FFmpeg by name: OpenCV would otherwise try other backends, one of which reads names with % as numbered images.
    # One thread: what FFmpeg makes of damaged data depends on its number of threads.
    capture = cv2.VideoCapture(str(source), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    n_frames, n_bytes, size, note = 0, 0, (0, 0), ""
    try:
        if not capture.isOpened():
            problem = "not a video, or in no format that OpenCV reads" if record.source_bytes else "the file is empty"
            return replace(record, status="broken", error=problem)
        fps, n_promised = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        while n_frames != max_frames:
            is_read, frame = capture.read()
            if not is_read:
                break
            size = size if n_frames else _stored_size(frame, short_side)
            encoded = _encoded(frame, size, quality)
            (folder / f"{n_frames}.jpg").write_bytes(encoded)
            n_frames, n_bytes = n_frames + 1, n_bytes + len(encoded)
    except (cv2.error, MemoryError) as error:
        note = f"decoding failed after {n_frames} frames: {error}"
    finally:
        capture.release()
    if n_frames == max_frames:
        note = f"stopped at max_frames={max_frames}"
    elif not note and n_frames < 0.95 * n_promised - 1:  # containers promise one or two too many
        note = f"{n_frames} frames could be decoded, the file promises {n_promised:.0f}"
    if not n_frames:
        return replace(record, status="broken", error=note or "no frame could be decoded")
    fps = round(fps, 3) if math.isfinite(fps) and fps > 0 else 0.0
    return replace(
        record, status="ok", n_frames=n_frames, fps=fps, width=size[0], height=size[1], n_bytes=n_bytes, error=note
    )


def _stored_size(frame: np.ndarray, short_side: int) -> tuple[int, int]:
    """(width, height) of a frame whose shorter side is brought down to `short_side` pixels."""
    height, width = frame.shape[:2]
    scale = min(1.0, short_side / min(height, width)) if short_side else 1.0
    return max(1, round(width * scale)), max(1, round(height * scale))


def _encoded(frame: np.ndarray, size: tuple[int, int], quality: int) -> bytes:
    """One JPEG. Where the resolution changes within a video, later frames take the first one's size."""
    if (frame.shape[1], frame.shape[0]) != size:
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
