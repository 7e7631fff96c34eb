"""Draw matched clips: query frames above, support frames below, tuples as lines, patches as outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hcl.errors import StorageError
from hcl.files.atomic import write_atomically
from hcl.matching.explain import PairMatch, explain_pair, patch_boxes
from hcl.models.features import ClipFeatures

_SIDE, _GAP, _MARGIN, _BETWEEN, _TITLE = 168, 10, 16, 96, 56  # pixels
_PAPER, _INK, _SOFT = (255, 255, 255), (48, 36, 28), (130, 115, 100)  # BGR
_RANKS = ((209, 127, 47), (0, 123, 224), (119, 158, 31), (157, 85, 194), (214, 111, 139))  # distinct for most readers
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Panel:
    """Describe the picture of one pair of clips.

    Attributes:
        title, figures: two lines of text above it.
        query, support: frames (frame, row, column, 3) as RGB bytes, as the model gets them.
        grid: number of rows and columns of patches.
    """

    title: str
    figures: str
    query: np.ndarray
    support: np.ndarray
    match: PairMatch
    grid: tuple[int, int]


def pair_panels(
    query: ClipFeatures,
    support: ClipFeatures,
    frames: tuple[np.ndarray, np.ndarray],
    *,
    title: str,
    figures: str,
    grid: tuple[int, int],
    matching: Mapping[str, Any],
) -> list[Panel]:
    """Return the panels of one pair of clips, one for each tuple size.

    Args:
        frames: frames of the query and of the support clip, as in `Panel`.
        matching: the keyword arguments of `hcl.evaluation.scores.score_pairs`.
    """
    kinds = {name: matching[name] for name in ("tuple_sizes", "top_tuples", "top_patches", "zoom_ranks")}
    matches = explain_pair(query, support, **kinds)
    return [
        Panel(title + (f", tuples of {size}" if len(matches) > 1 else ""), figures, *frames, match, grid)
        for size, match in matches.items()
    ]


def draw(panels: Sequence[Panel], *, heading: str, n_lines: int = 3) -> np.ndarray:
    """Return the panels below each other, (row, column, 3) as BGR bytes.

    The outline of a patch is stronger the more of the zoomed tuples kept it, relative to the other patches of its clip.
    Lines join the frames of the best `n_lines` tuples, a colour for each, with their similarities in the second line.
    """
    drawn = [_panel(panel, n_lines) for panel in panels]
    width = max(image.shape[1] for image in drawn)
    return np.concatenate([_heading(heading, width), *(_widened(image, width) for image in drawn)])


def write_picture(path: Path, image: np.ndarray) -> Path:
    """Write an image as PNG. Raises StorageError if it cannot be encoded."""
    return write_atomically(path, _encoded(".png", image, []))


def small_picture(image: np.ndarray, *, width: int = 1100, quality: int = 72) -> bytes:
    """Return an image as WebP, at most `width` pixels wide, for a page that holds several.

    Raises StorageError likewise.
    """
    if image.shape[1] > width:
        height = round(image.shape[0] * width / image.shape[1])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return _encoded(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])


def _encoded(ending: str, image: np.ndarray, settings: list[int]) -> bytes:
    encoded, content = cv2.imencode(ending, image, settings)
    if not encoded:
        raise StorageError(f"a picture of {image.shape[1]} x {image.shape[0]} cannot be encoded", where=ending)
    return content.tobytes()


def _panel(panel: Panel, n_lines: int) -> np.ndarray:
    n_frames = len(panel.query)
    width = 2 * _MARGIN + n_frames * _SIDE + (n_frames - 1) * _GAP
    image = np.full((_TITLE + 2 * _SIDE + _BETWEEN + 2 * _MARGIN, width, 3), _PAPER, np.uint8)
    _write(image, panel.title, 24, _INK, 0.62)
    _write(image, panel.figures, 46, _SOFT, 0.48)
    above, below = _TITLE, _TITLE + _SIDE + _BETWEEN
    rows = ((above, panel.query, panel.match.query_patches), (below, panel.support, panel.match.support_patches))
    for top, frames, shares in rows:
        strengths = shares / max(float(shares.max()), 1e-9)
        for index, frame in enumerate(frames):
            left = _left(index)
            image[top : top + _SIDE, left : left + _SIDE] = _outlined(frame, strengths[index], panel.grid)
            cv2.rectangle(image, (left, top), (left + _SIDE - 1, top + _SIDE - 1), _SOFT, 1)
    _lines(image, panel.match, n_lines, above + _SIDE, below)
    return image


def _outlined(frame: np.ndarray, strengths: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return a frame with its kept patches outlined, the strongest on top, and with the others dimmed."""
    image = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    boxes = [tuple(round(share * _SIDE) for share in box) for box in patch_boxes(*grid, len(strengths))]
    kept = np.zeros((_SIDE, _SIDE, 1), np.float32)
    for (x, y, width, height), strength in zip(boxes, strengths, strict=True):
        kept[y : y + height, x : x + width] = np.maximum(kept[y : y + height, x : x + width], strength > 0)
    image = (image * (0.45 + 0.55 * kept) + 255 * 0.25 * (1 - kept)).clip(0, 255).astype(np.uint8)
    for index in np.argsort(strengths, kind="stable"):
        strength = float(strengths[index])
        if strength > 0:
            x, y, width, height = boxes[index]
            colour = (0, int(220 * (1 - strength)), 255)  # yellow to red
            corner = (x + width - 2, y + height - 2)
            cv2.rectangle(image, (x + 1, y + 1), corner, colour, 1 + round(2 * strength), cv2.LINE_AA)
    return image


