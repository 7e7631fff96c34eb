"""Define the actor that films and writes videos of Meta-World; it imports neither torch nor the commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from hcl.synthetic.metaworld.facts import VideoFacts
from hcl.synthetic.metaworld.files import save_video
from hcl.synthetic.metaworld.requirements import check_requirements, choose_software_rendering
from orchestration.storage.places import check_seen


@dataclass(frozen=True)
class Batch:
    """Name some videos of one action, so that its model is compiled once for all of them."""

    action: str
    numbers: tuple[int, ...]


class Films(Protocol):
    """Define what films one action: `hcl.synthetic.metaworld.videos.Studio`, or a stand-in."""

    def video(self, seed: int, number: int) -> tuple[VideoFacts, np.ndarray[Any, Any] | None]: ...

    def close(self) -> None: ...


def studio(action: str) -> Films:
    """Open the studio of an action on this machine. Raises ConfigError where packages or libraries are missing."""
    choose_software_rendering(os.environ)
    check_requirements()
    from hcl.synthetic.metaworld.videos import Studio  # imported late, because MuJoCo reads the variables on import

    return Studio(action)


class VideoMaker:
    """Make videos in an actor, one action at a time."""

    def __init__(self, videos_root: Path, seed: int, make_studio: Callable[[str], Films] = studio):
        cv2.setNumThreads(1)
        self.videos_root, self.seed, self.make_studio = videos_root, seed, make_studio
        self._action = ""
        self._studio: Films | None = None

    def make(self, batch: Batch) -> list[VideoFacts]:
        """Write the videos of a batch, and return what is known of them.

        Raises:
            ConfigError: packages or libraries are missing.
            DataError, StorageError: a file cannot be written.
        """
        check_seen(self.videos_root, remedy="mount it under the same path on every node")
        films = self._films(batch.action)
        made = []
        for number in batch.numbers:
            facts, frames = films.video(self.seed, number)
            if frames is not None:
                save_video(self.videos_root, facts, frames)
            made.append(facts)
        return made

    def _films(self, action: str) -> Films:
        if self._studio is None or self._action != action:
            if self._studio is not None:
                self._studio.close()
            self._action, self._studio = action, self.make_studio(action)
        return self._studio
