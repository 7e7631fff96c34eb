"""Define the actor that extracts videos. Dozens run on a node: it imports neither torch nor pandas nor the commands."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import cv2

from hcl.datasets.manifest import VideoRecord
from hcl.frames.decoding import FrameOptions
from hcl.frames.extraction import ExtractionJob, extract_video
from orchestration.storage.places import check_seen


@dataclass(frozen=True)
class Place:
    """The staging folder of an extraction, which a node has to see beside the folder of a video."""

    staging: Path

    def refuse_blind(self, job: ExtractionJob) -> None:
        """Raise StorageError, which names the node, if its process does not see both. The staging folder is new and
        has a name of its own: an empty folder under the same path on another disk is not taken for it."""
        for folder in (job.source.parent, self.staging):
            check_seen(folder, remedy="mount it under the same path on every node")

    def partial(self, job: ExtractionJob) -> Path:
        """Return the folder in which the frames of a video are made before it is renamed."""
        return self.staging / hashlib.sha256(job.relative.encode()).hexdigest()


class Extractor:
    """Extract videos in an actor. It takes one video a call, so that a hang or a crash costs one."""

    def __init__(self, place: Place, options: FrameOptions):
        os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # what FFmpeg says of damaged videos is noise in an actor's log
        cv2.setNumThreads(1)
        self.place, self.options = place, options

    def extract(self, job: ExtractionJob) -> VideoRecord:
        """Extract a video and return its record. Raises StorageError where the frames cannot be written."""
        self.place.refuse_blind(job)
        return extract_video(
            job.source, job.destination, self.options, partial=self.place.partial(job), earlier=job.earlier
        )
