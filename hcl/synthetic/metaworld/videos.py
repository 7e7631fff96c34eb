"""Make one video of the benchmark, as a function of seed, class and number: frames, and what was drawn for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from hcl.synthetic.metaworld.cameras import choose_view
from hcl.synthetic.metaworld.clutter import draw_clutter
from hcl.synthetic.metaworld.encoding import draw_container
from hcl.synthetic.metaworld.facts import VideoFacts
from hcl.synthetic.metaworld.filming import film
from hcl.synthetic.metaworld.looks import draw_looks
from hcl.synthetic.metaworld.motion import draw_span, moved_bodies
from hcl.synthetic.metaworld.requirements import opened_rendering
from hcl.synthetic.metaworld.rollout import ATTEMPTS, Rejected, Task, Trajectory, generator
from hcl.synthetic.metaworld.stage import Stage


class Studio:
    """Make the videos of one action. None of them depends on those that were made before."""

    def __init__(self, action: str):
        """Compile the task's model and open a renderer. Raises ConfigError where MuJoCo cannot draw."""
        self.action, self._task = action, Task(action)
        with opened_rendering():
            self._stage = Stage(self._task)

    def close(self) -> None:
        self._stage.close()

    def video(self, seed: int, number: int) -> tuple[VideoFacts, np.ndarray[Any, Any] | None]:
        """Return a video's facts and its frames, uint8 (frame, height, width, 3) in red, green, blue.

        Rejected attempts are followed by others with other draws and less noise; if the last one is rejected too, there
        are no frames.
        """
        rejected: list[str] = []
        for attempt, (noise, hand_share) in enumerate(ATTEMPTS):
            rng = generator(seed, self.action, number, attempt)
            try:
                trajectory = self._task.attempt(rng, noise, hand_share)
                return self._filmed(rng, trajectory, number, attempt, rejected)
            except Rejected as reason:
                rejected.append(str(reason))
        return VideoFacts(self.action, number, rejected=rejected), None

    def _filmed(
        self, rng: np.random.Generator, trajectory: Trajectory, number: int, attempt: int, rejected: list[str]
    ) -> tuple[VideoFacts, np.ndarray[Any, Any]]:
        stage = self._stage
        moved, start = moved_bodies(stage.model, trajectory)
        span = draw_span(rng, trajectory, moved, start)
        looks = draw_looks(rng, stage)
        stage.show(trajectory, span.first)
        clutter = draw_clutter(rng, stage, trajectory, moved)
        view = choose_view(rng, stage, trajectory, span, moved)
        pose = (view.camera.azimuth, view.camera.elevation, view.camera.distance, *view.camera.point)
        frames = film(rng, stage, trajectory, span, view.camera, clutter, shadows=looks.shadows)
        facts = VideoFacts(
            self.action,
            number,
            draw_container(rng),
            len(frames),
            frames_digest(frames),
            attempt,
            rejected,
            len(trajectory),
            trajectory.success,
            span.first,
            span.last,
            view.side,
            [round(float(value), 3) for value in pose],
            view.n_object,
            view.n_gripper,
            looks.robot,
            looks.shadows,
            looks.textures,
            len(clutter),
        )
        return facts, frames


def frames_digest(frames: Iterable[np.ndarray[Any, Any]]) -> str:
    """Return 32 hexadecimal digits that identify frames and their order."""
    digest = hashlib.blake2b(digest_size=16)
    for frame in frames:
        digest.update(np.ascontiguousarray(frame).tobytes())
    return digest.hexdigest()
