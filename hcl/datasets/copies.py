"""Find copies: videos of the same content under several names, of which one is used.

Videos are compared by their frames, so that the same pictures in another container are a copy too; before extraction,
they are compared by their files. A video that was encoded again has other frames and is not found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from hcl.datasets.cards import PARTITIONS
from hcl.datasets.splits import Video

PRECEDENCE = PARTITIONS[::-1]
"""Which partition keeps a video that stands in several: test stays what others are compared on, then what chooses the
model, and training does without."""


class Original(NamedTuple):
    """Hold the video that is used instead of its copies, and its partition."""

    video: Video
    partition: str

    def __str__(self) -> str:
        return f"a copy of {self.video.key!r} of {self.partition}"


def find_copies(contents: Mapping[str, Mapping[Video, str]]) -> dict[str, dict[Video, Original]]:
    """Return the copies in each partition with their originals.

    Of equal videos the one in the first partition of `PRECEDENCE` is kept, and within a partition the first by class
    and name, independent of the order of its list.

    Args:
        contents: a digest of each video's content, by partition.
    """
    originals: dict[str, Original] = {}
    copies: dict[str, dict[Video, Original]] = {name: {} for name in contents}
    for name in sorted(contents, key=lambda part: PRECEDENCE.index(part) if part in PRECEDENCE else len(PRECEDENCE)):
        for video in sorted(contents[name]):
            original = originals.setdefault(contents[name][video], Original(video, name))
            if original != (video, name):
                copies[name][video] = original
    return copies


def same_files(
    files: Mapping[Video, Path], *, among: Collection[Video] | None = None, on_file: Callable[[], None] = lambda: None
) -> dict[Video, str]:
    """Return a digest of the content of all video files that share their size with another; others have no copy.

    Args:
        among: read only groups of equal size that contain one of these videos.
        on_file: called after each file is read.
    """
    by_size: dict[int, list[Video]] = {}
    for video, path in files.items():
        try:
            size = path.stat().st_size
        except OSError:  # removed meanwhile: extraction reports it
            continue
        if size:
            by_size.setdefault(size, []).append(video)
    digests = {}
    for videos in by_size.values():
        if len(videos) > 1 and (among is None or any(video in among for video in videos)):
            for video in videos:
                try:
                    with files[video].open("rb") as file:
                        digests[video] = hashlib.file_digest(file, "sha256").hexdigest()
                except OSError:
                    continue
                on_file()
    return digests
