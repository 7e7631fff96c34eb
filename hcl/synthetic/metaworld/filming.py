"""Film a trajectory: a camera that may shake and drift, and its exposure, white balance and noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from hcl.synthetic.metaworld.motion import Span
from hcl.synthetic.metaworld.rollout import Trajectory
from hcl.synthetic.metaworld.stage import Body, Camera, Stage

_STILL = 0.4  # probability of a camera on a stand
_WAVES = (0.6, 1.3, 2.7)  # of the shake, in periods a video


def film(
    rng: np.random.Generator,
    stage: Stage,
    trajectory: Trajectory,
    span: Span,
    camera: Camera,
    clutter: list[Body],
    *,
    shadows: bool,
) -> np.ndarray[Any, Any]:
    """Return the frames of a span, uint8 (frame, height, width, 3) in red, green, blue."""
    n_frames = len(span.frames)
    poses = _draw_poses(rng, camera, n_frames)
    tones = _draw_tones(rng)
    noise = rng.uniform(0, 3) if rng.random() < 0.5 else 0.0
    frames = []
    for step, (*point, azimuth, elevation) in zip(span.frames, poses, strict=True):
        stage.show(trajectory, int(step))
        shaken = Camera(azimuth, elevation, camera.distance, np.array(point))
        frame = stage.picture(shaken, clutter, shadows=shadows)
        frame = np.stack([tones[frame[..., channel], channel] for channel in range(3)], -1)
        if noise:
            frame = np.clip(frame + rng.normal(0, noise, frame.shape), 0, 255).astype(np.uint8)
        frames.append(frame)
    return np.stack(frames)


def _draw_poses(rng: np.random.Generator, camera: Camera, n_frames: int) -> np.ndarray[Any, Any]:
    """Return the point looked at, azimuth and elevation of each frame, (frame, 5): the camera's own with some shake."""
    amplitude = 0.0 if rng.random() < _STILL else rng.uniform(0.2, 1.0)
    time = np.arange(n_frames)
    shake = sum(
        rng.normal(0, 1, (5, 1)) * np.sin(2 * np.pi * (wave * time[None] / n_frames + rng.random((5, 1))))
        for wave in _WAVES
    )
    shake = np.asarray(shake) / 1.7
    drift = rng.normal(0, 1, 2) * amplitude * [5, 2.5]
    progress = time / max(n_frames - 1, 1) - 0.5
    points = camera.point + amplitude * 0.008 * shake[:3].T
    azimuths = camera.azimuth + amplitude * 0.8 * shake[3] + drift[0] * progress
    elevations = camera.elevation + amplitude * 0.5 * shake[4] + drift[1] * progress
    return np.column_stack([points, azimuths, elevations])


def _draw_tones(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return the value that replaces each value of a channel, uint8 (256, 3): exposure, white balance and gamma."""
    gains = rng.uniform(0.8, 1.2) * rng.uniform(0.94, 1.06, 3)
    gamma = rng.uniform(0.8, 1.25)
    curve = (np.arange(256) / 255.0) ** gamma * 255
    return np.clip(curve[:, None] * gains, 0, 255).astype(np.uint8)
