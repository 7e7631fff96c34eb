"""Find and read clips that belong to no data set: video files, and folders of frames.

Their frames are those that an extraction and an evaluation would use: a video is decoded into JPEGs of the same size
and quality, and frames of another tool are read as they are.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hcl.datasets.splits import Video
from hcl.datasets.video_files import walk_folders
from hcl.errors import DataError, VideoError
from hcl.files.disk_errors import storing
from hcl.frames.decoding import FrameOptions
from hcl.frames.extraction import extract_video
from hcl.frames.folders import FrameFolder, folder_names
from hcl.frames.store import FrameStore
from hcl.videos.jpegs import frames_digest

VIDEO = Video("loose", "clip")
"""The name of the only video in the store of `opened_clip`."""


@dataclass(frozen=True)
class LooseClip:
    """Name a video file, or a folder of frames.

    Attributes:
        path: the file or folder.
        name: its name for people: the path that was searched, and the path below it.
    """

    path: Path
    name: str

    def digest(self) -> str:
        """Return 32 hexadecimal digits of the content, whatever its name. Raises DataError if it cannot be read."""
        if self.path.is_dir():
            frames = FrameFolder.listed(self.path)
            return frames_digest(frames.read(range(frames.n_frames)))
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):  # reading a named pipe would wait for ever
                raise VideoError("is no ordinary file", where=str(self.path))
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()[:32]
        except OSError as error:
            raise VideoError(f"cannot be opened: {error.strerror or error}", where=str(self.path)) from error


def find_clips(path: Path) -> list[LooseClip]:
    """Return the clip at a path, or those in a folder and its subfolders, sorted.

    A folder with numbered images and no video is one clip. A file is a clip whatever its name. Of a folder, files
    without a video's extension are left out, and so are hidden files and unfinished downloads.

    Raises:
        DataError: there is no such path, nothing in the folder is a clip, or it cannot be listed.
    """
    if not path.is_dir():
        if not path.exists():
            raise DataError("no such file or folder", where=str(path), remedy="check the path")
        return [LooseClip(path, str(path))]
    clips = []
    for folder in walk_folders(path):
        place = Path(path, *folder.parts)
        files = [place / name for name in folder.videos] or ([place] if folder.n_images else [])
        clips += [LooseClip(file, str(file)) for file in files]
    if not clips:
        raise DataError(
            "holds no video and no folder of frames",
            where=str(path),
            remedy="give a video file, a folder of numbered images, or a folder that contains some",
        )
    return sorted(clips, key=lambda clip: clip.name)


def find_support(root: Path) -> dict[str, list[LooseClip]]:
    """Return the clips of each class: each subfolder of `root` is a class with its clips, in the order of names.

    Raises:
        DataError: there are fewer than two classes, a class has no clip, or a folder cannot be listed.
    """
    if not root.is_dir():
        raise DataError("no such folder", where=str(root), remedy="give a folder with a subfolder of clips a class")
    names = folder_names(root)
    if len(names) < 2:
        raise DataError(
            f"has {len(names)} subfolder(s), and each is a class; at least two are needed",
            where=str(root),
            remedy="put the labelled clips of each class into a subfolder of its own",
        )
    return {name: find_clips(root / name) for name in names}


@contextmanager
def opened_clip(clip: LooseClip, options: FrameOptions) -> Iterator[FrameStore]:
    """Open a clip as a store of frames, in which it is `VIDEO`; a video's frames are in a temporary folder.

    Raises:
        DataError: no frame of the clip can be read, here or in the block; it names the clip.
        StorageError: the temporary folder cannot be written.
    """
    with storing(Path(tempfile.gettempdir())):
        scratch = tempfile.TemporaryDirectory(prefix="hcl-clip-", ignore_cleanup_errors=True)
    with scratch as folder:
        place = Path(folder, VIDEO.class_name, VIDEO.name)
        place.parent.mkdir()
        if clip.path.is_dir():
            place.symlink_to(os.path.abspath(clip.path), target_is_directory=True)
            store = FrameStore(Path(folder), records={})
        else:
            record = extract_video(clip.path, place, options)
            if record.status != "ok":
                raise VideoError(record.error or "no frame could be decoded", where=str(clip.path))
            store = FrameStore(Path(folder), records={record.key: record})
        try:
            yield store
        except DataError as error:
            where = (error.where or "").replace(str(place), str(clip.path))
            raise DataError(error.problem, where=where or str(clip.path)) from error
