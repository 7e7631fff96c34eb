"""Define the actions of the synthetic benchmark: twin classes that show the same frames in opposite order.

For each video a family draws the content (object, place and extent, all independent of the class) and returns a painter
of its phase, from 0 to 1. One class of a pair of twins plays the phase forwards, the other backwards, so that twins
cannot be distinguished by a single frame, nor by the frames without their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from hcl.synthetic.drawing import BOX, DISC, Image, Stage, contrasting, heading, panel, polygon, rotation, stamp

Painter = Callable[[Image, float], None]
Family = Callable[[Stage], Painter]


def _travel(direction_x: float, direction_y: float) -> Family:
    """Move one object on a straight line."""

    def family(stage: Stage) -> Painter:
        body, radius = stage.body(), stage.draw(0.09, 0.15)
        way = np.array([direction_x, direction_y]) * stage.draw(0.48, 0.62)
        centre = np.array(
            [stage.within(abs(way[0]) / 2 + 1.15 * radius), stage.within(abs(way[1]) / 2 + 1.15 * radius)]
        )
        return lambda frame, phase: stamp(frame, body, centre + way * (phase - 0.5), radius)

    return family


def _zigzag(stage: Stage) -> Painter:
    body, radius, swing, way = stage.body(), stage.draw(0.08, 0.11), stage.draw(0.21, 0.29), stage.draw(0.55, 0.65)
    side, x, y = stage.side(), stage.within(swing + 1.15 * radius), stage.within(way / 2 + 1.15 * radius)

    def paint(frame: Image, phase: float) -> None:
        wave = 1 - 4 * abs((phase * 1.5) % 1 - 0.5)  # one and a half waves: it ends at the other side
        stamp(frame, body, np.array([x + side * swing * wave, y + way * (phase - 0.5)]), radius)

    return paint


def _door(stage: Stage) -> Painter:
    """Open a panel on a hinge at a random side towards the viewer, seen from the front."""
    body, side, width, height = stage.body(), stage.side(), stage.draw(0.34, 0.46), stage.draw(0.5, 0.66)
    x, y = stage.within(width / 2 + 0.08), stage.within(height / 2 + 0.12)
    hinge, inside = x - side * width / 2, contrasting(stage.rng, body.colour)

    def paint(frame: Image, phase: float) -> None:
        polygon(frame, BOX * [width / 2 + 0.025, height / 2 + 0.025] + [x, y], body.mark)
        polygon(frame, BOX * [width / 2, height / 2] + [x, y], inside)
        swing = math.radians(4 + 82 * phase)
        edge, nearer = hinge + side * width * math.cos(swing), 0.09 * math.sin(swing)
        top, bottom = y - height / 2, y + height / 2
        panel(frame, body, np.array([[hinge, top], [edge, top - nearer], [edge, bottom + nearer], [hinge, bottom]]))
        knob = hinge + (edge - hinge) * 0.82
        polygon(frame, DISC * 0.03 + [knob, y], body.mark)

    return paint


def _jaw(stage: Stage) -> Painter:
    """Open two wedges on one pivot, like a beak, in a random direction."""
    body, aim, length = stage.body(), stage.draw(0, 2 * math.pi), stage.draw(0.48, 0.6)
    pivot = np.array([0.5, 0.5]) - heading(aim) * length / 2 + stage.rng.uniform(-0.06, 0.06, 2)
    wedge = np.array([[0, 0], [0.12, -0.34], [0.55, -0.3], [1, 0]]) * length

    def paint(frame: Image, phase: float) -> None:
        for side in (1, -1):
            angle = aim - side * math.radians(1 + 47 * phase)
            panel(frame, body, (wedge * [1, side]) @ rotation(angle) + pivot, angle)
        polygon(frame, DISC * 0.05 + pivot, body.mark)

    return paint


def _grow(stage: Stage) -> Painter:
    body, small, large = stage.body(), stage.draw(0.05, 0.08), stage.draw(0.26, 0.36)
    centre = stage.place(0.36)
    return lambda frame, phase: stamp(frame, body, centre, small + (large - small) * phase)


def _stretch(stage: Stage) -> Painter:
    body, side, long, axis = stage.body(), stage.draw(0.09, 0.13), stage.draw(2.8, 3.4), stage.side()
    centre = stage.place(0.42)

    def paint(frame: Image, phase: float) -> None:
        factor = 0.8 + (long - 0.8) * phase
        stamp(frame, body, centre, side, stretch=(factor, 1.0) if axis > 0 else (1.0, factor))

    return paint


def _circle(stage: Stage) -> Painter:
    body, radius, orbit = stage.body(), stage.draw(0.08, 0.12), stage.draw(0.23, 0.31)
    start, sweep, centre = stage.draw(0, 2 * math.pi), stage.draw(1.6, 2.1) * math.pi, stage.place(0.43)
    return lambda frame, phase: stamp(frame, body, centre + heading(start + sweep * phase) * orbit, radius)


def _rotate(stage: Stage) -> Painter:
    body, radius, sweep = stage.body(), stage.draw(0.22, 0.32), stage.draw(1.3, 1.9) * math.pi
    centre = stage.place(0.38)
    return lambda frame, phase: stamp(frame, body, centre, radius, turn=sweep * phase)


def _approach(stage: Stage) -> Painter:
    first, second, radius = stage.body(), stage.body(), stage.draw(0.075, 0.11)
    axis, centre, far = heading(stage.draw(0, 2 * math.pi)), stage.place(0.46), stage.draw(0.3, 0.36)

    def paint(frame: Image, phase: float) -> None:
        distance = far + (radius * 1.15 - far) * phase
        stamp(frame, first, centre - axis * distance, radius)
        stamp(frame, second, centre + axis * distance, radius)

    return paint


def _merge(stage: Stage) -> Painter:
    """Merge three to five equal pieces into one object."""
    body, radius, n_pieces = stage.body(), stage.draw(0.06, 0.09), int(stage.rng.integers(3, 6))
    start, centre, far = stage.draw(0, 2 * math.pi), stage.place(0.44), stage.draw(0.29, 0.35)

    def paint(frame: Image, phase: float) -> None:
        for piece in range(n_pieces):
            direction = heading(start + 2 * math.pi * piece / n_pieces)
            stamp(frame, body, centre + direction * far * (1 - phase), radius * (1 + 0.9 * phase))

    return paint


def _brighten(stage: Stage) -> Painter:
    """Brighten the whole scene, with an object at rest."""
    body, radius, centre = stage.body(), stage.draw(0.15, 0.28), stage.place(0.32)
    dark, bright = stage.draw(0.15, 0.25), stage.draw(1.0, 1.15)

    def paint(frame: Image, phase: float) -> None:
        stamp(frame, body, centre, radius)
        light = dark + (bright - dark) * phase
        frame[:] = cv2.convertScaleAbs(frame, alpha=light, beta=35 * light)

    return paint


def _appear(stage: Stage) -> Painter:
    body, radius, centre = stage.body(), stage.draw(0.15, 0.28), stage.place(0.32)
    return lambda frame, phase: stamp(frame, body, centre, radius, alpha=phase)


def _cover(stage: Stage) -> Painter:
    """Slide an object behind a screen, along a random axis."""
    body, screen, radius, side = stage.body(), stage.body(), stage.draw(0.1, 0.13), stage.side()
    upright, cross = stage.rng.random() < 0.5, stage.draw(0.34, 0.66)
    half, way = np.array([0.19, 0.27]), stage.draw(0.42, 0.5)
    hidden = 0.5 + side * 0.24

    def paint(frame: Image, phase: float) -> None:
        at, behind = np.array([hidden - side * way * (1 - phase), cross]), np.array([hidden, cross])
        stamp(frame, body, at[::-1] if upright else at, radius)
        panel(frame, screen, BOX * (half[::-1] if upright else half) + (behind[::-1] if upright else behind))

    return paint


def _jump_slide(stage: Stage) -> Painter:
    """Jump on the spot, then slide to a random side; backwards the slide comes first."""
    body, radius, side, way = stage.body(), stage.draw(0.09, 0.13), stage.side(), stage.draw(0.45, 0.6)
    height, x, ground = stage.draw(0.36, 0.46), stage.within(way / 2 + 1.15 * radius), stage.draw(0.72, 0.84)

    def paint(frame: Image, phase: float) -> None:
        rise, run = min(2 * phase, 1.0), max(2 * phase - 1, 0.0)
        up = height * 4 * rise * (1 - rise)
        stamp(frame, body, np.array([x + side * way * (run - 0.5), ground - up]), radius)

    return paint


def _pendulum(stage: Stage) -> Painter:
    """Swing one and a half times, starting at the left."""
    body, radius, length = stage.body(), stage.draw(0.09, 0.12), stage.draw(0.5, 0.62)
    reach, pivot = math.radians(stage.draw(34, 42)), np.array([stage.draw(0.46, 0.54), stage.draw(0.06, 0.16)])

    def paint(frame: Image, phase: float) -> None:
        angle = math.pi / 2 + reach * math.cos(3 * math.pi * phase)  # a greater angle is further to the left
        rod = np.array([[0, -0.012], [length, -0.012], [length, 0.012], [0, 0.012]])
        polygon(frame, rod @ rotation(angle) + pivot, body.mark)
        stamp(frame, body, pivot + heading(angle) * length, radius, turn=angle)

    return paint


TWINS: dict[str, tuple[tuple[str, str, Family], ...]] = {
    # Each entry is (class that plays the phase forwards, class that plays it backwards, family).
    # Every family of val and test has a similar one in train (down and right, jaw and door), but no equal motion.
    "train": (
        ("left_to_right", "right_to_left", _travel(1, 0)),
        ("diagonal_down_right", "diagonal_up_left", _travel(0.9, 0.9)),
        ("zigzag_down", "zigzag_up", _zigzag),
        ("open_door", "close_door", _door),
        ("grow", "shrink", _grow),
        ("circle_clockwise", "circle_counterclockwise", _circle),
        ("approach", "part", _approach),
        ("brighten", "darken", _brighten),
        ("jump_then_slide", "slide_then_jump", _jump_slide),
        ("pendulum_from_left", "pendulum_from_right", _pendulum),
    ),
    "val": (
        ("diagonal_up_right", "diagonal_down_left", _travel(0.9, -0.9)),
        ("merge", "split", _merge),
        ("cover", "uncover", _cover),
    ),
    "test": (
        ("top_to_bottom", "bottom_to_top", _travel(0, 1)),
        ("open_jaw", "close_jaw", _jaw),
        ("stretch", "squeeze", _stretch),
        ("rotate_clockwise", "rotate_counterclockwise", _rotate),
        ("appear", "vanish", _appear),
    ),
}
