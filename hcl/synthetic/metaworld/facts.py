"""Describe one video of the benchmark: its file, and what was drawn for it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class VideoFacts:
    """Hold what is known of a video beside its frames, as a line of the list of videos.

    Attributes:
        suffix: of the file; empty if every attempt was rejected, so that there is no file.
        attempt: the number of the attempt that gave the video.
        rejected: the reasons why the attempts before it gave none.
        digest: of the frames before encoding, which differs where one pixel differs.
        success_step, n_steps, first_step, last_step: of the simulation; the video shows first to last.
        side, camera: where it was filmed from; azimuth, elevation (degrees), distance and point looked at (metres).
        n_object, n_gripper: fewest pixels of moved objects and gripper at three steps.
        robot_coloured, shadows, textures, n_clutter: what else was drawn.
    """

    action: str
    number: int
    suffix: str = ""
    n_frames: int = 0
    digest: str = ""
    attempt: int = -1
    rejected: list[str] = field(default_factory=list)
    n_steps: int = 0
    success_step: int = 0
    first_step: int = 0
    last_step: int = 0
    side: str = ""
    camera: list[float] = field(default_factory=list)
    n_object: int = 0
    n_gripper: int = 0
    robot_coloured: bool = False
    shadows: bool = False
    textures: dict[str, str] = field(default_factory=dict)
    n_clutter: int = 0

    @property
    def name(self) -> str:
        return video_name(self.action, self.number)


def video_name(action: str, number: int) -> str:
    return f"{action}_{number:04d}"
