"""Open video files and frames with Ray actors, to find unreadable ones before other work starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from hcl.errors import DataError
from hcl.frames.decoding import probe
from hcl.frames.folders import FrameFolder
from orchestration.runtime.actors import ItemCrash, ItemTimeout, map_actors
from orchestration.runtime.connect import actor_of, connect, n_workers_available
from orchestration.runtime.progress import progress

_BATCH = 16  # files per call, because a call costs about as much as opening one file


def unreadable(files: Mapping[str, Path], *, time_limit_s: float = 60.0, address: str | None = None) -> dict[str, str]:
    """Return, by key, the problem of files whose first frame, and of folders whose frames cannot all be read.

    Args:
        time_limit_s: time limit of one file; a decoder that hangs or crashes affects only its file.
    """
    problems: dict[str, str] = {}
    items = [(key, str(path)) for key, path in files.items()]
    if not items:
        return problems
    with connect(address), progress(len(items), "open", "files") as advance:
        actor = actor_of(_Opener, "decode", "open")
        batches = [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]
        single_files: list[list[tuple[str, str]]] = []
        for is_second, work in ((False, batches), (True, single_files)):
            results = map_actors(
                actor,
                work,
                lambda opener, batch: opener.open.remote(batch),
                n_actors=lambda: n_workers_available("decode"),
                timeout_s=time_limit_s * (1 if is_second else _BATCH),
                n_tries=1,
            )
            with closing(results):
                for batch, result in results:
                    if not isinstance(result, Exception):
                        problems |= result
                    elif not isinstance(result, ItemTimeout | ItemCrash):
                        raise result
                    elif is_second:
                        problems[batch[0][0]] = result.problem
                    else:
                        single_files += [[file] for file in batch]  # one of them is the cause
                        continue
                    advance(len(batch))
    return problems


class _Opener:
    """Open files in an actor."""

    def __init__(self) -> None:
        os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"
        cv2.setNumThreads(1)

    def open(self, batch: list[tuple[str, str]]) -> dict[str, str]:
        return {key: problem for key, path in batch if (problem := _problem(Path(path)))}


def _problem(path: Path) -> str:
    return _problem_of_frames(path) if path.is_dir() else probe(path).problem


def _problem_of_frames(folder: Path) -> str:
    frames = FrameFolder.listed(folder)
    for index in range(frames.n_frames):
        try:
            (content,) = frames.read([index])
        except DataError as error:
            return f"{frames.file(index).name} {error.problem}"
        if not content or cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is None:
            return f"{frames.file(index).name} is not an image, or only a part of one"
    return ""
