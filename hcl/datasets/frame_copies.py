"""Find folders of frames with the same content by their files, as `hcl.datasets.copies.same_files` does for videos."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from hcl.datasets.splits import Video


def same_frames(folders: Mapping[Video, Path]) -> dict[Video, str]:
    """Return a digest of the files of each folder that has as many files and bytes as another; others have no copy."""
    by_size: dict[tuple[int, int], list[Video]] = {}
    for video, folder in folders.items():
        sizes = [entry.stat().st_size for entry in os.scandir(folder) if entry.is_file()]
        by_size.setdefault((len(sizes), sum(sizes)), []).append(video)
    alike = [video for videos in by_size.values() if len(videos) > 1 for video in videos]
    return {video: _digest(folders[video]) for video in alike}


def _digest(folder: Path) -> str:
    """Return a digest of the contents of a folder's files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
