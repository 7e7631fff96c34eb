"""Keep the outcome of every query under the digest of its content: a repeated or killed command does the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hcl.files.atomic import write_atomically
from hcl.files.disk_errors import storing
from hcl.files.json_files import checksum

_CHECKSUM = "crc32"
_QUERY = "query"


@dataclass
class AnswerStore:
    """Hold the outcomes of queries in a folder that is named by everything else on which they depend.

    Each outcome is a line of `answers.jsonl` with a checksum. A line that a kill or a disk has damaged is left out, and
    its query is classified again.
    """

    folder: Path
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def opened(cls, folder: Path) -> AnswerStore:
        """Read the outcomes of earlier commands; the file is written again without damaged lines."""
        store = cls(folder)
        if not store._file.exists():
            return store
        with storing(store._file):
            lines = store._file.read_bytes().splitlines(keepends=True)
        kept = []
        for line in lines:
            read = _read(line)
            if read is not None and line.endswith(b"\n"):
                store.outcomes[read.pop(_QUERY)] = read
                kept.append(line)
        if len(kept) < len(lines):
            write_atomically(store._file, b"".join(kept))
        return store

    def add(self, digest: str, outcome: Mapping[str, Any]) -> None:
        """Add an outcome to the file. It is not synchronised to disk: a lost line means a query done again."""
        content = {_QUERY: digest, **outcome}
        with storing(self._file):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(content | {_CHECKSUM: checksum(content)}) + "\n")
        self.outcomes[digest] = dict(outcome)

    def animation(self, digest: str) -> Path:
        """Return the file of a query's frames, which play."""
        return self.folder / f"{digest}.webp"

    def match(self, digest: str) -> Path:
        """Return the file of the picture of a query's match."""
        return self.folder / f"{digest}-match.webp"

    @property
    def _file(self) -> Path:
        return self.folder / "answers.jsonl"


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
        if content.pop(_CHECKSUM) == checksum(content) and isinstance(content[_QUERY], str):
            return content
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        pass
    return None
