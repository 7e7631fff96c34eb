"""Read lists that lie beside videos: CSV and text files that name a class or a partition for each video."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hcl.datasets.text_lists import numbered_lines
from hcl.datasets.video_files import PART_NAMES, is_video
from hcl.errors import SplitError

_EXTENSIONS = frozenset({".txt", ".csv", ".tsv", ".list"})
_FOLDERS = frozenset({"splits", "lists", "annotations", "labels", "annotation", "ucftraintestlist", "split"})
_MAX_FILES, _MAX_BYTES = 200, 2**26
_CLASS_COLUMN = frozenset({"class", "label", "action", "category", "class_name", "classname", "activity"})
_PART_COLUMN = frozenset({"split", "partition", "set", "subset", "fold"})
_LIST_NAME = re.compile("label|annot|class|list|split")
_PART = re.compile(rf"(?:^|[^a-z])({'|'.join(sorted(PART_NAMES, key=len, reverse=True))})(?:[^a-z]|list|$)")


class Label(NamedTuple):
    """Hold what lists say of a video; empty texts if they say nothing."""

    class_name: str = ""
    part: str = ""


@dataclass(frozen=True)
class Labels:
    """Hold the labels of videos by their index, and the names of the lists that they come from."""

    of_video: dict[int, Label]
    files: tuple[str, ...]

    @property
    def n_labelled(self) -> int:
        return sum(bool(label.class_name) for label in self.of_video.values())

    def by_index(self, n_videos: int) -> list[Label]:
        """Return the label of every video."""
        return [self.of_video.get(index, Label()) for index in range(n_videos)]


class _Refs:
    """Find the video that a text in a list names: by its path below the root, or a unique end of that path."""

    def __init__(self, refs: Sequence[tuple[str, ...]]):
        self._index: dict[str, int | None] = {}
        for index, ref in enumerate(refs):
            stem = (*ref[:-1], Path(ref[-1]).stem)
            for path in {ref, stem}:
                for start in range(len(path)):
                    text = "/".join(path[start:])
                    self._index[text] = index if self._index.get(text, index) == index else None

    def find(self, text: str) -> tuple[int, str] | None:
        """Return the index of a video, and the folder that the text names above it although there is none."""
        names = [name for name in text.strip().strip('"').replace("\\", "/").split("/") if name not in ("", ".")]
        for start in range(len(names)):
            index = self._index.get("/".join(names[start:]))
            if index is not None:
                return index, names[start - 1] if start else ""
        return None


def read_labels(root: Path, refs: Sequence[tuple[str, ...]], notes: list[str]) -> Labels:
    """Read the lists in a folder, in folders for lists within it, and beside it.

    A file is a list if half of its lines name videos. Partitions are taken from names of files such as train.txt, if no
    video is in two partitions.

    Args:
        refs: the path of each video below the folder, as names.
        notes: receives notes on lists.
    """
    known = _Refs(refs)
    files, ids = [], dict[str, str]()
    named: dict[int, tuple[str, set[str]]] = {}
    for path in _list_files(root):
        rows = _rows(path)
        found = [row for row in (_read_row(row, known) for row in rows.lines) if row is not None]
        if 2 * len(found) < len(rows.lines) or not found:
            ids |= _class_ids(rows.lines)
            continue
        files.append(path.name)
        part = _part_of(path)
        for index, fields, above in found:
            label = _label(rows.header, fields) or above
            old, parts = named.get(index, ("", set()))
            of_row = part or _part_column(rows.header, fields)
            named[index] = (old or label, parts | ({of_row} if of_row else set()))
    if any(len(parts) > 1 for _, parts in named.values()):
        notes.append(f"lists name videos in several partitions ({', '.join(files)}): their division is not kept")
        named = {index: (label, set()) for index, (label, _) in named.items()}
    labels = {
        index: Label(ids.get(label, f"class {label}" if label.isdigit() else label), next(iter(parts), ""))
        for index, (label, parts) in named.items()
    }
    return Labels(labels, tuple(files))


class _Rows(NamedTuple):
    header: list[str]
    lines: list[list[str]]


def _list_files(root: Path) -> Iterator[Path]:
    """Yield the files that may be lists: any beside the videos, and those with such a name beside the folder."""
    folders = [root]
    with suppress(OSError):
        folders += sorted(path for path in root.iterdir() if path.is_dir() and path.name.lower() in _FOLDERS)
    found: list[Path] = []
    for folder in [*folders, root.absolute().parent]:
        with suppress(OSError):
            for path in sorted(folder.iterdir()):
                is_list = path.suffix.lower() in _EXTENSIONS and path.is_file() and path.stat().st_size <= _MAX_BYTES
                if is_list and (folder in folders or _part_of(path) or _LIST_NAME.search(path.stem.lower())):
                    found.append(path)
    yield from found[:_MAX_FILES]


def _rows(path: Path) -> _Rows:
    """Return the lines of a file as fields: of a comma, semicolon or tab where lines have one, otherwise whole."""
    try:
        texts = [text.strip() for _, text in numbered_lines(path, remedy="")]
    except SplitError:
        return _Rows([], [])
    texts = [text for text in texts if not text.startswith("#")]
    for delimiter in ("\t", ",", ";"):
        if texts and sum(delimiter in text for text in texts) * 10 >= 9 * len(texts):
            with suppress(csv.Error):
                lines = [[field.strip() for field in row] for row in csv.reader(texts, delimiter=delimiter)]
                header = [field.lower() for field in lines[0]]
                is_header = not any(is_video(field) for field in header) and not (
                    _CLASS_COLUMN | _PART_COLUMN
                ).isdisjoint(header)
                return _Rows(header, lines[1:]) if is_header else _Rows([], lines)
    return _Rows([], [[text] for text in texts])


def _read_row(row: list[str], known: _Refs) -> tuple[int, list[str], str] | None:
    """Return the video that a row names, the row's fields with that of the video emptied, and a folder above it."""
    for number, field in enumerate(row):
        if found := known.find(field):
            return found[0], [*row[:number], "", *row[number + 1 :]], found[1]
    if len(row) == 1:  # a path and columns behind it, between blanks
        for columns in (1, 2):
            *fields, _ = fields_of = row[0].rsplit(maxsplit=columns)
            if len(fields_of) == columns + 1 and (found := known.find(fields[0])):
                return found[0], ["", *fields_of[1:]], found[1]
    return None


def _label(header: Sequence[str], fields: Sequence[str]) -> str:
    """Return the class that a row names: the column of that name, else a text, else the last number."""
    for name, field in zip(header, fields, strict=False):
        if name in _CLASS_COLUMN and field:
            return field
    others = [field for field in fields if field]
    texts = [field for field in others if not re.fullmatch(r"[\d.:+-]+", field) and field.lower() not in PART_NAMES]
    return texts[0] if texts else others[-1] if others else ""


def _part_column(header: Sequence[str], fields: Sequence[str]) -> str:
    """Return the partition that a row names in a column of that name; empty without one."""
    for name, field in zip(header, fields, strict=False):
        if name in _PART_COLUMN:
            return PART_NAMES.get(field.lower(), "")
    return ""


def _class_ids(rows: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return names of classes by number, from a file of lines such as `1 ApplyEyeMakeup`; empty for other files."""
    texts = [" ".join(row) for row in rows]
    matches = [re.fullmatch(r"(\d+)[\s,;:]+(.*\D.*)", text) for text in texts]
    return {match[1]: match[2].strip() for match in matches if match} if matches and all(matches) else {}


def _part_of(path: Path) -> str:
    match = _PART.search(path.stem.lower())
    return PART_NAMES[match[1]] if match else ""