def _lines(image: np.ndarray, match: PairMatch, n_lines: int, top: int, bottom: int) -> None:
    for rank, pair in reversed(list(enumerate(match.tuples[: min(n_lines, len(_RANKS))]))):
        shift = (rank - (n_lines - 1) / 2) * 14  # ranks side by side
        for query_frame, support_frame in zip(pair.query, pair.support, strict=True):
            ends = [(round(_left(frame) + _SIDE / 2 + shift), y) for frame, y in
                    ((query_frame, top + 6), (support_frame, bottom - 6))]  # fmt: skip
            cv2.line(image, ends[0], ends[1], _RANKS[rank], 2 + (rank == 0), cv2.LINE_AA)
            for end in ends:
                cv2.circle(image, end, 5, _RANKS[rank], -1, cv2.LINE_AA)
        x = image.shape[1] - _MARGIN - 84 * (min(n_lines, len(match.tuples)) - rank)
        label = f"{rank + 1}: {pair.similarity:.2f}"
        cv2.putText(image, label, (x, _TITLE - 10), _FONT, 0.48, _RANKS[rank], 1, cv2.LINE_AA)


def _heading(text: str, width: int) -> np.ndarray:
    image = np.full((44, width, 3), _PAPER, np.uint8)
    _write(image, text, 28, _INK, 0.66)
    return image


def _write(image: np.ndarray, text: str, y: int, colour: tuple[int, int, int], scale: float) -> None:
    """Write one line of text; OpenCV's letters are ASCII, so others are written as escapes."""
    plain = text.encode("ascii", "backslashreplace").decode()
    shown = "".join(character if character.isprintable() else "?" for character in plain)
    while shown and cv2.getTextSize(shown, _FONT, scale, 1)[0][0] > image.shape[1] - 2 * _MARGIN:
        shown = shown[:-4] + "..." if len(shown) > 4 else ""
    cv2.putText(image, shown, (_MARGIN, y), _FONT, scale, colour, 1, cv2.LINE_AA)


def _left(index: int) -> int:
    return _MARGIN + index * (_SIDE + _GAP)


def _widened(image: np.ndarray, width: int) -> np.ndarray:
    missing = width - image.shape[1]
    return cv2.copyMakeBorder(image, 0, 0, 0, missing, cv2.BORDER_CONSTANT, value=_PAPER)
