"""Check a data set for `hcl data check`: compare its lists with the files, and write the effective split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from hcl.datasets.cards import Counts, DatasetCard
from hcl.datasets.copies import Original, find_copies, same_files
from hcl.datasets.manifest import VideoRecord
from hcl.datasets.sources import find_sources
from hcl.datasets.splits import Partition, Video
from hcl.datasets.video_files import is_unfinished, is_video, leftovers
from hcl.files.atomic import write_lines
from hcl.files.names import some
from hcl.frames.effective import without, write_effective
from hcl.frames.inventory import nothing_found, respelled_notes
from hcl.frames.store import FrameStore
from hcl.frames.stored_dataset import StoredDataset

NO_FILE = "no video file and no frames"
OF_CHECK = ("effective.json", "missing.txt", "broken.txt", "copies.txt")
"""The files that a check keeps beside the lists."""

OpenFiles = Callable[[Mapping[str, Path]], Mapping[str, str]]
"""Function that opens video files and folders of frames by key, and returns the problem of each unreadable one."""


@dataclass(frozen=True)
class PartitionCheck:
    """Divide a partition's videos into missing, broken, waiting for extraction and extracted (short ones included)."""

    listed: Partition
    expected: Counts | None
    missing: tuple[Video, ...]
    broken: dict[Video, str]  # with the reason
    waiting: tuple[Video, ...]
    short: dict[Video, int]  # with the number of frames; they are used, and their clips repeat frames
    copies: dict[Video, Original] = field(default_factory=dict)  # left out, unless an experiment keeps copies

    @property
    def n_present(self) -> int:
        """Return the number of videos that have a readable file or frames."""
        return len(self.listed.videos) - len(self.missing) - len(self.broken)

    @property
    def left_out(self) -> dict[Video, str]:
        """Return the videos that training and evaluation leave out, with the reason, in the order of the list."""
        reasons = self.broken | dict.fromkeys(self.missing, NO_FILE)
        return {video: reasons[video] for video in self.listed.videos if video in reasons}


@dataclass(frozen=True)
class DatasetCheck:
    """Hold the result of `check_dataset`."""

    card: DatasetCard
    partitions: tuple[PartitionCheck, ...]
    min_frames: int
    repeated: tuple[str, ...] = field(default=())  # names of videos that are listed in several classes
    unconfirmed: tuple[str, ...] = field(default=())  # keys of videos whose OpenCV frames were never verified
    notes: tuple[str, ...] = ()  # on the reading of the lists, and on files beside the videos

    @property
    def is_extracted(self) -> bool:
        """Return true if every present video has frames, so that the effective split is known."""
        return not any(part.waiting for part in self.partitions)

    def warnings(self) -> list[str]:
        """Return the problems for which a strict check fails."""
        warnings = []
        for part in self.partitions:
            name, listed = part.listed.name, part.listed
            if part.expected is not None:
                pairs = [
                    ("classes", len(listed.classes), part.expected.classes),
                    ("videos", len(listed.videos), part.expected.videos),
                ]
                warnings += [f"{name}: {n:,} {what} listed, {due:,} expected" for what, n, due in pairs if n != due]
            for what, videos in (("missing", part.missing), ("broken", tuple(part.broken))):
                if videos:
                    names = some([video.key for video in videos], 3)
                    warnings.append(f"{name}: {len(videos):,} of {len(listed.videos):,} videos {what}: {names}")
        if self.repeated:
            warnings.append(f"{len(self.repeated):,} videos are listed in several classes: {some(self.repeated, 3)}")
        return warnings


def check_dataset(stored: StoredDataset, *, min_frames: int = 8, open_files: OpenFiles | None = None) -> DatasetCheck:
    """Compare the lists of a data set with what lies in the data root.

    Args:
        min_frames: videos with fewer frames are reported as short.
        open_files: called once with the files that have no frames yet and with the folders of frames; with None only
            empty files are reported as broken.

    Raises:
        SplitError: the lists contradict themselves or each other.
        DataError: none of the listed videos is present.
    """
    card, split = stored.card, stored.split
    videos = [video for partition in split.partitions.values() for video in partition.videos]
    respelled: list[str] = []
    files = find_sources(stored.data_root, card, videos, respelled=respelled)
    store, records = stored.frames, stored.records
    without_frames = {video for part in split.partitions.values() for video in store.missing(part)}
    if not files and len(without_frames) == len(videos):
        raise nothing_found(stored, len(videos), videos[0])
    waiting, broken = _without_frames(without_frames, files, records)
    if open_files is not None:
        extracted = {video: store.folder_of(video) for video in videos if video not in without_frames}
        opened = {video: files[video.key] for video in videos if video in waiting}
        opened |= {video: folder for video, folder in extracted.items() if folder is not None}
        problems = open_files({video.key: path for video, path in opened.items()})
        broken |= {video: problems[video.key] for video in opened if video.key in problems}
    unreadable = {video.key for video in broken}
    whole = {key: file for key, file in files.items() if key not in unreadable}
    checked, copies = [], find_copies(_contents(split.partitions, store, whole, without_frames))
    for name, listed in split.partitions.items():
        bad = {video: broken[video] for video in listed.videos if video in broken}
        lacking = [video for video in listed.videos if video in without_frames and video not in bad]
        n_frames = {video: store.n_frames(video) for video in listed.videos if video not in without_frames}
        checked.append(
            PartitionCheck(
                listed,
                card.partitions.get(name),  # type: ignore[call-overload]
                missing=tuple(video for video in lacking if video not in waiting),
                broken=bad,
                waiting=tuple(video for video in lacking if video in waiting),
                short={video: n for video, n in n_frames.items() if n < min_frames},
                copies=copies[name],
            )
        )
    counts = Counter(video.name for video in videos)
    repeated = tuple(name for name, n in counts.items() if n > 1) if _names_are_global(card) else ()
    unconfirmed = tuple(
        video.key
        for video in videos
        if video not in without_frames and video.key in records and records[video.key].is_unconfirmed
    )
    notes = (*split.notes, *respelled_notes(respelled, files), *_leftover_notes(files.values()))
    return DatasetCheck(card, tuple(checked), min_frames, repeated, unconfirmed, notes)


