"""A video to frames on disk, and back: decode, resize, store, read.

A dataset's frames lie in `images/<dataset>/<class>/<video>/<n>.jpg` with n from 0; `manifest.parquet` beside the
classes holds one `VideoRecord` a video. A video's folder is whole or absent at any moment.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from hcl.decoding import decode_into, options_digest
from hcl.errors import DataError, StorageError
from hcl.manifest import VideoRecord, read_manifest
from hcl.splits import Partition, Video

VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp", ".gif"}
)


def extract_video(
    source: Path, destination: Path, *, short_side: int = 256, quality: int = 90, max_frames: int | None = None
) -> VideoRecord:
    """Decode one video into a folder of JPEGs, one frame in memory at a time.

    Args:
        source: the video file.
        destination: `<class>/<video>`; what stood there is replaced, or removed if no frame can be decoded.
        short_side: pixels of the frames' shorter side; smaller videos and 0 keep their size.
        quality: of the JPEGs, 1 to 100.
        max_frames: stop after so many frames: a bound for endless videos, not a sampling.
    Raises:
        StorageError: the frames cannot be written; nothing is said about the video then.
    """
    record = VideoRecord(
        destination.parent.name,
        destination.name,
        "missing",
        source=str(source),
        options_digest=options_digest(short_side=short_side, quality=quality, max_frames=max_frames),
    )
    try:
        stat = source.stat()
    except OSError as error:
        return replace(record, error=f"cannot be opened: {error.strerror or error}")
    record = replace(record, source_bytes=stat.st_size, source_mtime_ns=stat.st_mtime_ns)
    partial = _partial(destination)
    try:
        partial.mkdir(parents=True)
        record = decode_into(partial, source, record, short_side, quality, max_frames)
        discard_frames(destination)
        if record.status == "ok":
            os.rename(partial, destination)
    except OSError as error:
        raise StorageError(
            f"frames cannot be written: {error.strerror or error}",
            where=str(destination),
            remedy="check permissions and free space, then repeat the command",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def discard_frames(folder: Path) -> None:
    """Remove a video's frames; the first step is a rename, so that no half of them is ever seen, or renamed back."""
    doomed = _partial(folder)
    try:
        os.rename(folder, doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def discard_partials(images_root: Path) -> int:
    """Remove what killed extractions left behind; returns how many folders. No extraction may be running."""
    partials = list(Path(images_root).glob("*/.*.partial"))
    for path in partials:
        discard_frames(path)
    return len(partials)


def find_videos(videos_root: Path) -> dict[str, Path]:
    """`class/video` -> file, for every video file in the class folders, sorted by key.

    Raises:
        DataError: the folder cannot be listed, or two files have one key.
    """
    found: dict[str, Path] = {}
    for class_name in _folders(videos_root):
        with os.scandir(videos_root / class_name) as entries:
            files = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file())
        for file in files:
            stem, extension = os.path.splitext(file)
            if extension.lower() not in VIDEO_EXTENSIONS:
                continue
            path, key = videos_root / class_name / file, f"{class_name}/{stem}"
            if not _is_utf8(key):
                raise DataError(f"{key!r} is not UTF-8", where=str(videos_root), remedy="rename the file")
            if key in found:
                raise DataError(
                    f"{found[key].name!r} and {file!r} are both video {key!r}",
                    where=str(path.parent),
                    remedy="remove or rename one of the two files",
                )
            found[key] = path
    return found


