"""Draw things that lie on the table away from the action: up to four, which are seen and take no part."""

from __future__ import annotations

import numpy as np

from hcl.synthetic.metaworld.rollout import Trajectory
from hcl.synthetic.metaworld.stage import Body, Stage

_TABLE = ((-0.55, 0.55), (0.32, 0.92))  # metres, x and y
_FROM_PATH = 0.16  # metres between a thing and the path of the tool or of a moved object
_FROM_OBJECTS = 0.05  # metres between a thing and the surroundings of an object


def draw_clutter(rng: np.random.Generator, stage: Stage, trajectory: Trajectory, moved: list[int]) -> list[Body]:
    """Draw things at places that are free in the state that the stage shows."""
    paths = [trajectory.tool[:, :2], *(trajectory.positions[:, body, :2] for body in moved)]
    path = np.concatenate(paths)
    objects = stage.data.geom_xpos[stage.is_object][:, :2]
    radii = np.minimum(stage.model.geom_rbound[stage.is_object], 0.35)

    def is_free(place: np.ndarray) -> bool:
        if np.linalg.norm(path - place, axis=1).min() <= _FROM_PATH:
            return False
        return not len(objects) or bool((np.linalg.norm(objects - place, axis=1) - radii).min() > _FROM_OBJECTS)

    bodies = []
    for _ in range(int(rng.integers(0, 5))):
        for _ in range(20):
            place = np.array([rng.uniform(*_TABLE[0]), rng.uniform(*_TABLE[1])])
            if is_free(place):
                bodies.append(_draw_body(rng, place))
                break
    return bodies


def _draw_body(rng: np.random.Generator, place: np.ndarray) -> Body:
    import mujoco

    kinds = mujoco.mjtGeom
    kind = (kinds.mjGEOM_BOX, kinds.mjGEOM_CYLINDER, kinds.mjGEOM_ELLIPSOID, kinds.mjGEOM_SPHERE)[int(rng.integers(4))]
    size = rng.uniform(0.018, 0.06, 3)
    if kind == kinds.mjGEOM_SPHERE:
        size[:] = size[0]
    half_height = size[1] if kind == kinds.mjGEOM_CYLINDER else size[2]
    angle = rng.uniform(0, np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([cos, -sin, 0, sin, cos, 0, 0, 0, 1])
    colour = np.append(rng.uniform(0.05, 0.95, 3), 1).astype(np.float32)
    return Body(kind, size, np.array([*place, half_height]), rotation, colour)
