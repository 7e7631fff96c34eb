"""Read, verify and write splits: the classes and videos of the train, val and test partitions.

On disk, in the published layout, `splits/<dataset>/<partition>_class.txt` names one class a line and
`splits/<dataset>/<partition>.list` one `class/video` a line. Names become parts of paths; so that a list cannot leave
the data root, every name must be one visible path component (`hcl.files.names`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hcl.datasets.cards import PARTITIONS, similar_dataset
from hcl.datasets.list_formats import Known, put_right
from hcl.datasets.text_lists import numbered_lines
from hcl.errors import SplitError
from hcl.files.atomic import write_lines
from hcl.files.names import refuse_unsafe_name, shown, some


@dataclass(frozen=True, order=True)
class Video:
    class_name: str
    name: str

    @property
    def key(self) -> str:
        return f"{self.class_name}/{self.name}"


@dataclass(frozen=True)
class Partition:
    """Hold the classes and videos of one part of a data set, both in the order of its files."""

    dataset: str
    name: str
    classes: tuple[str, ...]
    videos: tuple[Video, ...]

    @cached_property
    def labels(self) -> np.ndarray:
        """Return the index of each video's class in `classes`, as read-only int64 (video,)."""
        index = {class_name: position for position, class_name in enumerate(self.classes)}
        labels = np.array([index[video.class_name] for video in self.videos], dtype=np.int64)
        labels.setflags(write=False)
        return labels

    def digest(self) -> str:
        """Return twelve hexadecimal digits that name these classes and videos, their order included."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        content = [self.dataset, self.name, list(self.classes), [video.key for video in self.videos]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Split:
    dataset: str
    partitions: dict[str, Partition]
    notes: tuple[str, ...] = field(default=(), compare=False)  # on corrections of its lists


class Listed(NamedTuple):
    """A partition, and how its lists were read where not as they stand."""

    partition: Partition
    notes: tuple[str, ...]


def read_lists(data_root: Path, dataset: str, partition: str, known: Known) -> Listed:
    """Read and verify one partition; lists of other tools are put right where they can be (`put_right`).

    Args:
        known: tells which names there are.

    Raises:
        SplitError: a file is missing, a line is not `class/video` with a known class and safe names, a class or
            video is listed twice, or a class has no video.
    """
    class_file, list_file = _files(data_root, dataset, partition)
    lines = _lines(class_file), _lines(list_file)
    reading = put_right(*lines, as_it_is=known.as_it_is, by_spelling=known.by_spelling)
    verified = _verified(dataset, partition, (class_file, reading.classes), (list_file, reading.videos))
    return Listed(verified, tuple(f"{list_file}: {note}" for note in reading.notes))


def split_of(dataset: str, listed: Mapping[str, Listed], *, where: str) -> Split:
    """Join the partitions of a data set. Raises SplitError where a class stands in two of them."""
    partitions = {name: one.partition for name, one in listed.items()}
    _refuse_shared_classes(partitions.values(), where=where)
    return Split(dataset, partitions, tuple(note for one in listed.values() for note in one.notes))


def write_split(data_root: Path, dataset: str, partitions: Mapping[str, Partition]) -> None:
    """Write each partition under its key in the published layout, after the same checks as in reading.

    Raises:
        SplitError: reading would not return the same partitions.
        StorageError: the folder cannot be written.
    """
    _refuse_shared_classes(partitions.values(), where=dataset)
    content: dict[Path, list[str]] = {}
    for name, partition in partitions.items():
        class_file, list_file = _files(data_root, dataset, name)
        content[class_file] = list(partition.classes)
        content[list_file] = [video.key for video in partition.videos]
        class_lines, video_lines = ((path, enumerate(content[path], 1)) for path in (class_file, list_file))
        if _verified(dataset, name, class_lines, video_lines) != partition:
            raise SplitError(
                f"partition {partition.name!r} of {partition.dataset!r} would be written as {name!r} of {dataset!r}",
                where=str(list_file),
                remedy="give the partition the names that it is written under",
            )
    for path, lines in content.items():
        write_lines(path, lines)


def merge(partitions: Sequence[Partition], name: str) -> Partition:
    """Merge the classes and videos of several partitions, in their order, to train on all of them.

    Raises:
        SplitError: there is no partition, they are of several data sets, or a class is in two of them.
    """
    datasets = sorted({partition.dataset for partition in partitions})
    if len(datasets) != 1:
        raise SplitError(
            f"partition {name!r} would be merged from datasets {datasets}, expected exactly one",
            remedy="merge partitions of one dataset",
        )
    _refuse_shared_classes(partitions, where=datasets[0])
    return Partition(
        datasets[0],
        name,
        tuple(class_name for partition in partitions for class_name in partition.classes),
        tuple(video for partition in partitions for video in partition.videos),
    )


_Lines = tuple[Path, Iterable[tuple[int, str]]]  # a file and its numbered lines


def _files(data_root: Path, dataset: str, partition: str) -> tuple[Path, Path]:
    refuse_unsafe_name(dataset, what="dataset name", where="dataset")
    refuse_unsafe_name(partition, what="partition name", where="partition")
    folder = Path(data_root) / "splits" / dataset
    return folder / f"{partition}_class.txt", folder / f"{partition}.list"


def _lines(path: Path) -> list[tuple[int, str]]:
    names, folder = ",".join(PARTITIONS), path.parent
    remedy = (
        f"a split has {{{names}}}.list and {{{names}}}_class.txt; check the data root and the name of the "
        "dataset, or make a split of your own videos with `hcl data splits make`"
    )
    if not os.path.lexists(folder):
        hint = similar_dataset(folder.parent.parent, folder.name)
        raise SplitError(f"there are no lists of data set {shown(folder.name)}{hint}", where=str(path), remedy=remedy)
    return numbered_lines(path, remedy=remedy)


def _verified(dataset: str, name: str, class_lines: _Lines, video_lines: _Lines) -> Partition:
    """Verify the lines of two files and return their partition; reading and writing share these checks."""
    (class_file, classes), (list_file, videos) = class_lines, video_lines
    line_of_class: dict[str, int] = {}
    for number, line in classes:
        where = f"{class_file}, line {number}"
        refuse_unsafe_name(line, what="class name", where=where)
        _refuse_repeated(line_of_class.setdefault(line, number), number, what=f"class {shown(line)}", where=where)

    line_of_video: dict[Video, int] = {}
    for number, line in videos:
        where = f"{list_file}, line {number}"
        video = _video(line, where)
        if video.class_name not in line_of_class:
            raise SplitError(
                f"class {shown(video.class_name)} is not among the {len(line_of_class)} classes of {class_file.name}",
                where=where,
                remedy=f"add the class to {class_file.name} or remove the line",
            )
        _refuse_repeated(line_of_video.setdefault(video, number), number, what=f"video {shown(line)}", where=where)
    partition = Partition(dataset, name, tuple(line_of_class), tuple(line_of_video))
    _refuse_empty_classes(partition, where=str(list_file))
    return partition


def _video(line: str, where: str) -> Video:
    class_name, slash, name = line.partition("/")
    if not slash or "/" in name:
        raise SplitError(
            f"{shown(line)} is not `class/video`",
            where=where,
            remedy="write the class, one slash and the video's file name without its extension; no path beyond that",
        )
    refuse_unsafe_name(class_name, what="class name", where=where)
    refuse_unsafe_name(name, what="video name", where=where)
    return Video(class_name, name)


def _refuse_repeated(first: int, number: int, *, what: str, where: str) -> None:
    if first != number:
        raise SplitError(f"{what} is listed here and in line {first}", where=where, remedy="name it once")


def _refuse_empty_classes(partition: Partition, *, where: str) -> None:
    with_videos = {video.class_name for video in partition.videos}
    empty = [class_name for class_name in partition.classes if class_name not in with_videos]
    if empty:
        raise SplitError(
            f"{len(empty)} of {len(partition.classes)} classes have no video: {some(empty)}",
            where=where,
            remedy="list videos of these classes or remove them from the class file",
        )


def _refuse_shared_classes(partitions: Iterable[Partition], *, where: str) -> None:
    for partition, other in combinations(partitions, 2):
        shared = sorted(set(partition.classes) & set(other.classes))
        if shared:
            raise SplitError(
                f"partitions {partition.name} and {other.name} share {len(shared)} classes: {some(shared)}",
                where=where,
                remedy="few-shot partitions must not share classes: leave each class in one of them",
            )
