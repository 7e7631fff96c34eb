"""Make the small pictures of a prediction: a clip that plays, and a query's match with a support clip."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from hcl.assembly import arguments
from hcl.config import Experiment
from hcl.errors import StorageError
from hcl.files.atomic import write_atomically
from hcl.models.features import ClipFeatures
from orchestration.evaluation.drawing import draw, pair_panels, small_picture

_SIDE = 144  # pixels
_FRAME_MS = 220
_QUALITY = 55

Frames = UInt8[np.ndarray, "frame 3 side side"]
"""Frames as the model sees them, in RGB."""


def write_animation(path: Path, frames: Frames) -> None:
    """Write the frames of a clip as a WebP that plays for ever. Raises StorageError if it cannot be written."""
    animation = cv2.Animation()
    animation.frames = [_small(frame) for frame in _last(frames)]
    animation.durations = [_FRAME_MS] * (len(frames) - 1) + [3 * _FRAME_MS]
    encoded, content = cv2.imencodeanimation(".webp", animation, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    if not encoded:
        raise StorageError("the frames of a clip cannot be encoded", where=str(path))
    write_atomically(path, content.tobytes(), sync=False)


def write_match(
    path: Path,
    query: ClipFeatures,
    support: ClipFeatures,
    frames: tuple[Frames, Frames],
    *,
    grid: tuple[int, int],
    title: str,
    experiment: Experiment,
) -> None:
    """Draw the matched tuples and patches of a query and a support clip, for the first tuple size.

    Args:
        query, support: features of one clip each.
        frames: frames of the query and of the support clip.
        grid: rows and columns of patches.

    Raises:
        StorageError: the picture cannot be written.
    """
    matching = arguments.test_matching(experiment)
    shown = (np.ascontiguousarray(_last(frames[0])), np.ascontiguousarray(_last(frames[1])))
    panels = pair_panels(query, support, shown, title=title, figures="", grid=grid, matching=matching)
    image = draw(panels[:1], heading="query above, support clip below")
    write_atomically(path, small_picture(image, width=980, quality=62), sync=False)


def _last(frames: Frames) -> np.ndarray:
    """Return frames with the channels last."""
    return frames.transpose(0, 2, 3, 1)


def _small(frame: np.ndarray) -> np.ndarray:
    side = min(_SIDE, frame.shape[0])
    resized = cv2.resize(np.ascontiguousarray(frame), (side, side), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(resized, cv2.COLOR_RGB2BGR)
