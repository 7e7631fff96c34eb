"""Cache packed shards on a node's local disk within a byte limit, so that a node reads a shared file system once.

A copy is named by the digest of its shard's index, which holds a checksum of every frame: different shards of the same
name cannot be confused, and later runs reuse the copy. A reader holds a lock on its copy, which ends with the process;
copies without readers are evicted when space is needed, the least recently used first. If there is no space or the disk
fails, frames are read from the original shard.
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
    """Cache copies of shards in a folder, which any number of processes may use at the same time.

    Args:
        folder: a folder on a local disk, created if it is missing.
        limit: maximum bytes of all copies together.
    """

    def __init__(self, folder: Path, limit: int):
        self.folder, self.limit = Path(folder), limit
        self._held: dict[Path, IO[bytes] | None] = {}  # locked copy of each shard; None: read the original

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": {}}  # a process that unpickles this opens its own copies

    def read(self, video: PackedVideo, indices: Sequence[int]) -> list[bytes]:
        """Return encoded frames from a copy if one exists or fits. Raises DataError as the shard itself does."""
        copy = self._copy_of(video.shard)
        if copy is None:
            return video.read(indices)
        try:
            return replace(video, shard=replace(video.shard, path=Path(copy.name))).read(indices)
        except DataError as error:
            frames = video.read(indices)  # raises if the shard itself is damaged too
            self._drop(video.shard, copy)
            _LOG.warning("%s; the shard is copied again", str(error).partition("\n")[0])
            return frames

    def _copy_of(self, shard: Shard) -> IO[bytes] | None:
        if shard.path not in self._held:
            try:
                self._held[shard.path] = self._opened(shard)
            except OSError:
                self._held[shard.path] = None
            self._close_oldest()
        self._held[shard.path] = copy = self._held.pop(shard.path)  # keeps the most recently read last
        return copy

    def _close_oldest(self) -> None:
        """Close the least recently read copies above the limit: each needs a file descriptor."""
        held = [path for path, copy in self._held.items() if copy is not None]
        for path in held[:-_MOST_HELD]:
            copy = self._held.pop(path)
            assert copy is not None, "only open copies were selected"
            copy.close()

    def _opened(self, shard: Shard) -> IO[bytes] | None:
        """Return the copy, locked for reading and created if necessary; None if it does not fit. Raises OSError."""
        path = self.folder / f"{shard.digest}{_ENDING}"
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if not path.exists():
                if not self._make_room(shard.path.stat().st_size):
                    return None
                partial = self.folder / f".{uuid.uuid4().hex}{_PARTIAL}"
                try:
                    shutil.copyfile(shard.path, partial)
                    Shard.opened(partial)  # raises if it was truncated or changed
                    os.replace(partial, path)
                except DataError:
                    return None
                finally:
                    partial.unlink(missing_ok=True)
            file = path.open("rb", buffering=0)
            fcntl.flock(file, fcntl.LOCK_SH)
            os.utime(path)  # marks it as used
            return file

    def _make_room(self, n_bytes: int) -> bool:
        """Remove copies until `n_bytes` fit, and return true if they do; the caller holds the folder's lock."""
        for partial in self.folder.glob(f".*{_PARTIAL}"):  # left by a killed process
            partial.unlink(missing_ok=True)
        sizes = {path: path.stat().st_size for path in self.folder.glob(f"*{_ENDING}")}
        total = sum(sizes.values())
        for path in sorted(sizes, key=lambda copy: copy.stat().st_mtime):
            if total + n_bytes <= self.limit:
                break
            if _is_unused(path):
                path.unlink()
                total -= sizes[path]
        return total + n_bytes <= self.limit

    def _drop(self, shard: Shard, copy: IO[bytes]) -> None:
        """Remove a damaged copy; the next reader creates another."""
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
