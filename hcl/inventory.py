"""What a dataset lists, what lies on disk of it, and what an extraction has still to do."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hcl.errors import DataError
from hcl.extraction import find_videos
from hcl.frames import packed_keys
from hcl.manifest import VideoRecord
from hcl.splits import read_split, refuse_unsafe_name


@dataclass(frozen=True)
class Inventory:
    """Videos by key, `class/video`."""

    listed: list[str]  # all that should have frames, sorted
    files: dict[str, Path]  # those that have a video file
    present: frozenset[str]  # those of the listed classes that have a folder of frames, and all that are packed

    @property
    def missing(self) -> list[str]:
        """Listed without a file; not those with frames, for videos may be deleted once extracted."""
        return [key for key in self.listed if key not in self.files and key not in self.present]


@dataclass(frozen=True)
class ExtractionJob:
    source: Path
    relative: str  # of the source to the dataset's videos: the manifest stays true where the data root is moved
    destination: Path


def take_inventory(data_root: Path, dataset: str) -> Inventory:
    """Listed are the videos of all partitions of the dataset's split; without a split, all that are found.

    Raises:
        DataError: there is neither a video nor a frame of what is listed, or the split contradicts itself.
    """
    refuse_unsafe_name(dataset, what="dataset name", where="dataset")
    videos_root, images_root = data_root / "videos" / dataset, data_root / "images" / dataset
    has_split = (data_root / "splits" / dataset).is_dir()
    files = find_videos(videos_root) if videos_root.is_dir() else {}
    listed = sorted(files)
    if has_split:
        partitions = read_split(data_root, dataset).partitions.values()
        listed = sorted({video.key for partition in partitions for video in partition.videos})
    present = frozenset(_present(images_root, {key.partition("/")[0] for key in listed})) | packed_keys(images_root)
    if not any(key in files or key in present for key in listed):
        raise DataError(
            f"holds none of the {len(listed)} videos that the split lists" if has_split else "holds no videos",
            where=str(videos_root),
            remedy=f"put the videos into {videos_root}/<class>/, or check the data root and the name of the dataset",
        )
    return Inventory(listed, files, present)


def settle_missing(images_root: Path, inventory: Inventory, records: dict[str, VideoRecord]) -> None:
    """Bring the records of missing videos up to date, and `missing.txt`, which exists only where some are."""
    missing = inventory.missing
    for key in inventory.present:
        if key in records and records[key].status == "missing":
            del records[key]  # frames came from elsewhere since
    for key in missing:
        class_name, _, name = key.partition("/")
        records[key] = VideoRecord(class_name, name, "missing", error="no video file of this name")
    path = images_root / "missing.txt"
    if missing:
        partial = images_root / f".missing.{uuid.uuid4().hex}.partial"
        partial.write_text("".join(f"{key}\n" for key in missing), encoding="utf-8")
        os.replace(partial, path)
    else:
        path.unlink(missing_ok=True)


def extraction_jobs(
    images_root: Path,
    inventory: Inventory,
    records: dict[str, VideoRecord],
    digest: str,
    *,
    retry_failed: bool = False,
) -> list[ExtractionJob]:
    """The listed videos whose frames, or failure, are not on record for this very file and these options."""
    jobs = []
    for key in inventory.listed:
        if key not in inventory.files:
            continue
        source, record = inventory.files[key], records.get(key)
        relative = f"{source.parent.name}/{source.name}"
        if record is not None:
            stat = source.stat()
            stamp = (record.source, record.source_bytes, record.source_mtime_ns, record.options_digest)
            is_settled = key in inventory.present if record.status == "ok" else not retry_failed
            if is_settled and stamp == (relative, stat.st_size, stat.st_mtime_ns, digest):
                continue
        jobs.append(ExtractionJob(source, relative, images_root / key))
    return jobs


def _present(images_root: Path, classes: Iterable[str]) -> Iterator[str]:
    for class_name in classes:
        if (images_root / class_name).is_dir():
            with os.scandir(images_root / class_name) as entries:
                yield from (f"{class_name}/{entry.name}" for entry in entries if entry.is_dir())
