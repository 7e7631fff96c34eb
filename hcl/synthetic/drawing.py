"""Draw the scenes of the synthetic benchmark: five visual domains, random bodies, anti-aliased polygons.

Coordinates are shares of the frame's side, x to the right and y downwards; angles are radians, clockwise on screen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

Image = np.ndarray[Any, np.dtype[np.uint8]]  # (height, width, 3)
Points = np.ndarray[Any, np.dtype[np.float64]]  # (point, 2)

DOMAINS = ("plain", "textured", "cluttered", "dim", "shaky")


@dataclass(frozen=True)
class Body:
    """Hold the appearance of an object; `outline` has radius 1, `mark` is the colour of its off-centre dot."""

    outline: Points
    colour: tuple[int, int, int]
    mark: tuple[int, int, int]
    angle: float
    texture: Image | None


@dataclass(frozen=True)
class Stage:
    """Draw a family's random parameters from the video's generator, in the style of its domain."""

    rng: np.random.Generator
    size: int
    background: tuple[int, int, int]
    textured: bool

    def draw(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def side(self) -> int:
        return 1 if self.rng.random() < 0.5 else -1

    def within(self, reach: float) -> float:
        """Draw a coordinate at least `reach` from both borders, or return the middle if that is impossible."""
        return self.draw(min(reach, 0.5), max(1 - reach, 0.5))

    def place(self, margin: float) -> Points:
        return self.rng.uniform(margin, 1 - margin, 2)

    def body(self) -> Body:
        colour = contrasting(self.rng, self.background)
        texture = noise_texture(self.rng, self.size, colour, 36) if self.textured else None
        outline = OUTLINES[int(self.rng.integers(len(OUTLINES)))]
        return Body(outline, colour, contrasting(self.rng, colour), self.draw(0, 2 * math.pi), texture)


def scenery(domain: str, rng: np.random.Generator, size: int) -> tuple[Image, Stage]:
    """Draw the background of a video of this domain, and return it with the stage of its action."""
    blue, green, red = (int(value) for value in rng.integers(30, 226, 3))
    colour = (blue, green, red)
    if domain in ("textured", "shaky"):
        background = noise_texture(rng, size, colour, 30 if domain == "textured" else 14)
    else:
        background = np.full((size, size, 3), colour, np.uint8)
    if domain == "cluttered":
        for _ in range(int(rng.integers(6, 11))):
            body = Stage(rng, size, colour, textured=False).body()
            muted = (np.array(colour) * 0.6 + np.array(body.colour) * 0.4).astype(int)
            outline = body.outline * rng.uniform(0.05, 0.13) + rng.uniform(0, 1, 2)
            polygon(background, outline, (int(muted[0]), int(muted[1]), int(muted[2])))
    return background, Stage(rng, size, colour, textured=domain == "textured")


def filmed(domain: str, frames: Image, rng: np.random.Generator) -> Image:
    """Apply the domain's camera to drawn frames (frame, height, width, 3): dim them, shake them, or change nothing."""
    if domain == "dim":
        noise = rng.standard_normal((*frames.shape[:3], 1), dtype=np.float32) * 5
        return np.clip(frames * np.float32(0.3) + (noise + 14), 0, 255).astype(np.uint8)
    return _shaken(frames, rng) if domain == "shaky" else frames


def contrasting(rng: np.random.Generator, other: tuple[int, int, int]) -> tuple[int, int, int]:
    """Draw a colour that differs clearly from `other` in brightness, so that it stays visible in the dim domain."""
    candidates = rng.integers(0, 256, (16, 3))
    difference = np.abs((candidates - np.array(other)) @ np.array([0.114, 0.587, 0.299]))
    enough = np.flatnonzero(difference > 85)
    blue, green, red = candidates[enough[0] if len(enough) else int(difference.argmax())]
    return int(blue), int(green), int(red)


