"""Copies: videos of the same content under several names, of which one is used.

Content is that of the frames, so that another container with the same pictures is a copy, too; before there are frames
it is that of the video files. A video that was encoded again has other frames: such twins are not found.
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
    """The video that is used in place of its copies, and the partition that it stands in."""

    video: Video
    partition: str

    def __str__(self) -> str:
        return f"a copy of {self.video.key!r} of {self.partition}"


def find_copies(contents: Mapping[str, Mapping[Video, str]]) -> dict[str, dict[Video, Original]]:
    """Return the copies of each partition with what they are copies of.

    Of equal videos one is kept: that of test before val before train, and within a partition the first by class and
    name, whatever the order of its list.

    Args:
        contents: what names the content of each video, by partition.
    """
    originals: dict[str, Original] = {}
    copies: dict[str, dict[Video, Original]] = {name: {} for name in contents}
    for name in sorted(contents, key=lambda one: PRECEDENCE.index(one) if one in PRECEDENCE else len(PRECEDENCE)):
        for video in sorted(contents[name]):
            original = originals.setdefault(contents[name][video], Original(video, name))
            if original != (video, name):
                copies[name][video] = original
    return copies


def same_files(
    files: Mapping[Video, Path], *, among: Collection[Video] | None = None, on_file: Callable[[], None] = lambda: None
) -> dict[Video, str]:
    """Return what names the content of video files that have a size in common, by video; others have no copy.

    Args:
        among: only groups that hold one of these are read.
        on_file: called for each file that was read.
    """
    by_size: dict[int, list[Video]] = {}
    for video, path in files.items():
        try:
            size = path.stat().st_size
        except OSError:  # gone since: extraction tells of it
            continue
        if size:
            by_size.setdefault(size, []).append(video)
    found = {}
    for videos in by_size.values():
        if len(videos) > 1 and (among is None or any(video in among for video in videos)):
            for video in videos:
                try:
                    with files[video].open("rb") as file:
                        found[video] = hashlib.file_digest(file, "sha256").hexdigest()
                except OSError:
                    continue
                on_file()
    return found
