"""Test what is drawn of a video: the part that is shown, the camera, its shake and exposure, without a simulator."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hcl.synthetic.metaworld.cameras import View, choose_view
from hcl.synthetic.metaworld.filming import film
from hcl.synthetic.metaworld.meshes import simplify_meshes
from hcl.synthetic.metaworld.motion import MAX_FRAMES, MIN_FRAMES, Span, draw_span, moved_bodies
from hcl.synthetic.metaworld.rollout import Rejected, Trajectory
from hcl.synthetic.metaworld.stage import HEIGHT, WIDTH, Camera

ROBOT, LID, BOX, MOCAP = 1, 2, 3, 4  # bodies; 0 is the world
MODEL = SimpleNamespace(
    nbody=5,
    body=lambda name: SimpleNamespace(id={"base": ROBOT}[name]),
    body_rootid=np.array([0, ROBOT, LID, BOX, MOCAP]),
    body_mocapid=np.array([-1, -1, -1, -1, 0]),
    geom_bodyid=np.array([0, ROBOT, LID, BOX]),  # four geoms
)


def trajectory(n_steps: int = 101, *, lid_starts: int = 40, turn: float = 0.0, success: int = 80) -> Trajectory:
    """Return a trajectory in which the robot and the mocap body move from the start, and the lid from a step on."""
    positions, rotations = np.zeros((n_steps, 5, 3)), np.tile([1.0, 0, 0, 0], (n_steps, 5, 1))
    time = np.arange(n_steps)
    positions[:, [ROBOT, MOCAP], 0] = time[:, None] * 0.01
    late = np.clip(time - lid_starts + 1, 0, None)
    if turn:
        rotations[:, LID] = np.stack([np.cos(late * turn / 2), np.sin(late * turn / 2), 0 * late, 0 * late], -1)
    else:
        positions[:, LID, 2] = late * 0.01
    states = [(np.zeros(1), np.zeros((1, 3)), np.zeros((1, 4)))] * n_steps
    return Trajectory(states, positions[:, ROBOT], positions, rotations, success, seed=0)


class Stage:
    """Show as many pixels of each geom as a function of the camera says, and one picture at every step."""

    def __init__(self, pixels: Any = None):
        self.model, self.pixels = MODEL, pixels
        self.is_robot = MODEL.geom_bodyid == ROBOT
        self.is_object, self.is_gripper = (MODEL.geom_bodyid > ROBOT), self.is_robot
        self.shown: list[int] = []
        self.cameras: list[Camera] = []

    def show(self, _: Trajectory, step: int) -> None:
        self.shown.append(step)

    def visible_geoms(self, camera: Camera) -> np.ndarray:
        self.cameras.append(camera)
        return np.array(self.pixels(camera, len(self.cameras) - 1))

    def picture(self, camera: Camera, clutter: list[Any], *, shadows: bool) -> np.ndarray:
        self.cameras.append(camera)
        return np.full((HEIGHT, WIDTH, 3), 100, np.uint8)


def span(n_frames: int = 24) -> Span:
    return Span(np.linspace(10, 100, n_frames).astype(int), 40, 80, np.array([0.0, 0.6, 0.1]), 0.2)


# motion


@pytest.mark.parametrize("turn", [0.0, 0.1])
def test_the_robot_is_not_among_what_it_moves(turn: float) -> None:
    moved, start = moved_bodies(MODEL, trajectory(turn=turn))
    assert (moved, start) == ([LID], 40)


def test_nothing_moves_where_the_hand_only_reaches() -> None:
    assert moved_bodies(MODEL, trajectory(lid_starts=1000)) == ([], None)
    alone = SimpleNamespace(**{**vars(MODEL), "nbody": 2})
    assert moved_bodies(alone, trajectory()) == ([], None)


@pytest.mark.parametrize("n_steps", [30, 101, 300])
def test_a_video_shows_the_action_to_its_end(n_steps: int) -> None:
    moves = trajectory(n_steps, lid_starts=n_steps // 2, success=n_steps * 3 // 4)
    spans = [draw_span(np.random.default_rng(seed), moves, [LID], n_steps // 2) for seed in range(200)]
    for one in spans:
        assert MIN_FRAMES <= len(one.frames) <= MAX_FRAMES
        assert 0 <= one.first <= 0.6 * one.action + 1 and one.last == n_steps - 1
        assert (np.diff(one.frames) >= 0).all() and one.action == n_steps // 2
    assert len({one.first for one in spans}) > 5
    lengths = {len(one.frames) for one in spans}
    assert len(lengths) > 8 if n_steps == 101 else lengths == {MIN_FRAMES if n_steps == 30 else MAX_FRAMES}


def test_without_a_moved_object_the_action_starts_on_the_way_to_success() -> None:
    assert draw_span(np.random.default_rng(0), trajectory(), [], None).action == 48
    assert draw_span(np.random.default_rng(0), trajectory(), [LID], 90).action == 48, "it moved after success only"


# cameras


def test_the_first_good_camera_ends_the_search() -> None:
    stage = Stage(lambda camera, n: [0, 60, 30, 0] if n >= 6 else [0, 60, 0, 0])  # three looks a camera
    view = choose_view(np.random.default_rng(0), stage, trajectory(), span(), [LID])
    assert len(stage.cameras) == 9 and view.camera == stage.cameras[-1]
    assert (view.n_object, view.n_gripper, view.most_object) == (30, 60, 30)
    assert stage.shown == [40, 60, 82] * 3, "the start of the action, half-way to success, and just after it"


def test_the_best_of_eight_cameras_is_taken_where_none_is_good() -> None:
    stage = Stage(lambda camera, n: [0, 20 + n // 3 % 5, 12, 0])
    view = choose_view(np.random.default_rng(0), stage, trajectory(), span(), [LID])
    assert len(stage.cameras) == 24 and view.n_gripper == 24 and view.camera == stage.cameras[12]


@pytest.mark.parametrize("pixels", [[0, 14, 40, 0], [0, 60, 9, 0]])
def test_an_attempt_that_no_camera_sees_is_rejected(pixels: list[int]) -> None:
    with pytest.raises(Rejected, match="no camera sees enough"):
        choose_view(np.random.default_rng(0), Stage(lambda *_: pixels), trajectory(), span(), [LID])
    if pixels[2] == 9:  # nothing moved: the gripper is enough
        choose_view(np.random.default_rng(0), Stage(lambda *_: pixels), trajectory(), span(), [])


def test_an_arm_in_front_of_everything_costs_merit() -> None:
    camera = Camera(0.0, 0.0, 1.0, np.zeros(3))
    free, hidden = (View("high", camera, 30, 60, 30, robot) for robot in (0.1, 0.6))
    assert free.is_good(has_moved=True) and not hidden.is_good(has_moved=True)
    assert hidden.merit(has_moved=True) == pytest.approx(free.merit(has_moved=True) - 50)


def test_cameras_stand_on_three_sides_within_their_bounds() -> None:
    sides = set()
    for seed in range(60):
        stage = Stage(lambda *_: [0, 60, 30, 0])
        view = choose_view(np.random.default_rng(seed), stage, trajectory(), span(), [LID])
        sides.add(view.side)
        assert 0.5 <= view.camera.distance <= 1.35 and -80 <= view.camera.elevation <= -20
        assert np.linalg.norm(view.camera.point - span().focus) < 0.2
    assert sides == {"right", "left", "high"}


# frames


def filmed(seed: int, stage: Stage) -> np.ndarray:
    camera = Camera(120.0, -30.0, 1.0, np.array([0.0, 0.6, 0.1]))
    return film(np.random.default_rng(seed), stage, trajectory(), span(), camera, [], shadows=False)


def test_frames_are_those_of_the_span_under_one_exposure() -> None:
    stages = [Stage() for _ in range(30)]
    videos = [filmed(seed, stage) for seed, stage in enumerate(stages)]
    assert all(stage.shown == span().frames.tolist() for stage in stages)
    assert all(video.shape == (24, HEIGHT, WIDTH, 3) and video.dtype == np.uint8 for video in videos)
    noisy = np.array([video.std((0, 1, 2)).max() > 0 for video in videos])
    assert 0.2 < noisy.mean() < 0.8
    means = np.array([video.mean((0, 1, 2)) for video in videos])
    assert means.min() > 40 and means.max() < 180 and np.ptp(means, axis=0).min() > 20
    np.testing.assert_array_equal(videos[0], filmed(0, Stage()))


def test_some_cameras_shake_and_others_stand_still() -> None:
    moves = []
    for seed in range(60):
        stage = Stage()
        filmed(seed, stage)
        poses = np.array([[*camera.point, camera.azimuth, camera.elevation] for camera in stage.cameras])
        moves.append(np.ptp(poses, axis=0))
    still = np.array([not move.any() for move in moves])
    assert 0.2 < still.mean() < 0.6
    assert np.max(moves, axis=0)[:3].max() < 0.06 and np.max(moves, axis=0)[3:].max() < 20, "metres and degrees"


# meshes


def test_meshes_of_the_robot_become_coarse_and_others_stay() -> None:
    side = 40
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    vertices = np.stack([x, y, 0 * x], -1).reshape(-1, 3) * 0.001  # a plane of 4 cm, a vertex each millimetre
    corner = (x[:-1, :-1] * side + y[:-1, :-1]).reshape(-1)
    faces = np.concatenate(
        [
            np.stack([corner, corner + 1, corner + side], -1),
            np.stack([corner + 1, corner + side + 1, corner + side], -1),
        ]
    )
    n_faces, n_vertices = len(faces), len(vertices)
    model = SimpleNamespace(
        **{**vars(MODEL), "geom_bodyid": np.array([ROBOT, LID]), "body_rootid": MODEL.body_rootid},
        geom_type=np.array([7, 7]),
        geom_contype=np.array([0, 0]),
        geom_conaffinity=np.array([0, 0]),
        geom_dataid=np.array([0, 1]),
        mesh_facenum=np.array([n_faces, n_faces]),
        mesh_faceadr=np.array([0, n_faces]),
        mesh_vertadr=np.array([0, n_vertices]),
        mesh_vertnum=np.array([n_vertices, n_vertices]),
        mesh_vert=np.concatenate([vertices, vertices]),
        mesh_face=np.concatenate([faces, faces]),
        mesh_facenormal=np.concatenate([faces, faces]),
    )
    simplify_meshes(model)
    n_coarse = int(model.mesh_facenum[0])
    assert 60 < n_coarse < 120 and model.mesh_facenum[1] == n_faces, "seven cells a side: about 2 x 6 x 6 triangles"
    a, b, c = vertices[model.mesh_face[:n_coarse]].swapaxes(0, 1)
    area = np.abs(np.cross(b - a, c - a)[:, 2]).sum() / 2
    assert area == pytest.approx(0.036**2, rel=0.01), "the plane is covered as before, but for its rim"
    np.testing.assert_array_equal(model.mesh_face[n_faces:], faces)
