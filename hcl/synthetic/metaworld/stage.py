"""Render the scene of a task with MuJoCo: the parts of the scene, the textures, and the pictures of a camera."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hcl.synthetic.metaworld.meshes import simplify_meshes
from hcl.synthetic.metaworld.rollout import Task, Trajectory

WIDTH, HEIGHT = 160, 120  # pixels of a frame

_TEXTURES = (
    "wood", "wood1", "wood2", "wood3", "wood4", "darkwood", "light_wood", "light_wood_v2", "wood_light", "marble",
    "granite", "navy_blue", "plaster1", "brick1", "floor1", "floor2", "metal1", "metal2",
)  # fmt: skip
_RESTORED = (
    "mat_rgba", "geom_rgba", "light_diffuse", "light_dir", "light_castshadow", "mat_specular", "mat_shininess",
)  # fmt: skip


@dataclass(frozen=True)
class Body:
    """Hold a thing that is drawn and takes no part in the simulation; arguments of `mujoco.mjv_initGeom`."""

    kind: int
    size: np.ndarray[Any, Any]
    position: np.ndarray[Any, Any]
    rotation: np.ndarray[Any, Any]
    colour: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Camera:
    """Hold where a camera stands: degrees and distance (metres) as seen from the point that it looks at."""

    azimuth: float
    elevation: float
    distance: float
    point: np.ndarray[Any, Any]


class Stage:
    """Render one task. What a video changes of colours, lights and textures is restored by `reset_looks`.

    Attributes:
        is_robot, is_object, is_gripper: of each geom; an object belongs neither to the robot nor to table and walls.
    """

    def __init__(self, task: Task):
        import mujoco

        self.model, self.data = task.env.model, task.env.data
        model = self.model
        simplify_meshes(model)
        model.vis.quality.shadowsize = 1024
        model.vis.quality.offsamples = 0
        model.vis.global_.offwidth, model.vis.global_.offheight = 640, 480
        self.renderer = mujoco.Renderer(model, 2 * HEIGHT, 2 * WIDTH)  # frames are averaged from 2 x 2 pixels
        self._options = mujoco.MjvOption()
        self._options.sitegroup[:] = 0  # the marks of the goal are never drawn
        self.original = {name: getattr(model, name).copy() for name in _RESTORED}
        self._headlight = model.vis.headlight.ambient.copy(), model.vis.headlight.diffuse.copy()
        names = [model.body(i).name for i in range(model.nbody)]
        room = [0, *(i for i, name in enumerate(names) if name in ("tablelink", "RetainingWall"))]
        hand = [i for i, name in enumerate(names) if any(part in name.lower() for part in ("claw", "pad", "hand"))]
        self.is_robot = model.body_rootid[model.geom_bodyid] == model.body("base").id
        self.is_object = ~self.is_robot & ~np.isin(model.geom_bodyid, room)
        self.is_gripper = self.is_robot & np.isin(model.geom_bodyid, hand)
        self.textures = {model.texture(i).name: i for i in range(model.ntex)}
        self.skies = [i for i in range(model.ntex) if model.tex_type[i] == mujoco.mjtTexture.mjTEXTURE_SKYBOX]
        self._pixels = {i: model.tex_data[self._pixels_of(i)].copy() for i in range(model.ntex)}
        self._changed: set[int] = set()

    def close(self) -> None:
        self.renderer.close()

    def reset_looks(self) -> None:
        """Restore colours, lights and textures as Meta-World has them."""
        for name, value in self.original.items():
            getattr(self.model, name)[:] = value
        self.scale_headlight(1.0, 1.0)
        for texture in sorted(self._changed):
            self._upload(texture, self._pixels[texture])
        self._changed.clear()

    def scale_headlight(self, ambient: float, diffuse: float) -> None:
        light = self.model.vis.headlight
        light.ambient[:], light.diffuse[:] = self._headlight[0] * ambient, self._headlight[1] * diffuse

    def set_texture(self, texture: int, picture: np.ndarray[Any, Any]) -> None:
        """Replace a texture by a picture, uint8 (height, width, 3), scaled to the texture's size."""
        model = self.model
        height, width, n_channels = (int(getattr(model, f"tex_{k}")[texture]) for k in ("height", "width", "nchannel"))
        if picture.shape[:2] != (height, width):
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
        if n_channels == 4:
            picture = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
        self._upload(texture, picture[..., :n_channels].reshape(-1))
        self._changed.add(texture)

    def show(self, trajectory: Trajectory, step: int) -> None:
        """Put everything where it was at a step of the trajectory."""
        import mujoco

        data = self.data
        data.qpos[:], data.mocap_pos[:], data.mocap_quat[:] = trajectory.states[step]
        data.qvel[:] = 0
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)
        mujoco.mj_camlight(self.model, data)

    def picture(self, camera: Camera, bodies: Iterable[Body], *, shadows: bool) -> np.ndarray[Any, Any]:
        """Return what a camera sees, uint8 (HEIGHT, WIDTH, 3) in red, green, blue."""
        import mujoco

        self._look(camera, shadows=shadows)
        scene = self.renderer.scene
        for body in bodies:
            if scene.ngeom < scene.maxgeom:
                arguments = body.kind, body.size, body.position, body.rotation, body.colour
                mujoco.mjv_initGeom(scene.geoms[scene.ngeom], *arguments)
                scene.ngeom += 1
        return cv2.resize(self.renderer.render(), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)

    def visible_geoms(self, camera: Camera) -> np.ndarray[Any, Any]:
        """Return the number of pixels of a frame, (geom), in which a camera sees each geom."""
        import mujoco

        self.renderer.enable_segmentation_rendering()
        try:
            self._look(camera, shadows=False)
            ids, kinds = np.moveaxis(self.renderer.render(), -1, 0)
        finally:
            self.renderer.disable_segmentation_rendering()
        seen = ids[(kinds == int(mujoco.mjtObj.mjOBJ_GEOM)) & (ids >= 0) & (ids < self.model.ngeom)]
        return np.bincount(seen, minlength=self.model.ngeom) / 4

    def _look(self, camera: Camera, *, shadows: bool) -> None:
        """Put what the camera sees into the renderer's scene."""
        import mujoco

        flags = self.renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW], flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = int(shadows), 0
        free = mujoco.MjvCamera()
        free.type = mujoco.mjtCamera.mjCAMERA_FREE
        free.azimuth, free.elevation, free.distance = camera.azimuth, camera.elevation, camera.distance
        free.lookat[:] = camera.point
        self.renderer.update_scene(self.data, camera=free, scene_option=self._options)

    def _pixels_of(self, texture: int) -> slice:
        model = self.model
        first = int(model.tex_adr[texture])
        n_pixels = int(model.tex_height[texture]) * int(model.tex_width[texture])
        return slice(first, first + n_pixels * int(model.tex_nchannel[texture]))

    def _upload(self, texture: int, pixels: np.ndarray[Any, Any]) -> None:
        import mujoco

        self.model.tex_data[self._pixels_of(texture)] = pixels
        self.renderer._gl_context.make_current()
        mujoco.mjr_uploadTexture(self.model, self.renderer._mjr_context, texture)


@lru_cache(maxsize=1)
def texture_pictures() -> tuple[tuple[str, np.ndarray[Any, Any]], ...]:
    """Return the pictures that table, floor and walls are covered with, each with its name; 512 pixels square.

    They come with Meta-World.
    """
    import metaworld

    folder = Path(metaworld.__file__).parent / "assets" / "textures"
    pictures = []
    for name in _TEXTURES:
        picture: Any = cv2.imread(str(folder / f"{name}.png"), cv2.IMREAD_COLOR)
        pictures.append((name, cv2.cvtColor(cv2.resize(picture, (512, 512)), cv2.COLOR_BGR2RGB)))
    return tuple(pictures)
