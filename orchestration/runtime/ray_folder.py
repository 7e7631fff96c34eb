"""The folder of a local Ray: this user's alone, and gone when the command ends.

Ray opens its folders to everybody (mode 0777, without the sticky bit): another user of the machine could replace the
code of a job that lies there. So a folder of mode 0700 lies around them.
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
_OWNER = "owner"  # a file that the command which made the folder has locked
_KEPT_DAYS = 7.0  # logs of a failure
_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
_LIMIT = (104 if sys.platform == "darwin" else 108) - 1  # bytes of a socket's path
_TRIES_S = 5.0  # Ray's last processes write for a moment longer


class RayFolder:
    """The private folder, with the `ray` of Ray in it.

    Attributes:
        path: what RAY_TMPDIR names while Ray runs.
    """

    def __init__(self, path: Path):
        self.path = path

    def keep_logs(self) -> Path | None:
        """Copy what Ray's processes have written to where it stays for some days; None where there is nothing."""
        sessions = sorted((self.path / "ray").glob("session_2*/logs"))
        if not sessions:
            return None
        kept = Path(tempfile.mkdtemp(prefix=_LOGS, dir=self.path.resolve().parent))
        with suppress(OSError, shutil.Error):  # a full disk: what could be copied is better than nothing
            shutil.copytree(sessions[-1], kept, dirs_exist_ok=True, symlinks=True)
        kept.chmod(0o700)  # the logs' own folder is open to everybody
        return kept


@contextmanager
def private_folder() -> Iterator[RayFolder]:
    """Make a folder of mode 0700 for a local Ray, which RAY_TMPDIR names until the block ends, and it is removed.

    What commands that were killed have left behind is removed first. The folder lies in RAY_TMPDIR, TMPDIR or /tmp.
    Where that path is too long for a socket, Ray is given a link to it.

    Raises:
        ClusterError: there is no place for it.
    """
    base = _base()
    _remove_leftovers(base)
    with _owned(base) as folder, _short(folder) as name, environment({"RAY_TMPDIR": str(name)}):
        yield RayFolder(name)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the duration of a block, for the processes that begin in it."""
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
    """Give the folder a path that is short enough for Ray's sockets."""
    if len(os.fsencode(f"{folder}{_SOCKET}")) <= _LIMIT:
        yield folder
        return
    if problem := _problem(_SYSTEM):
        raise ClusterError(
            f"is too long for a socket's path, of {_LIMIT} bytes at most, and {_SYSTEM} cannot be used: {problem}",
            where=str(folder.parent),
            remedy="set RAY_TMPDIR to a folder of yours with a shorter path",
        )
    with _owned(_SYSTEM) as place:
        (place / "t").symlink_to(folder)
        yield place / "t"


def _base() -> Path:
    """Return where temporary files go. Raises ClusterError, which names the variable that is wrong."""
    if chosen := os.environ.get("RAY_TMPDIR"):
        problem = _problem(Path(chosen))
        if problem:
            raise ClusterError(
                f"Ray's files cannot be written there: {problem}",
                where=f"RAY_TMPDIR={chosen}",
                remedy="set RAY_TMPDIR to a folder of yours on a local disk, or unset it",
            )
        return Path(chosen).absolute()
    for place in (Path(os.environ.get("TMPDIR") or _SYSTEM), _SYSTEM):
        if not _problem(place):
            return place.absolute()
    raise ClusterError(
        f"Ray's files cannot be written there: {_problem(_SYSTEM)}",
        where=str(_SYSTEM),
        remedy="set RAY_TMPDIR to a folder of yours on a local disk",
    )


def _problem(folder: Path) -> str:
    """Return why no folder can be made there; empty where it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.rmdir(tempfile.mkdtemp(prefix=_FOLDER, dir=folder))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _made(base: Path) -> tuple[Path, IO[str]]:
    """Make a folder, and a file in it that this process has locked until it ends, however it ends."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=base))
        owner = (folder / _OWNER).open("w")
        with suppress(BlockingIOError):
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (folder / _OWNER).exists():
                return folder, owner
        owner.close()  # another command has just taken it for a leftover


def _remove_leftovers(base: Path) -> None:
    """Remove folders of this user whose command has ended without doing so, and logs that were kept for long."""
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
