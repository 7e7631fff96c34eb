"""Run a local Ray of this command, whose files and ports no other user can access."""

from __future__ import annotations

import errno
import functools
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import ray

from cluster import PlaceError
from cluster.proxies import bypassing
from cluster.tokens import home_folder
from hcl.errors import ClusterError, HCLError
from orchestration.console import notes
from orchestration.runtime.ray_folder import RayFolder, environment, private_folder
from orchestration.runtime.ray_gaps import in_groups_of_their_own, on_loopback
from orchestration.runtime.signals import handlers_kept
from results import RecordError
from search_spaces import SpaceError

_TOKEN = "RAY_AUTH_TOKEN_PATH"


@contextmanager
def local_ray(num_cpus: int | None, resources: Mapping[str, float]) -> Iterator[None]:
    """Start Ray on this machine for the duration of a block; its folder is removed afterwards.

    All its ports, including those of its metrics, are bound to loopback. After a failure that is no user's mistake the
    logs of its processes are kept, and a line names their folder.

    Raises ClusterError if it does not start.
    """
    with private_folder() as folder, environment({**bypassing(()), **_token_beside(folder.path)}):
        _start(folder, num_cpus, resources)
        try:
            yield
        except Exception as error:
            if isinstance(error, ClusterError) or not isinstance(error, _MISTAKES):
                _tell(folder.keep_logs())
            raise
        finally:
            ray.shutdown()


_MISTAKES = (HCLError, RecordError, SpaceError, PlaceError)


def _start(folder: RayFolder, num_cpus: int | None, resources: Mapping[str, float]) -> None:
    temporary = folder.path / "tmp"  # for its processes, which may be killed before they remove anything
    temporary.mkdir()
    tempfile.gettempdir()  # fixes Python's own choice for this process
    try:
        with handlers_kept(), on_loopback(), in_groups_of_their_own(), environment({"TMPDIR": str(temporary)}):
            ray.init(
                "local",  # without it Ray would join the cluster last started on this machine
                num_cpus=num_cpus,
                resources=dict(resources),
                include_dashboard=True,  # without it, stopping a Train run leaks its placement group
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:  # ConnectionError, RuntimeError, ValueError, OSError and Ray's own
        ray.shutdown()
        logs = folder.keep_logs()
        raise ClusterError(
            f"Ray cannot be started: {str(error).strip() or type(error).__name__}",
            where="local Ray",
            remedy=_remedy(error) + (f"; Ray's logs: {logs}" if logs else ""),
        ) from error
    except BaseException:  # Ctrl-C
        ray.shutdown()
        raise


def _remedy(error: Exception) -> str:
    """Return what to do about a Ray that does not start, depending on the cause."""
    text, number = str(error).lower(), getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM, errno.EROFS) or "permission denied" in text:
        return "make that path writable for you; RAY_TMPDIR names another place for Ray's files"
    if number in (errno.ENOSPC, errno.EDQUOT) or "no space left" in text:
        return "free space in /tmp and /dev/shm, or set RAY_TMPDIR to a folder on a disk with room"
    if number in (errno.EMFILE, errno.ENFILE) or "too many open files" in text:
        return "raise the number of open files: ulimit -n 65536"
    if number == errno.EAGAIN or "resource temporarily unavailable" in text or "can't start new thread" in text:
        return "raise the number of processes that you may have: ulimit -u"
    return "check free memory and the space in /tmp and /dev/shm, or use --address with a running cluster"


def _tell(logs: Path | None) -> None:
    if logs is not None:
        notes.print(f"Ray's logs of this failure: {logs}", soft_wrap=True, markup=False, highlight=False)


def _token_beside(folder: Path) -> dict[str, str]:
    """Return the variable that gives Ray another place for its token, if the home folder cannot hold it.

    This happens to a user without a name, as in a container.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get(_TOKEN):
        return {}
    if home := home_folder():
        with suppress(OSError):
            place = home / ".ray"
            place.mkdir(exist_ok=True)
            if os.access(place / "auth_token" if (place / "auth_token").exists() else place, os.R_OK | os.W_OK):
                return {}
    path = folder / "token"
    with open(path, "w", opener=functools.partial(os.open, mode=0o600)) as file:
        file.write(_token())
    return {_TOKEN: str(path)}


@functools.cache
def _token() -> str:
    """Return one token for all Rays of this process, because Ray reads it only once."""
    return secrets.token_hex(32)
