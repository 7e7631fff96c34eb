"""Find what moves in a trajectory, which of its steps become frames, and what the camera looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hcl.synthetic.metaworld.rollout import Trajectory

MIN_FRAMES, MAX_FRAMES = 24, 36

_SETTLED = 3  # steps; things settle after a reset
_MOVED = 0.008  # metres
_TURNED = 0.08  # radians


@dataclass(frozen=True)
class Span:
    """Name the part of a trajectory that a video shows.

    Attributes:
        frames: the step of each frame.
        action: the step at which the action starts.
        success: the step at which it has succeeded.
        focus: the point that the camera looks at, in metres.
        spread: how far from it the tool moves, in metres.
    """

    frames: np.ndarray[Any, Any]
    action: int
    success: int
    focus: np.ndarray[Any, Any]
    spread: float

    @property
    def first(self) -> int:
        return int(self.frames[0])

    @property
    def last(self) -> int:
        return int(self.frames[-1])


def moved_bodies(model: Any, trajectory: Trajectory) -> tuple[list[int], int | None]:
    """Return the ids of the bodies, apart from the robot, that move, and the step at which the first of them starts."""
    robot = model.body("base").id
    free = np.array(
        [b for b in range(1, model.nbody) if model.body_rootid[b] != robot and model.body_mocapid[b] < 0], dtype=int
    )
    if not len(free):
        return [], None
    positions, rotations = trajectory.positions[:, free], trajectory.rotations[:, free]
    distance = np.linalg.norm(positions - positions[_SETTLED], axis=-1)
    angle = 2 * np.arccos(np.abs((rotations * rotations[_SETTLED]).sum(-1)).clip(0, 1))
    motion = np.maximum(distance / _MOVED, angle / _TURNED)
    motion[:_SETTLED] = 0
    steps = np.flatnonzero(motion.max(1) > 1)
    return [int(b) for b in free[motion.max(0) > 1]], int(steps[0]) if len(steps) else None


def draw_span(rng: np.random.Generator, trajectory: Trajectory, moved: list[int], start: int | None) -> Span:
    """Draw where a video begins, how many frames it has and how its tempo changes.

    Args:
        moved, start: what `moved_bodies` returns. Without a body that moves before success, the action is taken to
            start after six tenths of the way to success.
    """
    success, last = trajectory.success, len(trajectory) - 1
    action = start if start is not None and start < success else int(success * 0.6)
    first = round(action * rng.uniform(0.0, 0.6))
    n_frames = int(np.clip(round((last - first) / rng.uniform(2.2, 3.6)), MIN_FRAMES, MAX_FRAMES))
    time = np.linspace(0, 1, n_frames)
    time = time + rng.uniform(-0.06, 0.06) * np.sin(2 * np.pi * time)
    frames = np.clip(np.round(first + time * (last - first)), first, last).astype(int)
    shown = trajectory.tool[first : last + 1]
    focus = shown[max(0, action - first) :].mean(0)
    if moved:
        centre = trajectory.positions[action : last + 1][:, moved].mean((0, 1))
        if np.linalg.norm(centre - focus) < 0.35:
            focus = 0.6 * focus + 0.4 * centre
    spread = float(np.percentile(np.linalg.norm(shown - focus, axis=1), 85))
    return Span(frames, action, success, focus, spread)