def noise_texture(rng: np.random.Generator, size: int, colour: tuple[int, int, int], swing: float) -> Image:
    """Draw smooth noise of about six blobs a side around a colour; `swing` is its deviation in grey levels."""
    coarse = rng.standard_normal((8, 8, 1)) * 0.8 + rng.standard_normal((8, 8, 3)) * 0.4
    fine = cv2.resize(coarse.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.array(colour) + fine * swing, 0, 255).astype(np.uint8)


def polygon(frame: Image, points: Points, colour: tuple[int, int, int]) -> None:
    """Fill an anti-aliased polygon, placed to a sixteenth of a pixel."""
    fixed = np.round((points * frame.shape[0] - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(frame, [fixed], colour, cv2.LINE_AA, 4)


def panel(frame: Image, body: Body, points: Points, angle: float = 0.0) -> None:
    """Fill a polygon with the body's colour or texture; the texture moves and turns with the polygon."""
    if body.texture is None:
        polygon(frame, points, body.colour)
        return
    size = frame.shape[0]
    x, y = points[0] * size
    cos, sin = math.cos(angle), math.sin(angle)
    centre = (cos * size / 2 - sin * size / 2, sin * size / 2 + cos * size / 2)
    to_frame = np.array([[cos, -sin, x - centre[0]], [sin, cos, y - centre[1]]])
    texture = cv2.warpAffine(body.texture, to_frame, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    mask = np.zeros_like(frame)
    polygon(mask, points, (255, 255, 255))
    blend(frame, texture, mask)


def blend(frame: Image, over: np.ndarray[Any, Any], mask: Image) -> None:
    """Blend `over` into the frame in place, weighted by the mask (255 replaces the frame)."""
    share = mask.astype(np.float32) * (1 / 255)
    frame[:] = np.rint(frame + (over.astype(np.float32) - frame) * share).astype(np.uint8)


def stamp(
    frame: Image,
    body: Body,
    centre: Points,
    radius: float,
    *,
    turn: float = 0.0,
    stretch: tuple[float, float] = (1.0, 1.0),
    alpha: float = 1.0,
) -> None:
    """Draw a body. It turns by `turn` first; `stretch` then scales it along x and y."""
    if alpha < 1:
        solid = frame.copy()
        stamp(solid, body, centre, radius, turn=turn, stretch=stretch)
        frame[:] = cv2.addWeighted(solid, alpha, frame, 1 - alpha, 0)
        return
    angle = body.angle + turn
    matrix = rotation(angle) * np.array(stretch) * radius
    panel(frame, body, body.outline @ matrix + centre, angle)
    polygon(frame, (DISC * 0.26 + [0.5, 0]) @ matrix + centre, body.mark)


def rotation(angle: float) -> Points:
    """Return the matrix that rotates row vectors clockwise on screen."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])


def heading(angle: float) -> Points:
    return np.array([math.cos(angle), math.sin(angle)])


def _shaken(frames: Image, rng: np.random.Generator) -> Image:
    """Move each whole frame by a few pixels and zoom it by a few per cent, smoothly in time."""
    n_frames, size = len(frames), frames.shape[1]
    steps = rng.standard_normal((n_frames + 2, 3))
    shake = 0.25 * steps[:-2] + 0.5 * steps[1:-1] + 0.25 * steps[2:]
    shaken = np.empty_like(frames)
    for frame, out, (x, y, nearer) in zip(frames, shaken, shake, strict=True):
        zoom = 1.03 + 0.025 * nearer
        offset = size / 2 * (1 - zoom)
        matrix = np.array([[zoom, 0, offset + 0.045 * size * x], [0, zoom, offset + 0.045 * size * y]])
        cv2.warpAffine(frame, matrix, (size, size), dst=out, borderMode=cv2.BORDER_REFLECT_101)
    return shaken


def _regular(n_points: int, inner: float = 1.0) -> Points:
    angles = np.arange(n_points) * 2 * np.pi / n_points
    radius = np.where(np.arange(n_points) % 2, inner, 1.0)[:, None]
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius


DISC = _regular(24)
BOX = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
OUTLINES = (DISC, _regular(3) * 1.15, BOX * 0.85, _regular(6), _regular(10, 0.55) * 1.15, BOX * [1.1, 0.65])
