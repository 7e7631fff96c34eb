"""Write the video files of the synthetic benchmark in three containers, and check each by reading it back."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from hcl.errors import DataError
from hcl.synthetic.drawing import Image

CONTAINERS = {".mp4": "mp4v", ".avi": "MJPG", ".webm": "VP80"}
FPS = 12


def write_video(path: Path, frames: Image) -> bool:
    """Encode frames (frame, height, width, 3) in the container of the suffix.

    Returns:
        True if the file was written and yields the same number of frames when it is read back.
    """
    height, width = frames.shape[1:3]
    fourcc = cv2.VideoWriter.fourcc(*CONTAINERS[path.suffix])
    with _quiet_ffmpeg():
        writer = cv2.VideoWriter(str(path), cv2.CAP_ANY, fourcc, FPS, (width, height))
    if not writer.isOpened():
        return False
    for frame in frames:
        writer.write(frame)
    writer.release()
    return count_frames(path) == len(frames)


def count_frames(path: Path) -> int:
    """Return the number of frames that can be decoded, because the count in a header may be wrong."""
    reader = cv2.VideoCapture(str(path))
    n_frames = 0
    while reader.read()[0]:
        n_frames += 1
    reader.release()
    return n_frames


def usable_containers(folder: Path) -> dict[str, str]:
    """Return the suffix to write for each suffix of CONTAINERS: itself, unless this OpenCV build lacks its encoder.

    A warning reports each replacement.

    Raises:
        DataError: none of the encoders works.
    """
    usable = []
    for suffix in CONTAINERS:
        trial = folder / f".trial-{os.getpid()}{suffix}"
        try:
            if write_video(trial, np.zeros((4, 32, 32, 3), np.uint8)):
                usable.append(suffix)
        finally:
            trial.unlink(missing_ok=True)
    if not usable:
        raise DataError(
            f"OpenCV {cv2.__version__} as built here writes none of {', '.join(CONTAINERS)}",
            where="cv2.VideoWriter",
            remedy="install opencv-python-headless from PyPI, which brings its encoders",
        )
    for suffix in CONTAINERS:
        if suffix not in usable:
            instead = f"{CONTAINERS[usable[0]]} in {usable[0]}"
            warnings.warn(
                f"OpenCV {cv2.__version__} as built here cannot write {CONTAINERS[suffix]} in {suffix}: "
                f"these videos are written as {instead}",
                stacklevel=2,
            )
    return {suffix: suffix if suffix in usable else usable[0] for suffix in CONTAINERS}


@contextmanager
def _quiet_ffmpeg() -> Iterator[None]:
    """Suppress OpenCV's output while it opens a writer: it warns of VP80 in webm, but writes it correctly."""
    try:
        stderr = os.dup(2)
    except OSError:  # the process has no stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