def keep_names(stored: StoredDataset, check: DatasetCheck) -> list[Path]:
    """Write `missing.txt`, `broken.txt` and `copies.txt` beside the lists, which exist only where there are some.

    Returns:
        The files written.
    """
    written = []
    missing = [video.key for part in check.partitions for video in part.missing]
    broken = [
        f"{video.key}\t{' '.join(why.split())}" for part in check.partitions for video, why in part.broken.items()
    ]
    copies = [
        f"{part.listed.name}\t{video.key}\t{original.partition}\t{original.video.key}"
        for part in check.partitions
        for video, original in part.copies.items()
    ]
    for name, lines in (("missing.txt", missing), ("broken.txt", broken), ("copies.txt", copies)):
        if lines:
            written.append(write_lines(stored.lists / name, lines))
        else:
            (stored.lists / name).unlink(missing_ok=True)
    return written


def keep_effective(stored: StoredDataset, check: DatasetCheck) -> dict[str, Partition]:
    """Write the effective split; returns its partitions.

    Raises:
        DataError: a class would lose all of its videos; then nothing is written.
    """
    write_effective(stored.effective_file, [(part.listed, part.left_out, part.copies) for part in check.partitions])
    return {
        part.listed.name: without(part.listed, {**part.left_out, **dict.fromkeys(part.copies, "")})
        for part in check.partitions
    }


def _contents(
    partitions: Mapping[str, Partition], store: FrameStore, files: Mapping[str, Path], without_frames: set[Video]
) -> dict[str, dict[Video, str]]:
    """Return a digest of each video's content: that of its frames or, without frames, that of its file's bytes.

    A video without frames whose file equals that of a video with frames gets the digest of these frames.
    """
    videos = [video for partition in partitions.values() for video in partition.videos]
    frames = store.digests(videos)
    listed = {video: files[video.key] for video in videos if video.key in files}
    of_file = same_files(listed, among=without_frames)
    by_file = {of_file[video]: frames[video] for video in of_file if video in frames}
    contents = {video: by_file.get(digest, digest) for video, digest in of_file.items()} | frames
    return {
        name: {video: contents[video] for video in partition.videos if video in contents}
        for name, partition in partitions.items()
    }


def _leftover_notes(files: Iterable[Path]) -> list[str]:
    """Return a note on leftover files of downloaders in the folders of the videos."""
    unused: list[str] = []
    for folder in sorted({path.parent for path in files}):
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
        unused += [str(folder / name) for name in leftovers(filter(is_video, names))]
        unused += [str(folder / name) for name in names if is_unfinished(name)]
    if not unused:
        return []
    return [f"{len(unused):,} files look like leftovers of a downloader: {some(unused, 3)}; unlisted ones are not used"]


def _without_frames(
    videos: set[Video], files: Mapping[str, Path], records: Mapping[str, VideoRecord]
) -> tuple[set[Video], dict[Video, str]]:
    """Divide the videos without frames into those that wait for extraction and those that are broken, with reasons."""
    waiting, broken = set(), {}
    for video in videos:
        record, file = records.get(video.key), files.get(video.key)
        stat = file.stat() if file is not None else None
        if _has_failed(record, stat):
            broken[video] = record.error or record.status
        elif stat is not None and stat.st_size:
            waiting.add(video)
        elif stat is not None:
            broken[video] = "the file is empty"
    return waiting, broken


def _has_failed(record: VideoRecord | None, stat: os.stat_result | None) -> TypeGuard[VideoRecord]:
    """Return true if extraction has failed on exactly this file, or on one that is gone."""
    if record is None or record.status not in ("broken", "timeout"):
        return False
    if stat is None:
        return True
    is_same = (stat.st_size, stat.st_mtime_ns) == (record.source_bytes, record.source_mtime_ns)
    return is_same and not record.is_unconfirmed  # otherwise the second decoder may read it


def _names_are_global(card: DatasetCard) -> bool:
    """Return true if files are not in class folders, so that a name in two classes is one video with two labels."""
    return any("{class}" not in place for place in card.videos)
