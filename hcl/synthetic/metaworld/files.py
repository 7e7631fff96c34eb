"""Write the videos of the benchmark, each whole or not at all, and the list of what is known of each."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hcl.errors import DataError
from hcl.files.atomic import PARTIAL, partial_of, write_lines
from hcl.files.disk_errors import storing
from hcl.synthetic.codecs import count_frames
from hcl.synthetic.metaworld.encoding import write_video
from hcl.synthetic.metaworld.facts import VideoFacts


def video_path(videos_root: Path, facts: VideoFacts) -> Path:
    return videos_root / facts.action / f"{facts.name}{facts.suffix}"


def save_video(videos_root: Path, facts: VideoFacts, frames: np.ndarray[Any, Any]) -> Path:
    """Write a video under a hidden name, read it back, and rename it.

    Raises:
        DataError: the file does not yield its frames.
        StorageError: the folder cannot be written.
    """
    path = video_path(videos_root, facts)
    partial = partial_of(path)
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_video(partial, frames, facts.suffix)
            if (n_frames := count_frames(partial)) != len(frames):
                raise DataError(
                    f"{len(frames)} frames were written, and {n_frames} can be read",
                    where=str(path),
                    remedy="free space if the disk is full, then repeat the command",
                )
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return path


def discard_partials(videos_root: Path) -> None:
    """Remove what killed processes have left unfinished."""
    for path in videos_root.glob(f"*/.*{PARTIAL}"):
        path.unlink(missing_ok=True)


def read_facts(path: Path) -> dict[str, VideoFacts]:
    """Return what is known of each video by its name; empty without a list.

    A line that a kill has cut is left out, so that its video is made again.
    """
    facts: dict[str, VideoFacts] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            known = VideoFacts(**json.loads(line))
        except (ValueError, TypeError):
            continue
        facts[known.name] = known
    return facts


def append_facts(path: Path, facts: Iterable[VideoFacts]) -> None:
    """Add lines to the list. Raises StorageError."""
    with storing(path), path.open("a") as file:
        file.writelines(f"{_line(one)}\n" for one in facts)


def write_facts(path: Path, facts: Iterable[VideoFacts]) -> None:
    """Write the list anew, sorted by name. Raises StorageError."""
    write_lines(path, map(_line, sorted(facts, key=lambda one: (one.action, one.number))))


def _line(facts: VideoFacts) -> str:
    return json.dumps(asdict(facts))
