"""Read frames from a folder of numbered images for each video, written by this tool or another."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hcl.errors import DataError


@dataclass(frozen=True)
class FrameFolder:
    """Name the frame files of a folder. Consecutive names are stored as a template, for millions of files."""

    path: Path
    n_frames: int
    first: int = 0
    template: str = "{:d}.jpg"
    names: tuple[str, ...] = ()

    @classmethod
    def listed(cls, path: Path) -> FrameFolder:
        """List the frames of a folder: images named by a common prefix and a number, padded or not, from any start.

        `7.jpg`, `00007.png` and `img_00007.jpg` are frame 7. Optical flow beside frames (`flow_x_00007.jpg`) and a
        single image of another name are no frames. A folder that cannot be listed has no frames.

        Raises:
            DataError: two files have the same number, or files with two prefixes could be the frames.
        """
        try:
            files = os.listdir(path)
        except OSError:
            files = []
        numbered = _numbered(path, files)
        if not numbered:
            return cls(path, 0)
        first, name = numbered[0]
        match = _FRAME_NAME.fullmatch(name)
        assert match is not None
        prefix, digits = (part.replace("{", "{{").replace("}", "}}") for part in match.groups()[:2])
        template = f"{prefix}{{:0{len(digits)}d}}{name[match.end(2) :]}"
        names = tuple(file for _, file in numbered)
        has_gaps = any(template.format(first + index) != file for index, file in enumerate(names))
        return cls(path, len(names), first, template, names if has_gaps else ())

    def place(self, index: int) -> str:
        """Return the name of a frame for messages."""
        return str(self.file(index))

    def file(self, index: int) -> Path:
        return self.path / self._name(index)

    def read(self, indices: Sequence[int]) -> list[bytes]:
        """Return the encoded frames. Raises DataError for a frame that cannot be read."""
        return [self._bytes(self.file(index)) for index in indices]

    def stamp(self) -> str:
        """Return a digest of all frames' names, sizes and modification times, without reading the frames.

        Raises:
            DataError: a frame is missing.
        """
        digest = hashlib.blake2b(digest_size=16)
        try:
            with os.scandir(self.path) as entries:
                entry_by_name = {entry.name: entry for entry in entries}
            for index in range(self.n_frames):
                name = self._name(index)
                if name not in entry_by_name:
                    raise self._unreadable(self.path / name, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
                status = entry_by_name[name].stat()
                digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        except OSError as error:
            raise self._unreadable(self.path, error) from error
        return digest.hexdigest()

    def _name(self, index: int) -> str:
        return self.names[index] if self.names else self.template.format(self.first + index)

    def _bytes(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _unreadable(self, path: Path, error: OSError) -> DataError:
        return DataError(
            f"cannot be read: {error.strerror or error}",
            where=str(path),
            remedy=f"delete {self.path} and extract the dataset again",
        )


_FRAME_NAME = re.compile(r"(.*?)([0-9]+)\.(?:jpe?g|png|bmp|webp|tiff?)", re.IGNORECASE | re.DOTALL)
_FLOW = re.compile(r"(.*[^a-z])?(flow.*|[xyuv]_)", re.IGNORECASE | re.DOTALL)


def _numbered(path: Path, files: Sequence[str]) -> list[tuple[int, str]]:
    """Return the frames of a folder with their numbers, in order. Raises DataError as `FrameFolder.listed` does."""
    kinds: dict[str, dict[int, str]] = {}
    for file in sorted(files):
        if (match := _FRAME_NAME.fullmatch(file)) and not file.startswith("."):
            kind, number = kinds.setdefault(match[1], {}), int(match[2])
            if number in kind:
                raise DataError(
                    f"{kind[number]!r} and {file!r} are both frame {number}",
                    where=str(path),
                    remedy="leave the frames of one of the two numberings in the folder",
                )
            kind[number] = file
    likely = {prefix: kind for prefix, kind in kinds.items() if not _FLOW.fullmatch(prefix)} or kinds
    if "" in likely or any(len(kind) > 1 for kind in likely.values()):
        likely = {prefix: kind for prefix, kind in likely.items() if len(kind) > 1 or not prefix}
    if len(likely) > 1:
        first, second = (next(iter(kind.values())) for kind in list(likely.values())[:2])
        raise DataError(
            f"holds images of two kinds, such as {first!r} and {second!r}, and either may be the frames",
            where=str(path),
            remedy="leave images of one kind in the folder",
        )
    return sorted(item for kind in likely.values() for item in kind.items())


def is_litter(file: str) -> bool:
    """Return true for a hidden file or one that file managers create in folders."""
    return file.startswith(".") or file.lower() in ("thumbs.db", "desktop.ini")


def folder_names(root: Path) -> list[str]:
    """Return the names of the visible folders in a folder, sorted. Raises DataError if it cannot be listed."""
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError as error:
        raise DataError(
            f"cannot be listed: {error.strerror or error}", where=str(root), remedy="check the data root"
        ) from error
