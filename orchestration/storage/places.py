"""Where runs and data lie: a folder, or a bucket that becomes one. Asked before any work, and never for long. What a
disk refused later, wherever it was met, is told as such.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from hcl.errors import StorageError
from hcl.files.disk_errors import refused
from orchestration.storage import buckets

ANSWER_S = 10.0
"""How long a file system may take to answer."""

_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)

ELSEWHERE = "elsewhere"
"""As the object of a command line's root context: it is parsed here and runs on another machine."""


def check_place(folder: Path, option: str, *, here: bool = True) -> Path:
    """The folder, or that of an `s3://` URI's mounted bucket, if its file system answers; whether it exists and can be
    written the command finds out.

    Args:
        here: the command runs on this machine; otherwise what is looked at is only how it is written.

    Raises:
        ConfigError: a URI of something else, or nothing to mount buckets with.
        StorageError: no answer within ANSWER_S: a network file system or a bucket whose server is gone.
    """
    if buckets.URI.match(str(folder)):
        if not here:
            buckets.check_uri(str(folder), option)
            return Path("/") / folder
        folder = buckets.mounted(str(folder), option)
    answered = threading.Event()

    def look() -> None:
        os.path.exists(folder)
        answered.set()

    threading.Thread(target=look, daemon=True).start()
    if not answered.wait(ANSWER_S):
        raise StorageError(
            f"does not answer within {ANSWER_S:g} s",
            where=str(folder),
            remedy="check the server of that file system and the network, or give another folder",
        )
    return folder


def check_seen(folder: Path, *, by: Path | None = None, remedy: str) -> None:
    """Raise StorageError, which names this node, where its processes do not see a folder of the driver's.

    Args:
        by: a file in it that the driver has written: another disk may have a folder of that name.
    """
    if not (by or folder).exists():
        import ray  # commands that need none start without it

        raise StorageError(
            f"node {ray.util.get_node_ip_address()} does not see this folder", where=str(folder), remedy=remedy
        )


SAME_RUNS = "mount the runs folder under the same path on every node"
"""The remedy, of a run's or a study's folder."""


def storage_error(error: BaseException, folder: Path) -> StorageError | None:
    """The disk's part in an error that came through Ray, torch or Optuna; None where it has none.

    Args:
        folder: what was written, where the error does not say.
    """
    seen: BaseException | None = error
    while seen is not None:
        if _SHARED_MEMORY.search(str(seen)):
            return StorageError(
                "is full: what the processes that read clips hand over lies there",
                where="/dev/shm",
                remedy="give the machine or container a larger one (--shm-size=8g), or read clips without processes "
                "of their own (--set train.loader_processes=0); then repeat the command",
            )
        number = getattr(seen, "errno", None)
        for code in _OF_DISK:
            if number == code or os.strerror(code) in str(seen):
                return refused(OSError(code, os.strerror(code)), _place(seen, folder, code))
        seen = seen.__cause__ or seen.__context__
    return None


_SHARED_MEMORY = re.compile(r"</torch_\d+|raise your shared memory limit|unable to allocate shared memory|/dev/shm")
_ROOM = 64 * 1024**2  # bytes; what is free of a disk that refuses
_PATH = re.compile(r"'(/[^']+)'")


def _place(error: BaseException, folder: Path, code: int) -> str:
    """Say what was being written: what the error names, or the folder, unless that has room."""
    if named := getattr(error, "filename", None):
        return str(named)
    if found := _PATH.search(str(error)):
        return found[1]
    with suppress(OSError):
        if code == errno.ENOSPC and shutil.disk_usage(folder).free > _ROOM:
            return (
                f"another disk than that of {folder}, such as the one of temporary files (RAY_TMPDIR, TMPDIR or /tmp)"
            )
    return str(folder)
