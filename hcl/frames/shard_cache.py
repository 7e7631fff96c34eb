"""Copies of packed shards on a node's own disk, within a number of bytes: a shared file system is read once a node.

A copy is named by the digest of its shard's index, which holds a checksum of every frame: two shards of one name are
never taken for each other, and a copy that was made for one run serves the next. Who reads a copy holds a lock on it,
which ends with the process; copies that nobody reads make room for others, those first that have not been used for
longest. Where there is no room, or the disk fails, frames are read where they came from.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from hcl.errors import DataError
from hcl.frames.shards import PackedVideo, Shard

_MOST_HELD = 64  # copies that a process keeps open
_LOG = logging.getLogger(__name__)
_ENDING, _PARTIAL, _LOCK = ".shard", ".partial", ".lock"


class ShardCache:
    """Any number of processes may use one folder.

    Args:
        folder: on a disk of this machine; made where it is missing.
        limit: bytes of all copies together.
    """

    def __init__(self, folder: Path, limit: int):
        self.folder, self.limit = Path(folder), limit
        self._held: dict[Path, IO[bytes] | None] = {}  # by shard: its copy, locked; None where it stays where it is

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": {}}  # another process opens copies of its own

    def read(self, video: PackedVideo, indices: Sequence[int]) -> list[bytes]:
        """Encoded frames, from the copy if there is one or room for one. Raises DataError as the shard itself does."""
        copy = self._copy_of(video.shard)
        if copy is None:
            return video.read(indices)
        try:
            return replace(video, shard=replace(video.shard, path=Path(copy.name))).read(indices)
        except DataError as error:
            frames = video.read(indices)  # raises where the shard itself is damaged, and not only its copy
            self._drop(video.shard, copy)
            _LOG.warning("%s; the copy is made again", str(error).partition("\n")[0])
            return frames

    def _copy_of(self, shard: Shard) -> IO[bytes] | None:
        if shard.path not in self._held:
            try:
                self._held[shard.path] = self._opened(shard)
            except OSError:
                self._held[shard.path] = None
            self._let_go()
        self._held[shard.path] = copy = self._held.pop(shard.path)  # the last of them: what was read last
        return copy

    def _let_go(self) -> None:
        """Close the copies that were read longest ago where there are many: each takes one of the process's files."""
        held = [path for path, copy in self._held.items() if copy is not None]
        for path in held[:-_MOST_HELD]:
            copy = self._held.pop(path)
            assert copy is not None, "only open ones were chosen"
            copy.close()

    def _opened(self, shard: Shard) -> IO[bytes] | None:
        """The copy, locked for reading, made first if need be; None where there is no room. Raises OSError."""
        path = self.folder / f"{shard.digest}{_ENDING}"
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if not path.exists():
                if not self._make_room(shard.path.stat().st_size):
                    return None
                partial = self.folder / f".{uuid.uuid4().hex}{_PARTIAL}"
                try:
                    shutil.copyfile(shard.path, partial)
                    Shard.opened(partial)  # cut off, or changed since?
                    os.replace(partial, path)
                except DataError:
                    return None
                finally:
                    partial.unlink(missing_ok=True)
            file = path.open("rb", buffering=0)
            fcntl.flock(file, fcntl.LOCK_SH)
            os.utime(path)  # used now
            return file

    def _make_room(self, n_bytes: int) -> bool:
        """Remove copies until so many bytes fit; the folder must be ours alone."""
        for partial in self.folder.glob(f".*{_PARTIAL}"):  # of a process that was killed
            partial.unlink(missing_ok=True)
        sizes = {path: path.stat().st_size for path in self.folder.glob(f"*{_ENDING}")}
        total = sum(sizes.values())
        for path in sorted(sizes, key=lambda one: one.stat().st_mtime):
            if total + n_bytes <= self.limit:
                break
            if _is_unused(path):
                path.unlink()
                total -= sizes[path]
        return total + n_bytes <= self.limit

    def _drop(self, shard: Shard, copy: IO[bytes]) -> None:
        """Remove a damaged copy; the next reading makes another."""
        del self._held[shard.path]
        with suppress(OSError):
            os.unlink(copy.name)
        copy.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.folder / _LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _is_unused(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
