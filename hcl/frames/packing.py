"""From folders of frames to shards and back, in place: what was interrupted goes on when it is repeated."""

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
    """What a call moved from one store to the other, and the shards that lie there now."""

    n_moved: int  # videos
    n_shards: int
    n_bytes: int  # of the shards
    n_left: int = 0  # videos that stay in folders, because other files lie beside their frames


def pack_dataset(
    images_root: Path, *, videos_per_shard: int = VIDEOS_PER_SHARD, on_video: Callable[[], None] = lambda: None
) -> PackSummary:
    """Move folders of frames into shards; folders go once their shard is whole, read back and in its place.

    A folder that holds more than frames is left as it is: what lies beside them is nobody's to remove here.
    New shards take videos in the order of their names. A video that was extracted again since is packed again, into
    the shard that it was in; a copy of what has no frames any more is dropped.

    Args:
        on_video: called for each video that was moved.
    Raises:
        DataError: there are no frames, or a video's frames are not those that were extracted.
        StorageError: a shard cannot be written, or another command is at work on the dataset.
    """
    n_moved = 0
    with exclusive(images_root), _storage_errors(images_root):
        discard_partials(images_root)
        records = read_manifest(images_root)
        found = _folders(images_root, records)
        folders = {key: folder for key, folder in found.items() if not _holds_more(folder)}
        if not found and not shard_paths(images_root):
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
        return replace(_summary(images_root, n_moved), n_left=len(found) - len(folders))


def unpack_dataset(images_root: Path, *, on_video: Callable[[], None] = lambda: None) -> PackSummary:
    """Move all frames out of the shards into folders; a shard goes once its videos are in their places.

    Raises:
        DataError: there are no shards, or a video's frames are not those that were packed.
        StorageError: frames cannot be written, or another command is at work on the dataset.
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
            os.sync()  # one call for thousands of frames, before the only copy on the disk goes
            path.unlink()
        return _summary(images_root, n_moved)


@dataclass(frozen=True)
class _Job:
    """One shard: what it is to hold, in order, and the current copies that it holds already."""

    path: Path
    keys: tuple[str, ...]
    copies: dict[str, PackedVideo]
    is_settled: bool  # nothing has to be written


def _jobs(
    images_root: Path, folders: dict[str, FrameFolder], records: dict[str, VideoRecord], videos_per_shard: int
) -> list[_Job]:
    """The shards that there are, then new ones for the rest: the same plan wherever an earlier call was stopped."""
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
        Shard.opened(partial).verify()  # before anything that it was made of goes
        os.replace(partial, job.path)
        sync_folder(job.path.parent)  # before the folders go, whose frames it holds
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
    """The folders that hold frames, by key. Those of videos that are recorded as broken are left alone."""
    found = {}
    for class_name in folder_names(images_root):
        for name in folder_names(images_root / class_name):
            path, record = images_root / class_name / name, records.get(f"{class_name}/{name}")
            if record is None or record.status == "missing":
                found[f"{class_name}/{name}"] = FrameFolder.listed(path)
            elif record.status == "ok":
                found[record.key] = FrameFolder(path, record.n_frames)
    return {key: folder for key, folder in found.items() if folder.n_frames}


def _holds_more(folder: FrameFolder) -> bool:
    """Return whether a folder holds more than the frames that are counted in it."""
    return sum(not is_litter(file) for file in os.listdir(folder.path)) > folder.n_frames


def _digest(folder: FrameFolder, record: VideoRecord | None) -> str:
    return record.digest if record and record.digest else frames_digest(folder.read(range(folder.n_frames)))


def _checked(folder: FrameFolder, record: VideoRecord | None) -> list[bytes]:
    """All frames of a folder, if they are those that were extracted. Raises DataError."""
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
