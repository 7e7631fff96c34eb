"""Pack folders of frames into shards and unpack them, in place; a repeated command resumes an interrupted one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

from hcl.datasets.manifest import VideoRecord, read_manifest
from hcl.datasets.splits import Video
from hcl.errors import DataError, StorageError
from hcl.files.atomic import discard_folder, partial_of, publish_folder, sync_folder
from hcl.files.disk_errors import remedy_for
from hcl.files.locking import exclusive
from hcl.frames.extraction import discard_partials
from hcl.frames.folders import FrameFolder, folder_names, is_litter
from hcl.frames.shards import PackedVideo, Shard, shard_paths, write_shard
from hcl.frames.store import is_current
from hcl.videos.jpegs import frames_digest

VIDEOS_PER_SHARD = 300


@dataclass(frozen=True)
class PackSummary:
    """Hold the number of videos that a call moved, and the shards that exist after it."""

    n_moved: int  # videos
    n_shards: int
    n_bytes: int  # of the shards
    n_left: int = 0  # videos that stay in folders, because there are other files beside their frames


def pack_dataset(
    images_root: Path, *, videos_per_shard: int = VIDEOS_PER_SHARD, on_video: Callable[[], None] = lambda: None
) -> PackSummary:
    """Move folders of frames into shards; folders are removed after their shard was written, read back and renamed.

    A folder that holds other files beside its frames is left unchanged, so that no user's file is removed.
    New shards take videos in the order of their names. A video that was extracted again is packed again into the shard
    that held it; the packed copy of a video that has no frames any more is dropped.

    Args:
        on_video: called for each video that was moved.
    Raises:
        DataError: there are no frames, or a video's frames are not those that were extracted.
        StorageError: a shard cannot be written, or another command is writing the data set.
    """
    n_moved = 0
    with exclusive(images_root), _storage_errors(images_root):
        discard_partials(images_root)
        records = read_manifest(images_root)
        all_folders = _folders(images_root, records)
        folders = {key: folder for key, folder in all_folders.items() if not _holds_more(folder)}
        if not all_folders and not shard_paths(images_root):
            raise DataError("holds no frames", where=str(images_root), remedy="extract the dataset first")
        for job in _jobs(images_root, folders, records, videos_per_shard):
            if not job.is_settled:
                _write(job, folders, records)
            for key in job.keys:
                if key in folders:
                    discard_folder(folders[key].path)
                    n_moved += 1
                    on_video()
        for class_name in folder_names(images_root):
            with suppress(OSError):  # not empty
                os.rmdir(images_root / class_name)
        return replace(_summary(images_root, n_moved), n_left=len(all_folders) - len(folders))


def unpack_dataset(images_root: Path, *, on_video: Callable[[], None] = lambda: None) -> PackSummary:
    """Move all frames out of the shards into folders; a shard is removed after all of its videos were written.

    Raises:
        DataError: there are no shards, or a video's frames are not those that were packed.
        StorageError: frames cannot be written, or another command is writing the data set.
    """
    n_moved = 0
    with exclusive(images_root), _storage_errors(images_root):
        discard_partials(images_root)
        records, paths = read_manifest(images_root), shard_paths(images_root)
        if not paths:
            raise DataError("holds no shards", where=str(images_root), remedy="there is nothing to unpack")
        for path in paths:
            for packed in Shard.opened(path).videos():
                folder = images_root / packed.video.key
                if is_current(packed, records.get(packed.video.key)) and not FrameFolder.listed(folder).n_frames:
                    _write_folder(folder, packed)
                    n_moved += 1
                    on_video()
            os.sync()  # one call for thousands of frames, before the only other copy is removed
            path.unlink()
        return _summary(images_root, n_moved)


@dataclass(frozen=True)
class _Job:
    """Plan one shard: the videos that it will hold, in order, and the current copies that it already holds."""

    path: Path
    keys: tuple[str, ...]
    copies: dict[str, PackedVideo]
    is_settled: bool  # nothing has to be written


def _jobs(
    images_root: Path, folders: dict[str, FrameFolder], records: dict[str, VideoRecord], videos_per_shard: int
) -> list[_Job]:
    """Plan the existing shards, then new ones for the other videos; an interrupted call is planned the same way."""
    jobs, paths = [], shard_paths(images_root)
    new = set(folders)
    for path in paths:
        held = {packed.video.key: packed for packed in Shard.opened(path).videos()}
        copies = {key: packed for key, packed in held.items() if is_current(packed, records.get(key))}
        keys = tuple(key for key in held if key in copies or key in folders)
        changed = [
            key for key in keys if key in folders and _digest(folders[key], records.get(key)) != held[key].digest
        ]
        jobs.append(_Job(path, keys, copies, is_settled=keys == tuple(held) and not changed))
        new -= held.keys()
    numbers = (number for number in count() if _shard_path(images_root, number) not in paths)
    rest = iter(sorted(new))
    while some := tuple(islice(rest, videos_per_shard)):
        jobs.append(_Job(_shard_path(images_root, next(numbers)), some, {}, is_settled=False))
    return jobs


def _write(job: _Job, folders: dict[str, FrameFolder], records: dict[str, VideoRecord]) -> None:
    if not job.keys:
        job.path.unlink()
        return

    def videos() -> Iterator[tuple[Video, list[bytes]]]:
        for key in job.keys:
            frames = _checked(folders[key], records.get(key)) if key in folders else job.copies[key].read()
            yield Video(*key.split("/")), frames

    partial = partial_of(job.path)
    try:
        write_shard(partial, videos())
        Shard.opened(partial).verify()  # before its sources are removed
        os.replace(partial, job.path)
        sync_folder(job.path.parent)  # before the packed folders are removed
    finally:
        partial.unlink(missing_ok=True)


def _write_folder(folder: Path, packed: PackedVideo) -> None:
    if folder.exists():
        raise DataError("holds files that are no frames", where=str(folder), remedy="move it away, and unpack again")
    frames = packed.read()
    partial = partial_of(folder)
    folder.parent.mkdir(exist_ok=True)
    try:
        partial.mkdir()
        for index, frame in enumerate(frames):
            (partial / f"{index}.jpg").write_bytes(frame)
        publish_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _folders(images_root: Path, records: dict[str, VideoRecord]) -> dict[str, FrameFolder]:
    """Return the folders that hold frames by key, without those of videos that are recorded as broken."""
    folders = {}
    for class_name in folder_names(images_root):
        for name in folder_names(images_root / class_name):
            path, record = images_root / class_name / name, records.get(f"{class_name}/{name}")
            if record is None or record.status == "missing":
                folders[f"{class_name}/{name}"] = FrameFolder.listed(path)
            elif record.status == "ok":
                folders[record.key] = FrameFolder(path, record.n_frames)
    return {key: folder for key, folder in folders.items() if folder.n_frames}


def _holds_more(folder: FrameFolder) -> bool:
    """Return true if a folder holds other files beside its frames."""
    return sum(not is_litter(file) for file in os.listdir(folder.path)) > folder.n_frames


def _digest(folder: FrameFolder, record: VideoRecord | None) -> str:
    return record.digest if record and record.digest else frames_digest(folder.read(range(folder.n_frames)))


def _checked(folder: FrameFolder, record: VideoRecord | None) -> list[bytes]:
    """Return all frames of a folder. Raises DataError if they differ from those that were extracted."""
    frames = folder.read(range(folder.n_frames))
    if record and record.digest and frames_digest(frames) != record.digest:
        raise DataError(
            "its frames are not those that were extracted",
            where=str(folder.path),
            remedy="delete the folder and extract the dataset again",
        )
    return frames


def _shard_path(images_root: Path, number: int) -> Path:
    return images_root / f"shard-{number:05d}.tar"


def _summary(images_root: Path, n_moved: int) -> PackSummary:
    sizes = [path.stat().st_size for path in shard_paths(images_root)]
    return PackSummary(n_moved, len(sizes), sum(sizes))


@contextmanager
def _storage_errors(images_root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"frames cannot be moved: {error.strerror or error}",
            where=str(error.filename or images_root),
            remedy=f"{remedy_for(error)}, then repeat the command",
        ) from error
