"""Compare the listed videos of a data set with the files on disk, and plan the remaining extraction."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hcl.datasets.cards import similar_dataset
from hcl.datasets.manifest import VideoRecord
from hcl.datasets.sources import find_sources
from hcl.datasets.spellings import nearest
from hcl.datasets.splits import Partition, Video
from hcl.datasets.video_files import read_tree
from hcl.errors import DataError
from hcl.files.atomic import write_lines
from hcl.frames.extraction import ExtractionJob
from hcl.frames.shards import shard_paths
from hcl.frames.stored_dataset import StoredDataset


@dataclass(frozen=True)
class Inventory:
    """Hold the videos of a data set by key, `class/video`."""

    listed: list[str]  # all videos that should have frames, sorted
    files: dict[str, Path]  # the videos that have a video file
    present: frozenset[str]  # videos with a folder of frames in the listed classes, and all packed videos
    notes: tuple[str, ...] = ()  # on videos that were left out or read in a special way

    @property
    def missing(self) -> list[str]:
        """Return the listed videos with neither a file nor frames; files may be deleted after extraction."""
        return [key for key in self.listed if key not in self.files and key not in self.present]


def take_inventory(stored: StoredDataset) -> Inventory:
    """List the videos of all partitions of a data set's split, or without a split all that are found.

    The data set's card names the places of the files (`hcl.datasets.cards`).

    Raises:
        DataError: no listed video has a file or frames, or the split contradicts itself.
        ConfigError: the dataset's card is wrong.
    """
    videos_root, images_root = stored.data_root / "videos" / stored.name, stored.images_root
    has_split = stored.lists.is_dir()
    if has_split:
        split = stored.split
        videos, notes = [video for partition in split.partitions.values() for video in partition.videos], split.notes
        respelled: list[str] = []
        files = find_sources(stored.data_root, stored.card, videos, respelled=respelled)
        listed, notes = sorted({video.key for video in videos}), (*notes, *respelled_notes(respelled, files))
    else:
        tree = read_tree(videos_root) if videos_root.is_dir() else None
        files, notes = (tree.files, tree.notes) if tree else ({}, ())
        listed = sorted(files)
    present = frozenset(_present(images_root, {key.partition("/")[0] for key in listed}))
    if shard_paths(images_root):
        present |= stored.frames.packed_keys()
    if absent := [Video(*key.split("/", 1)) for key in listed if key not in files and key not in present]:
        lacking = stored.frames.missing(Partition(stored.name, "", (), tuple(absent)))
        present |= {video.key for video in absent} - {video.key for video in lacking}  # under another spelling
    if not any(key in files or key in present for key in listed):
        example = Video(*listed[0].split("/", 1)) if listed else None
        raise nothing_found(stored, len(listed) if has_split else None, example)
    return Inventory(listed, files, present, notes)


def respelled_notes(respelled: list[str], files: dict[str, Path]) -> list[str]:
    """Return a note on videos that were found under another spelling of their names."""
    if not respelled:
        return []
    example = f"{respelled[0]!r} in {files[respelled[0]]}"
    return [f"{len(respelled):,} videos were found under another spelling of their names, such as {example}"]


def nothing_found(stored: StoredDataset, n_listed: int | None, example: Video | None = None) -> DataError:
    """Return the error of a data root without one video of a data set: where it was looked for, and where to get it.

    Args:
        example: a listed video; the error shows a path that was searched and the most similar existing name.
    """
    data_root, card = stored.data_root, stored.card
    places = ", ".join(card.videos).replace("{dataset}", card.name)
    if example is not None:
        folder, stem = card.places(example.class_name, example.name)[0]
        path = Path(data_root, folder, stem)
        near = nearest(path, Path(path.anchor) if Path(folder).is_absolute() else Path(data_root))
        places += f"; {path}.* was looked for, and {near}"
    empty = f"holds no videos{similar_dataset(data_root, card.name)}"
    return DataError(
        empty if n_listed is None else f"holds none of the {n_listed:,} videos that the split lists",
        where=str(data_root / "videos" / card.name),
        remedy=f"below {data_root}, videos are looked for as {places}; check the data root and the name of the dataset"
        f"{f'. {card.title}: {card.obtain}' if card.obtain else ''}",
    )


def settle_missing(images_root: Path, inventory: Inventory, records: dict[str, VideoRecord]) -> None:
    """Update the records of missing videos and `missing.txt`, which exists only if videos are missing."""
    missing = inventory.missing
    for key in inventory.present:
        if key in records and records[key].status == "missing":
            del records[key]  # frames have been added since
    for key in missing:
        class_name, _, name = key.partition("/")
        records[key] = VideoRecord(class_name, name, "missing", error="no video file of this name")
    path = images_root / "missing.txt"
    if missing:
        write_lines(path, missing)
    else:
        path.unlink(missing_ok=True)


def keep_frames_of_others(
    images_root: Path, inventory: Inventory, records: dict[str, VideoRecord], *, is_first: bool
) -> Inventory:
    """Take videos from the files to extract if they have frames of another tool, which stay; a note tells of them.

    Frames without a record are from another tool if nothing was ever extracted here, or if `extract` names its files
    otherwise. Else they are from an extraction that was killed, and are extracted again.

    Args:
        is_first: whether nothing has been extracted here before.
    """
    unrecorded = [key for key in inventory.files if key in inventory.present and key not in records]
    folders = {key: images_root / key for key in unrecorded if (images_root / key).is_dir()}
    kept = {key for key, folder in folders.items() if is_first or not _is_extracted(folder)}
    if not kept:
        return inventory
    note = (
        f"{len(kept):,} videos keep the frames of another tool, such as those in {images_root / min(kept)}; remove the "
        "folder of a video to extract it"
    )
    files = {key: path for key, path in inventory.files.items() if key not in kept}
    return replace(inventory, files=files, notes=(*inventory.notes, note))


def _is_extracted(folder: Path) -> bool:
    """Return true if a folder is empty, or holds 0.jpg, 1.jpg and so on, and nothing else."""
    names = set(os.listdir(folder))
    return names == {f"{index}.jpg" for index in range(len(names))}


def extraction_jobs(
    images_root: Path,
    inventory: Inventory,
    records: dict[str, VideoRecord],
    digest: str,
    *,
    retry_failed: bool = False,
) -> list[ExtractionJob]:
    """Return jobs for the listed videos without a record of frames or failure for exactly this file and these options.

    Videos recorded by a version without a second decoder are included once, because their frames may be wrong.
    """
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
                if record.is_unconfirmed:
                    jobs.append(ExtractionJob(source, relative, images_root / key, record))
                continue
        jobs.append(ExtractionJob(source, relative, images_root / key))
    return jobs


def _present(images_root: Path, classes: Iterable[str]) -> Iterator[str]:
    for class_name in classes:
        if (images_root / class_name).is_dir():
            with os.scandir(images_root / class_name) as entries:
                yield from (f"{class_name}/{entry.name}" for entry in entries if entry.is_dir())
