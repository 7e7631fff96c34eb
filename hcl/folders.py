"""The published store: a folder of numbered JPEGs for each video, from this tool or another."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hcl.errors import DataError


@dataclass(frozen=True)
class FrameFolder:
    """The frame files of one folder. Names without a gap are counted, not kept: a dataset has millions."""

    path: Path
    n_frames: int
    first: int = 0
    template: str = "{:d}.jpg"
    names: tuple[str, ...] = ()

    @classmethod
    def listed(cls, path: Path) -> FrameFolder:
        """What a folder holds: numbered from 0 or 1 or with gaps, padded with zeros or not. No folder has 0 frames."""
        try:
            files: Iterable[str] = os.listdir(path)
        except OSError:
            files = ()
        numbered = sorted((int(match[1]), file) for file in files if (match := _FRAME_NAME.fullmatch(file)))
        if not numbered:
            return cls(path, 0)
        first, name = numbered[0]
        stem, extension = os.path.splitext(name)
        template = f"{{:0{len(stem)}d}}{extension}"
        names = tuple(file for _, file in numbered)
        has_gaps = any(template.format(first + index) != file for index, file in enumerate(names))
        return cls(path, len(names), first, template, names if has_gaps else ())

    def place(self, index: int) -> str:
        """A frame, for messages."""
        return str(self.file(index))

    def file(self, index: int) -> Path:
        return self.path / (self.names[index] if self.names else self.template.format(self.first + index))

    def read(self, indices: Sequence[int]) -> list[bytes]:
        """The encoded frames. Raises DataError for one that cannot be read."""
        return [self._bytes(self.file(index)) for index in indices]

    def fingerprint(self) -> str:
        """What tells these frames from others without reading one, wherever the folder lies.

        How many there are, how they are named, and the bytes of the first, the middle and the last: a copy counts as
        the same, so times do not matter. Raises DataError for one of the three that is not there.
        """
        looked_at = sorted({0, self.n_frames // 2, self.n_frames - 1})
        sizes = [self._size(self.file(index)) for index in looked_at]
        return json.dumps([self.n_frames, self.first, self.template, self.names, sizes])

    def _bytes(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _size(self, path: Path) -> int:
        try:
            return path.stat().st_size
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _unreadable(self, path: Path, error: OSError) -> DataError:
        return DataError(
            f"cannot be read: {error.strerror or error}",
            where=str(path),
            remedy=f"delete {self.path} and extract the dataset again",
        )


_FRAME_NAME = re.compile(r"([0-9]+)\.jpe?g", re.IGNORECASE)


def folder_names(root: Path) -> list[str]:
    """The visible folders in a folder, sorted. Raises DataError if it cannot be listed."""
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError as error:
        raise DataError(
            f"cannot be listed: {error.strerror or error}", where=str(root), remedy="check the data root"
        ) from error
