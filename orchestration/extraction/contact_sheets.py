"""Find and draw what `hcl data show` is asked for: a video file, or a class or video of a data set."""

from __future__ import annotations

import difflib
import os
import shlex
import tempfile
from pathlib import Path

import numpy as np

from hcl.assembly.inputs import make_dataset
from hcl.clips.contact_sheet import RecordingFrames, class_sheet, video_sheet
from hcl.config import Experiment
from hcl.datasets.splits import Partition, Video
from hcl.errors import DataError, VideoError
from hcl.files.names import shown, some
from hcl.frames.extraction import extract_video
from hcl.frames.store import FrameStore
from hcl.frames.stored_dataset import DataRoot


def draw_sheet(
    data: DataRoot, what: str, experiment: Experiment, *, n_views: int = 3, n_videos: int = 8, seed: int = 0
) -> np.ndarray:
    """Return the contact sheet (height, width, 3), RGB, of a video file or of `DATASET/CLASS` or `DATASET/CLASS/VIDEO`.

    Args:
        experiment: its `clips` settings determine the sampling of frames and the making of views.
        n_views: number of training views of a video.
        n_videos: number of videos of a class.

    Raises:
        DataError: if there is no such file, class or video, or it has no frames.
        VideoError: if the file cannot be decoded.
    """
    if Path(what).is_file():
        return _file_sheet(Path(what), experiment, n_views, seed)
    dataset, _, rest = what.partition("/")
    class_name, _, name = rest.partition("/")
    if not class_name:
        raise DataError(
            "is neither a file nor DATASET/CLASS or DATASET/CLASS/VIDEO", where=shown(what), remedy="check the path"
        )
    stored = data.dataset(dataset)
    partitions = stored.split.partitions.values()
    partition = next((part for part in partitions if class_name in part.classes), None)
    if partition is None:
        classes = [name for part in partitions for name in part.classes]
        raise DataError(f"no class {shown(class_name)}", where=dataset, remedy=_close(class_name, classes))
    names = [video.name for video in partition.videos if video.class_name == class_name]
    if name and name not in names:
        raise DataError(f"no video {shown(name)} of {shown(class_name)}", where=dataset, remedy=_close(name, names))
    frames = RecordingFrames(stored.frames)
    if name:
        return _video_sheet(frames, partition, Video(class_name, name), experiment, n_views, seed)
    videos = tuple(Video(class_name, video_name) for video_name in names)
    missing = set(frames.frames.missing(Partition(dataset, partition.name, (class_name,), videos)))  # type: ignore[attr-defined]
    present = tuple(video for video in videos if video not in missing)[:n_videos]
    if not present:
        raise DataError(
            f"none of its {len(videos)} videos has frames",
            where=f"{dataset}/{class_name}",
            remedy=f"hcl extract {shlex.quote(dataset)}",
        )
    part = Partition(dataset, partition.name, (class_name,), present)
    title = f"{dataset}, {partition.name}: {class_name} ({len(present)} of {len(videos)} videos)"
    return class_sheet(title, frames, make_dataset(experiment, frames, part, training=False))


def _file_sheet(source: Path, experiment: Experiment, n_views: int, seed: int) -> np.ndarray:
    video = Video(source.absolute().parent.name or "file", source.name)
    os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # FFmpeg's messages on damaged videos are noise; the record has them
    with tempfile.TemporaryDirectory(prefix="hcl-show-") as folder:
        record = extract_video(source, Path(folder) / video.class_name / video.name)
        if record.status != "ok":
            raise VideoError(record.error, where=str(source), remedy="check that the file is a complete video")
        frames = RecordingFrames(FrameStore(Path(folder)))
        partition = Partition("file", "test", (video.class_name,), (video,))
        return _video_sheet(frames, partition, video, experiment, n_views, seed)


def _video_sheet(
    frames: RecordingFrames, partition: Partition, video: Video, experiment: Experiment, n_views: int, seed: int
) -> np.ndarray:
    single = Partition(partition.dataset, partition.name, (video.class_name,), (video,))
    test, training = (make_dataset(experiment, frames, single, training=training) for training in (False, True))
    return video_sheet(frames, test, training, n_views=n_views, seed=seed)


def _close(word: str, candidates: list[str]) -> str:
    close = difflib.get_close_matches(word, candidates, n=3, cutoff=0.5)
    return f"did you mean {some(close)}?" if close else f"there are {some(candidates)}"
