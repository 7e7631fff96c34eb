"""Choose a camera for a video: from one of three sides, and so that it sees the gripper and what moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hcl.synthetic.metaworld.motion import Span
from hcl.synthetic.metaworld.rollout import Rejected, Trajectory
from hcl.synthetic.metaworld.stage import HEIGHT, WIDTH, Camera, Stage

_SIDES = {
    # side: (azimuths, elevations) in degrees
    "right": ((112, 182), (-50, -20)),
    "left": ((-2, 68), (-50, -20)),
    "high": ((55, 125), (-80, -55)),
}
_SHARES = (0.5, 0.25, 0.25)
_HALF_WIDTH = 0.414  # what a camera of MuJoCo sees to either side, at a distance of 1
_DISTANCES = (0.5, 1.35)  # metres
_DRAWS = 8
_GOOD_OBJECT, _GOOD_GRIPPER = 25, 50  # pixels, at each looked-at step
_LEAST_OBJECT, _LEAST_GRIPPER = 10, 15
_MOST_ROBOT = 0.35  # share of the frame


@dataclass(frozen=True)
class View:
    """Hold a camera with what it sees of the action.

    Attributes:
        n_object, n_gripper: fewest pixels of the moved objects and of the gripper at the looked-at steps.
        most_object: most pixels of the moved objects.
        robot: largest share of the frame that the robot covers.
    """

    side: str
    camera: Camera
    n_object: int
    n_gripper: int
    most_object: int
    robot: float

    def is_good(self, *, has_moved: bool) -> bool:
        sees_object = not has_moved or self.n_object >= _GOOD_OBJECT
        return sees_object and self.n_gripper >= _GOOD_GRIPPER and self.robot < _MOST_ROBOT

    def is_usable(self, *, has_moved: bool) -> bool:
        return self.n_gripper >= _LEAST_GRIPPER and (not has_moved or self.most_object >= _LEAST_OBJECT)

    def merit(self, *, has_moved: bool) -> float:
        pixels = min(self.n_object, 40) * has_moved + min(self.n_gripper, 80)
        return pixels - 200 * max(0.0, self.robot - _MOST_ROBOT)


def choose_view(rng: np.random.Generator, stage: Stage, trajectory: Trajectory, span: Span, moved: list[int]) -> View:
    """Draw cameras until one of them is good, at most eight, and return the view with the highest merit.

    Raises:
        Rejected: no view shows the gripper and what moves.
    """
    has_moved = bool(moved)
    views: list[View] = []
    while len(views) < _DRAWS and not (views and views[-1].is_good(has_moved=has_moved)):
        side, camera = _draw_camera(rng, span)
        views.append(_look(stage, trajectory, span, moved, side, camera))
    best = max(views, key=lambda view: view.merit(has_moved=has_moved))
    if not best.is_usable(has_moved=has_moved):
        raise Rejected(f"no camera sees enough: {best.n_gripper} pixels of the gripper, {best.most_object} of objects")
    return best


def _draw_camera(rng: np.random.Generator, span: Span) -> tuple[str, Camera]:
    side = tuple(_SIDES)[int(rng.choice(len(_SIDES), p=_SHARES))]
    drawn = {
        name: (rng.uniform(*azimuths), rng.uniform(*elevations)) for name, (azimuths, elevations) in _SIDES.items()
    }
    point = span.focus + rng.normal(0, 0.03, 3)
    distance = (span.spread + 0.13) / _HALF_WIDTH * rng.uniform(0.85, 1.25)
    azimuth, elevation = drawn[side]
    return side, Camera(azimuth, elevation, float(np.clip(distance, *_DISTANCES)), point)


def _look(stage: Stage, trajectory: Trajectory, span: Span, moved: list[int], side: str, camera: Camera) -> View:
    """Count what a camera sees at the start of the action, half-way to success, and just after it."""
    is_moved = stage.is_object & np.isin(stage.model.geom_bodyid, moved)
    steps = min(span.action, span.last), (span.action + span.success) // 2, min(span.success + 2, span.last)
    masks = is_moved, stage.is_gripper, stage.is_robot
    counts = []
    for step in steps:
        stage.show(trajectory, step)
        pixels = stage.visible_geoms(camera)
        counts.append([int(pixels[mask].sum()) for mask in masks])
    n_object, n_gripper, n_robot = zip(*counts, strict=True)
    return View(side, camera, min(n_object), min(n_gripper), max(n_object), robot=max(n_robot) / (WIDTH * HEIGHT))
