"""Draw how a video looks: colours of the objects and the robot, textures of the room, the sky and the lights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from hcl.synthetic.metaworld.stage import Stage, texture_pictures

_COLOURED = 0.75  # probability that an object's material gets another colour
_ROOM = (("T_table", 0.75), ("T_floor", 0.75), ("T_wallmetal", 0.6))  # texture, probability of another picture


@dataclass(frozen=True)
class Looks:
    """Hold what was drawn: whether the robot has other colours and a light casts shadows, and textures by surface."""

    robot: bool = False
    shadows: bool = False
    textures: dict[str, str] = field(default_factory=dict)


def draw_looks(rng: np.random.Generator, stage: Stage) -> Looks:
    """Give the scene other colours, textures and lights, starting from Meta-World's own."""
    stage.reset_looks()
    _colour_objects(rng, stage)
    is_robot_coloured = _colour_robot(rng, stage)
    textures = _cover_room(rng, stage)
    _draw_sky(rng, stage)
    return Looks(is_robot_coloured, _draw_lights(rng, stage), textures)


def _colour_objects(rng: np.random.Generator, stage: Stage) -> None:
    """Turn the hue of each material that only objects have, and of each of their parts without a material."""
    model = stage.model
    materials = set(model.geom_matid[stage.is_object].tolist()) - set(model.geom_matid[~stage.is_object].tolist())
    plain = np.flatnonzero(stage.is_object & (model.geom_matid < 0))
    colours = [model.mat_rgba[material] for material in sorted(materials - {-1})]
    for colour in (*colours, *(model.geom_rgba[geom] for geom in plain)):
        if rng.random() < _COLOURED:
            turn, saturation, value = rng.uniform(-180, 180), rng.uniform(0.6, 1.4), rng.uniform(0.7, 1.3)
            colour[:3] = _turned(colour[:3], turn, saturation, value)


def _colour_robot(rng: np.random.Generator, stage: Stage) -> bool:
    if rng.random() >= 0.6:
        return False
    turn, saturation, value = rng.uniform(-180, 180), rng.uniform(0, 0.95), rng.uniform(0.6, 1.9)
    for geom in np.flatnonzero(stage.is_robot & (stage.model.geom_matid < 0)):
        colour = stage.model.geom_rgba[geom]
        colour[:3] = _turned(colour[:3], turn, saturation, value)
    return True


def _cover_room(rng: np.random.Generator, stage: Stage) -> dict[str, str]:
    drawn = {}
    for surface, probability in _ROOM:
        if surface in stage.textures and rng.random() < probability:
            pictures = texture_pictures()
            drawn[surface], picture = pictures[int(rng.integers(len(pictures)))]
            tinted = np.float32(picture) * rng.uniform(0.6, 1.2) * rng.uniform(0.88, 1.12, 3)
            stage.set_texture(stage.textures[surface], np.clip(tinted, 0, 255).astype(np.uint8))
    return drawn


def _draw_sky(rng: np.random.Generator, stage: Stage) -> None:
    if stage.skies:
        grey, swing = rng.uniform(50, 220), rng.uniform(0, 35)
        colour = grey + rng.uniform(-1, 1, 3) * 45
        clouds = cv2.resize(rng.normal(0, 1, (12, 2, 3)).astype(np.float32), (32, 192), interpolation=cv2.INTER_CUBIC)
        stage.set_texture(stage.skies[0], np.clip(colour + swing * clouds, 0, 255).astype(np.uint8))


def _draw_lights(rng: np.random.Generator, stage: Stage) -> bool:
    """Draw brightness, tint and direction of each light; return whether one of them casts shadows."""
    model = stage.model
    for light in range(model.nlight):
        brightness, tint = rng.uniform(0.4, 1.7), rng.uniform(0.9, 1.1, 3)
        model.light_diffuse[light] = stage.original["light_diffuse"][light] * brightness * tint
        direction = stage.original["light_dir"][light] + rng.normal(0, 0.35, 3)
        direction[2] = -abs(direction[2]) - 0.2
        model.light_dir[light] = direction / np.linalg.norm(direction)
    model.light_castshadow[:] = 0
    shadows = bool(rng.random() < 0.35)
    if shadows:
        model.light_castshadow[min(1, model.nlight - 1)] = 1
    stage.scale_headlight(rng.uniform(0.7, 1.3), rng.uniform(0.7, 1.3))
    return shadows


def _turned(colour: Any, turn: float, saturation: float, value: float) -> np.ndarray[Any, Any]:
    """Return a colour (red, green, blue from 0 to 1) with its hue turned by degrees, and the rest scaled."""
    pixel = cv2.cvtColor(np.float32(colour).reshape(1, 1, 3), cv2.COLOR_RGB2HSV)[0, 0]
    pixel[0] = (pixel[0] + turn) % 360
    pixel[1] = np.clip(pixel[1] * saturation, 0, 1)
    pixel[2] = np.clip(pixel[2] * value, 0.05, 1)
    return cv2.cvtColor(pixel.reshape(1, 1, 3), cv2.COLOR_HSV2RGB)[0, 0]
