"""Keep the pictures that `hcl explain` writes into a run's folder, with records of their content.

- `<run>/explanations/<name>.json`: an `ExplanationRecord`
- `<run>/explanations/<name>.webp`: its picture, small enough for a page
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from results.errors import RecordError
from results.records.codec import SCHEMA, bounded, decode, encode
from results.records.files import read_bytes, read_checked, write_atomically, write_checked

FOLDER = "explanations"
MOST_BYTES = 2**21
"""Largest size of a picture in a page."""


@dataclass(frozen=True, kw_only=True)
class ExplanationRecord:
    """Describe one query in its episode."""

    KIND: ClassVar[str] = "explanation"

    query: str  # class/video
    scores: dict[str, float]  # score of each class of the episode, best first
    support: list[str] = field(default_factory=list)  # class/video
    shot: int = bounded(1, default=1)
    checkpoint_digest: str = ""  # digest of the weights with which it was drawn
    command: str = ""
    created: str = ""
    schema: int = SCHEMA

    @property
    def class_name(self) -> str:
        return self.query.partition("/")[0]

    @property
    def taken_for(self) -> str:
        return next(iter(self.scores), "")

    @property
    def is_right(self) -> bool:
        return self.taken_for == self.class_name


def write_explanation(path: Path, record: ExplanationRecord, picture: bytes) -> Path:
    """Write a record to `path` (.json) and its WebP picture beside it; the picture is written first."""
    write_atomically(path.with_suffix(".webp"), picture)
    return write_checked(path, encode(record))


def read_explanations(run_dir: Path | str) -> list[tuple[ExplanationRecord, bytes]]:
    """Return a run's explanations with their pictures, oldest first; unreadable ones are left out."""
    explanations = []
    for path in sorted((Path(run_dir) / FOLDER).glob("*.json")):
        try:
            record = decode(ExplanationRecord, read_checked(path), where=str(path))
            picture = read_bytes(path.with_suffix(".webp"))
        except RecordError:
            continue
        if record.scores and len(picture) <= MOST_BYTES and picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
            explanations.append((record, picture))
    return sorted(explanations, key=lambda record_and_picture: record_and_picture[0].created)
