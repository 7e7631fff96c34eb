"""Make the folder of a local Ray, which only this user can access and which is removed when the command ends.

Ray opens its folders to everybody (mode 0777, without the sticky bit), so that another user of the machine could
replace the code of a job there. The folder around them therefore has mode 0700.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from hcl.errors import ClusterError

_SYSTEM = Path("/tmp")
_FOLDER, _LOGS = "hcl-ray-", "hcl-ray-logs-"
_OWNER = "owner"  # a file that is locked by the command that made the folder
_KEPT_DAYS = 7.0  # for logs of a failure
_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
_LIMIT = (104 if sys.platform == "darwin" else 108) - 1  # bytes of a socket's path
_TRIES_S = 5.0  # Ray's last processes keep writing for a moment


class RayFolder:
    """Hold the private folder, which contains Ray's folder `ray`.

    Attributes:
        path: the value of RAY_TMPDIR while Ray runs.
    """

    def __init__(self, path: Path):
        self.path = path

    def keep_logs(self) -> Path | None:
        """Copy the logs of Ray's processes to a folder that is kept for some days; return None if there are none."""
        sessions = sorted((self.path / "ray").glob("session_2*/logs"))
        if not sessions:
            return None
        kept = Path(tempfile.mkdtemp(prefix=_LOGS, dir=self.path.resolve().parent))
        with suppress(OSError, shutil.Error):  # on a full disk, some of the logs are better than none
            shutil.copytree(sessions[-1], kept, dirs_exist_ok=True, symlinks=True)
        kept.chmod(0o700)  # the logs' own folder is open to everybody
        return kept


@contextmanager
def private_folder() -> Iterator[RayFolder]:
    """Make a folder of mode 0700 for a local Ray, set RAY_TMPDIR to it, and remove it at the end of the block.

    Folders that killed commands have left are removed first. The folder lies in RAY_TMPDIR, TMPDIR or /tmp.
    If its path is too long for a socket, Ray gets a symbolic link to it.

    Raises:
        ClusterError: if there is no place for it.
    """
    base = _base()
    _remove_leftovers(base)
    with _owned(base) as folder, _short(folder) as name, environment({"RAY_TMPDIR": str(name)}):
        yield RayFolder(name)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the duration of a block, for the processes that start in it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _owned(base: Path) -> Iterator[Path]:
    folder, owner = _made(base)
    with owner:
        try:
            yield folder
        finally:
            _remove(folder)


@contextmanager
def _short(folder: Path) -> Iterator[Path]:
    """Yield a path of the folder that is short enough for Ray's sockets."""
    if len(os.fsencode(f"{folder}{_SOCKET}")) <= _LIMIT:
        yield folder
        return
    if problem := _problem(_SYSTEM):
        raise ClusterError(
            f"is too long for a socket's path, of {_LIMIT} bytes at most, and {_SYSTEM} cannot be used: {problem}",
            where=str(folder.parent),
            remedy="set RAY_TMPDIR to a folder of your own with a shorter path",
        )
    with _owned(_SYSTEM) as place:
        (place / "t").symlink_to(folder)
        yield place / "t"


def _base() -> Path:
    """Return the folder for temporary files. Raises ClusterError, which names the wrong variable."""
    if chosen := os.environ.get("RAY_TMPDIR"):
        problem = _problem(Path(chosen))
        if problem:
            raise ClusterError(
                f"Ray's files cannot be written there: {problem}",
                where=f"RAY_TMPDIR={chosen}",
                remedy="set RAY_TMPDIR to a folder of your own on a local disk, or unset it",
            )
        return Path(chosen).absolute()
    for place in (Path(os.environ.get("TMPDIR") or _SYSTEM), _SYSTEM):
        if not _problem(place):
            return place.absolute()
    raise ClusterError(
        f"Ray's files cannot be written there: {_problem(_SYSTEM)}",
        where=str(_SYSTEM),
        remedy="set RAY_TMPDIR to a folder of your own on a local disk",
    )


def _problem(folder: Path) -> str:
    """Return why no folder can be made there; empty if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.rmdir(tempfile.mkdtemp(prefix=_FOLDER, dir=folder))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _made(base: Path) -> tuple[Path, IO[str]]:
    """Make a folder with a file in it that this process keeps locked until it ends."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=base))
        owner = (folder / _OWNER).open("w")
        with suppress(BlockingIOError):
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (folder / _OWNER).exists():
                return folder, owner
        owner.close()  # another command has just removed it as a leftover


def _remove_leftovers(base: Path) -> None:
    """Remove this user's folders whose command was killed, and old logs."""
    for folder in {*base.glob(f"{_FOLDER}*"), *_SYSTEM.glob(f"{_FOLDER}*")}:
        with suppress(OSError):
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                continue
            is_old = time.time() - status.st_mtime > _KEPT_DAYS * 86400
            if folder.name.startswith(_LOGS) or not (folder / _OWNER).exists():
                if is_old:
                    _remove(folder)
                continue
            with (folder / _OWNER).open("r+") as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + _TRIES_S
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() or time.monotonic() > deadline:
            return
        time.sleep(0.1)
