"""Draw contact sheets of a video or a class: its frames, the sampled frames, and augmented views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from hcl.clips.dataset import ClipDataset, Draw, Frames
from hcl.datasets.splits import Video
from hcl.files.atomic import write_atomically

Image = UInt8[np.ndarray, "_ _ 3"]
"""Height, width, RGB."""

CELL, GAP, COLUMNS = 120, 6, 8  # pixels of a picture's side, pixels between pictures, pictures in a row
MARK, PAPER, INK = (214, 96, 30), (255, 255, 255), (40, 40, 40)
MAX_FRAMES = 4 * COLUMNS
"""Maximum number of frames shown of a video; of longer videos, evenly spread frames and all sampled ones."""


@dataclass
class RecordingFrames:
    """Read frames through the wrapped store, and record the indices of the last request."""

    frames: Frames
    last: list[int] = field(default_factory=list)

    def n_frames(self, video: Video) -> int:
        return self.frames.n_frames(video)

    def read(self, video: Video, indices: Sequence[int], **options: Any) -> np.ndarray:
        self.last = list(indices)
        return self.frames.read(video, indices, **options)


def video_sheet(frames: RecordingFrames, test: ClipDataset, training: ClipDataset, *, n_views: int, seed: int) -> Image:
    """Draw the first video of two data sets over `frames`: its frames, its test view and training views.

    Frames of the test view have a coloured border and show their position in the clip.

    Args:
        n_views: number of training views, drawn as in training with this seed.
    """
    video = test.videos[0]
    clip = _pictures(test[Draw(0)])
    sampled, n = list(frames.last), frames.n_frames(video)
    spread = {int((index + 0.5) * n / MAX_FRAMES) for index in range(MAX_FRAMES)} if n > MAX_FRAMES else range(n)
    shown = sorted({*spread, *sampled})
    captions = [_caption(index, sampled) for index in shown]
    pictures = [_fitted(frame) for frame in frames.frames.read(video, shown)]
    count = f"{n} frames" if len(shown) == n else f"{len(shown)} of {n} frames"
    parts = [
        _heading(video.key, large=True),
        _heading(f"{count}; in colour those of the test view, with their place in the clip"),
        *_grid(pictures, captions, [index in sampled for index in shown]),
        _heading("test: what the model sees"),
        *_grid(clip, [str(index) for index in sampled], [False] * len(clip)),
    ]
    for view in range(n_views):
        pictures = _pictures(training[Draw(0, (seed, view))])
        parts += [
            _heading(f"training, view {view + 1}"),
            *_grid(pictures, [str(index) for index in frames.last], [False] * len(pictures)),
        ]
    return _stacked(parts)


def class_sheet(title: str, frames: RecordingFrames, test: ClipDataset) -> Image:
    """Draw the test view of each video of a data set over `frames`, one below the other."""
    parts = [_heading(title, large=True)]
    for index, video in enumerate(test.videos):
        pictures = _pictures(test[Draw(index)])
        parts += [
            _heading(f"{video.name}: {frames.n_frames(video)} frames"),
            *_grid(pictures, [str(number) for number in frames.last], [False] * len(pictures)),
        ]
    return _stacked(parts)


def write_png(path: Path, image: Image) -> Path:
    """Write an image as PNG. Raises StorageError."""
    is_encoded, content = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not is_encoded:
        raise RuntimeError(f"OpenCV cannot write an image of shape {image.shape}")
    return write_atomically(path, content.tobytes())


def _caption(index: int, sampled: Sequence[int]) -> str:
    places = [str(place + 1) for place, frame in enumerate(sampled) if frame == index]  # short videos repeat frames
    return f"{index} ({', '.join(places)} of {len(sampled)})" if places else str(index)


def _pictures(clip: Any) -> list[Image]:
    return [_fitted(frame) for frame in clip.permute(0, 2, 3, 1).numpy()]  # to channels last


def _fitted(frame: Image) -> Image:
    """Resize the frame so that its longer side fills a cell."""
    height, width = frame.shape[:2]
    scale = CELL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _grid(pictures: Sequence[Image], captions: Sequence[str], is_marked: Sequence[bool]) -> list[Image]:
    """Arrange pictures in rows with their captions below them."""
    return [
        _row(pictures[start:stop], captions[start:stop], is_marked[start:stop])
        for start, stop in ((start, start + COLUMNS) for start in range(0, len(pictures), COLUMNS))
    ]


def _row(pictures: Sequence[Image], captions: Sequence[str], is_marked: Sequence[bool]) -> Image:
    highest = max(picture.shape[0] for picture in pictures)
    row = _paper(highest + 24)
    for place, (picture, caption, marked) in enumerate(zip(pictures, captions, is_marked, strict=True)):
        height, width = picture.shape[:2]
        left = GAP + place * (CELL + GAP)
        row[3 : 3 + height, left : left + width] = picture
        if marked:
            cv2.rectangle(row, (left - 2, 1), (left + width + 1, height + 4), MARK, 3)
        _write(row, caption, (left, highest + 19), MARK if marked else INK, 0.4)
    return row


def _heading(text: str, *, large: bool = False) -> Image:
    strip = _paper(34 if large else 24)
    _write(strip, text, (GAP, 24 if large else 17), INK, 0.65 if large else 0.45)
    return strip


def _write(image: Image, text: str, place: tuple[int, int], colour: tuple[int, int, int], scale: float) -> None:
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)


def _paper(height: int) -> Image:
    return np.full((height, GAP + COLUMNS * (CELL + GAP), 3), PAPER, np.uint8)


def _stacked(parts: Sequence[Image]) -> Image:
    return np.concatenate([*parts, _paper(GAP)])
