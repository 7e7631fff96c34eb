"""Keep what people say of a run or a study: tags, by which lists are filtered, and a note.

`labels.json` in its folder holds both. Training does not read it, and no digest depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from results.errors import RecordError
from results.records.codec import SCHEMA, decode, encode
from results.records.files import check_content, read_json, write_checked

LABELS = "labels.json"
MOST_CHARACTERS = 2000
"""The length of a note."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Hold the tags of a run or a study, sorted, and its note."""

    KIND: ClassVar[str] = "labels"

    tags: list[str] = field(default_factory=list)
    note: str = ""
    schema: int = SCHEMA


def read_labels(folder: Path | str) -> Labels:
    """Return the labels of a run or a study; without tags and note if it has none. Raises RecordError."""
    path = Path(folder) / LABELS
    if not path.exists():
        return Labels()
    content = read_json(path)
    labels = decode(Labels, content, where=str(path))
    check_content(content, path)
    return labels


def write_labels(folder: Path | str, labels: Labels) -> Path:
    """Write the labels into the folder. Raises UnwritableError."""
    return write_checked(Path(folder) / LABELS, encode(labels))


def tagged(labels: Labels, add: Iterable[str], remove: Collection[str]) -> Labels:
    """Return the labels with some tags more and others less; removing one that is not there changes nothing.

    Raises:
        RecordError: if a new tag is no word of letters, digits, dots, dashes and underscores, or is to be removed, too.
    """
    new = set(add)
    for tag in sorted(new):
        if not _TAG.fullmatch(tag):
            raise RecordError(
                f"{tag!r} is not a tag",
                where="tag",
                remedy="use one word of letters, digits, dots, dashes, underscores",
            )
        if tag in remove:
            raise RecordError(f"{tag!r} is to be added and removed", where="tag", remedy="keep one of the two")
    return replace(labels, tags=sorted({*labels.tags, *new} - set(remove)))


def noted(labels: Labels, note: str) -> Labels:
    """Return the labels with another note; an empty one removes it. Raises RecordError if it is too long."""
    if len(note) > MOST_CHARACTERS:
        raise RecordError(
            f"has {len(note):,} characters", where="note", remedy=f"keep it to {MOST_CHARACTERS:,}, or write a file"
        )
    return replace(labels, note=note.strip())


_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}")
