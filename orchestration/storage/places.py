"""Check the folders of runs and data, and mount those in buckets, before any work and within seconds.

Later errors of a disk, wherever they were raised, are recognised here too.
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
"""Object of a command line's root context if the command is parsed here but runs on another machine."""


def check_place(folder: Path, option: str, *, here: bool = True) -> Path:
    """Return the folder, or the mounted bucket of an `s3://` URI, if its file system answers.

    Whether it exists and can be written is left to the command.

    Args:
        here: whether the command runs on this machine; otherwise only the spelling is checked.

    Raises:
        ConfigError: if it is another kind of URI, or buckets cannot be mounted.
        StorageError: if there is no answer within ANSWER_S, as from a network file system whose server is gone.
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
            remedy="check the server of that file system and the network, or use another folder",
        )
    return folder


def check_seen(folder: Path, *, by: Path | None = None, remedy: str) -> None:
    """Raise StorageError, which names this node, if its processes do not see a folder of the driver.

    Args:
        by: a file in it that the driver has written, because another disk may have a folder of that name.
    """
    if not (by or folder).exists():
        import ray  # imported late, because some commands do not need Ray

        raise StorageError(
            f"node {ray.util.get_node_ip_address()} does not see this folder", where=str(folder), remedy=remedy
        )


SAME_RUNS = "mount the runs folder under the same path on every node"
"""The remedy for a run's or a study's folder."""


def storage_error(error: BaseException, folder: Path) -> StorageError | None:
    """Return the disk error behind an error from Ray, torch or Optuna; None if there is none.

    Args:
        folder: the folder being written, for errors that name no path.
    """
    cause: BaseException | None = error
    while cause is not None:
        if _SHARED_MEMORY.search(str(cause)):
            return StorageError(
                "is full; the processes that read clips pass them on through it",
                where="/dev/shm",
                remedy="give the machine or container a larger one (--shm-size=8g), or read clips without extra "
                "processes (--set train.loader_processes=0); then repeat the command",
            )
        number = getattr(cause, "errno", None)
        for code in _OF_DISK:
            if number == code or os.strerror(code) in str(cause):
                return refused(OSError(code, os.strerror(code)), _place(cause, folder, code))
        cause = cause.__cause__ or cause.__context__
    return None


_SHARED_MEMORY = re.compile(r"</torch_\d+|raise your shared memory limit|unable to allocate shared memory|/dev/shm")
_ROOM = 64 * 1024**2  # bytes; a disk that refuses writes has less free
_PATH = re.compile(r"'(/[^']+)'")


def _place(error: BaseException, folder: Path, code: int) -> str:
    """Return the path that was being written: the one in the error, or the folder, unless that has free space."""
    if named := getattr(error, "filename", None):
        return str(named)
    if match := _PATH.search(str(error)):
        return match[1]
    with suppress(OSError):
        if code == errno.ENOSPC and shutil.disk_usage(folder).free > _ROOM:
            return (
                f"another disk than that of {folder}, such as the one of temporary files (RAY_TMPDIR, TMPDIR or /tmp)"
            )
    return str(folder)