class FrameStore:
    """Reads frames of one dataset, at random and from any number of processes.

    The manifest says how many frames a video has; a folder without a record (from another tool, numbered from 0 or
    1, padded with zeros or not) is listed once.
    """

    def __init__(self, images_root: Path):
        self.images_root = Path(images_root)
        self._records = read_manifest(self.images_root)
        self._listings: dict[str, _Listing] = {}

    def n_frames(self, video: Video) -> int:
        """Raises: DataError if the video has no frames."""
        record = self._records.get(video.key)
        n = record.n_frames if record and record.status == "ok" else self._listed(video).n
        if n:
            return n
        raise DataError(
            f"has no frames: {record.status}, {record.error}" if record else "has no frames",
            where=str(self._folder(video)),
            remedy="extract the dataset, or take the video out of the split's list",
        )

    def read(self, video: Video, indices: Sequence[int]) -> np.ndarray:
        """Frames of a video as uint8 RGB (frame, height, width, 3), in the order of `indices`, repeats allowed.

        Raises:
            DataError: an index beyond the video, or a frame that is missing, damaged or of another size.
        """
        n = self.n_frames(video)
        wrong = [index for index in indices if not 0 <= index < n]
        if wrong or not len(indices):
            raise DataError(f"frames {wrong} asked of {n} frames", where=str(self._folder(video)))
        frames = [self._frame(video, int(index)) for index in indices]
        if len({frame.shape for frame in frames}) > 1:
            raise DataError(
                f"frames differ in size: {sorted({frame.shape[:2] for frame in frames})}",
                where=str(self._folder(video)),
                remedy="extract the video again",
            )
        return np.stack(frames)

    def missing(self, partition: Partition) -> tuple[Video, ...]:
        """The videos of a partition that have no frames here, in its order."""
        present = {
            f"{class_name}/{name}"
            for class_name in sorted({video.class_name for video in partition.videos})
            for name in (_folders(self.images_root / class_name) if (self.images_root / class_name).is_dir() else ())
        }
        return tuple(video for video in partition.videos if video.key not in present or not self._has_frames(video))

    def _has_frames(self, video: Video) -> bool:
        record = self._records.get(video.key)
        return record.n_frames > 0 if record and record.status == "ok" else self._listed(video).n > 0

    def _folder(self, video: Video) -> Path:
        return self.images_root / video.class_name / video.name

    def _listed(self, video: Video) -> _Listing:
        if video.key not in self._listings:
            try:
                self._listings[video.key] = _listing(os.listdir(self._folder(video)))
            except OSError:
                self._listings[video.key] = _listing([])
        return self._listings[video.key]

    def _frame(self, video: Video, index: int) -> np.ndarray:
        record = self._records.get(video.key)
        name = f"{index}.jpg" if record and record.status == "ok" else self._listed(video).name(index)
        path = self._folder(video) / name
        try:
            encoded = np.fromfile(path, dtype=np.uint8)
            problem = "is not an image"
        except OSError as error:
            encoded, problem = np.empty(0, np.uint8), f"cannot be read: {error.strerror or error}"
        frame = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB) if encoded.size else None
        if frame is None:
            raise DataError(
                problem, where=str(path), remedy=f"delete {self._folder(video)} and extract the dataset again"
            )
        return frame


@dataclass(frozen=True)
class _Listing:
    """The frame files of one folder. Names without a gap are counted, not kept: a dataset has millions."""

    n: int
    first: int = 0
    template: str = ""
    names: tuple[str, ...] = ()

    def name(self, index: int) -> str:
        return self.names[index] if self.names else self.template.format(self.first + index)


def _listing(files: Iterable[str]) -> _Listing:
    numbered = sorted((int(match[1]), file) for file in files if (match := _FRAME_NAME.fullmatch(file)))
    if not numbered:
        return _Listing(0)
    first, name = numbered[0]
    stem, extension = os.path.splitext(name)
    template = f"{{:0{len(stem)}d}}{extension}"
    names = tuple(file for _, file in numbered)
    has_gaps = any(template.format(first + index) != file for index, file in enumerate(names))
    return _Listing(len(names), first, template, names if has_gaps else ())


_FRAME_NAME = re.compile(r"([0-9]+)\.jpe?g", re.IGNORECASE)


def _partial(folder: Path) -> Path:
    """A hidden sibling, on the same file system; the name is cut because file systems bound its length."""
    return folder.with_name(f".{folder.name[:40]}.{uuid.uuid4().hex}.partial")


def _is_utf8(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _folders(root: Path) -> list[str]:
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError as error:
        raise DataError(
            f"cannot be listed: {error.strerror or error}", where=str(root), remedy="check the data root"
        ) from error
