"""Mount buckets under the same path on every node with s3fs, which uploads a file when it is closed.

Files that a process has written and closed therefore outlive their machine. A mount stays until its machine shuts down,
for the next command.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cluster.tokens import home_folder
from hcl.errors import HCLError, StorageError

CONNECT_S = 5.0
INSTALL = "install s3fs (apt-get install s3fs), and give containers access to /dev/fuse, on every node"

_MOUNTED = "HCL_MOUNTED_BUCKETS"  # environment variable: mounts of this command and its workers, by folder
_ASKED = "HCL_MOUNTS_WHEN_ASKED"  # environment variable: do not mount at a worker's start, which cannot report errors
_MOUNT_S = 60.0


@dataclass(frozen=True)
class Bucket:
    """Describe a bucket and how it is mounted.

    Attributes:
        endpoint: `http://host:port` of a server other than AWS; None: AWS.
        writable: whether this command may write into it.
    """

    name: str
    endpoint: str | None = None
    region: str | None = None
    writable: bool = True

    @property
    def folder(self) -> Path:
        """Return the folder of its mount, the same on every node."""
        key = hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]
        return _root() / f"{self.name}-{key}"

    def options(self) -> list[str]:
        """Return the options of s3fs, in the form of `-o`."""
        options = [
            "stat_cache_expire=1",  # seconds until another node's change is visible
            "complement_stat",  # files uploaded by other tools have no mode or owner
            f"uid={os.getuid()},gid={os.getgid()},umask=022",
            f"connect_timeout={CONNECT_S:g},readwrite_timeout=60,retries=5",
        ]
        if self.endpoint:
            options += [f"url={self.endpoint}", "use_path_request_style"]
        if self.region:
            options += [f"endpoint={self.region}"]
        if not self.writable:
            options += ["ro"]
        if not _has_keys():
            options += ["iam_role=auto"]
        return [word for option in options for word in ("-o", option)]


def mount_for_command(bucket: Bucket) -> None:
    """Mount a bucket here now, and in every Ray that this process starts or joins. Raises StorageError."""
    mount(bucket)
    os.environ[_MOUNTED] = json.dumps({**_mounted_buckets(), str(bucket.folder): asdict(bucket)})


def is_in_bucket(path: Path) -> bool:
    """Return whether a file lies in a bucket that this command has mounted, where locks do not reach other hosts."""
    return any(Path(folder) in path.absolute().parents for folder in _mounted_buckets())


def uri_of(path: Path) -> str | None:
    """Return the URI of a folder in a bucket that this command has mounted, as `--data` takes it; None for others."""
    for folder, fields in _mounted_buckets().items():
        if path.absolute() == Path(folder) or Path(folder) in path.absolute().parents:
            scheme, _, host = (fields["endpoint"] or "").partition("://")
            query = {"endpoint_override": host, "scheme": scheme, "region": fields["region"]}
            query = {name: value for name, value in query.items() if value}
            inside = path.absolute().relative_to(folder).as_posix()
            return f"s3://{fields['name']}/{inside}" + (f"?{urlencode(query)}" if query else "")
    return None


def lock_here(path: Path) -> Path:
    """Return the place where processes of this machine lock a file that lies in a bucket.

    Locks stay on the machine anyway, and s3fs cannot truncate a new file that is open.
    """
    return _root() / "locks" / hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]


def runtime_env() -> dict[str, Any]:
    """Return the part of Ray's runtime environment that makes its workers mount what this command has mounted."""
    if not _mounted_buckets():
        return {}
    return {"worker_process_setup_hook": f"{__name__}.set_up_worker", "env_vars": {_MOUNTED: os.environ[_MOUNTED]}}


def set_up_worker() -> None:
    """Mount the driver's buckets when Ray starts a worker; a worker that cannot mount them ends."""
    if _ASKED not in os.environ:
        mount_here()


def mount_here() -> None:
    """Mount the driver's buckets on this node. Raises StorageError."""
    for folder, fields in _mounted_buckets().items():
        mount(Bucket(**fields), Path(folder))


def mount_everywhere() -> None:
    """Mount the driver's buckets on every node of the connected cluster. Raises StorageError, which names a node."""
    if not _mounted_buckets():
        return
    from orchestration.runtime.each_node import ask_each_node  # needs Ray, which few users of this module do

    for answer in ask_each_node(mount_here, lambda _: (), env_vars={_ASKED: "1"}, answer_s=_MOUNT_S):
        if answer.error is not None:
            problem = answer.error.problem if isinstance(answer.error, HCLError) else answer.problem
            raise StorageError(
                f"cannot mount the buckets of this command: {problem}", where=answer.node, remedy=INSTALL
            )


def mount(bucket: Bucket, folder: Path | None = None) -> None:
    """Mount a bucket on this node unless it is mounted. Raises StorageError."""
    folder = folder or bucket.folder
    with _exclusive(folder.parent):
        if _is_alive(folder):
            return
        with suppress(FileExistsError):
            folder.mkdir()
        try:
            done = subprocess.run(
                ["s3fs", bucket.name, str(folder), *bucket.options()],
                capture_output=True,
                text=True,
                timeout=_MOUNT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StorageError(f"cannot be mounted: {error}", where=bucket.name, remedy=INSTALL) from error
        if done.returncode or not _is_alive(folder):
            last_line = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"s3fs ended with {done.returncode}"]
            raise StorageError(f"cannot be mounted: {last_line[0]}", where=f"s3://{bucket.name}", remedy=INSTALL)


def unmount(folder: Path) -> None:
    """Remove a mount; processes with open files there keep them."""
    for command in (["fusermount3", "-uz"], ["fusermount", "-uz"], ["umount", "-l"]):
        if shutil.which(command[0]):
            subprocess.run([*command, str(folder)], capture_output=True, timeout=_MOUNT_S, check=False)
            return


def _mounted_buckets() -> dict[str, Any]:
    return json.loads(os.environ.get(_MOUNTED, "{}"))


def _root() -> Path:
    """Return the folder of this user's mounts on this machine."""
    return Path("/tmp") / f"hcl-buckets-{os.getuid()}"


def _has_keys() -> bool:
    """Return whether s3fs finds keys by itself; otherwise the machine's role is used."""
    home = home_folder()
    files = [Path("/etc/passwd-s3fs"), *([home / ".passwd-s3fs", home / ".aws" / "credentials"] if home else [])]
    return "AWS_ACCESS_KEY_ID" in os.environ or any(file.exists() for file in files)


def _is_alive(folder: Path) -> bool:
    """Return whether a mount answers in a folder; the mount of an s3fs that has died is removed."""
    try:
        os.statvfs(folder)
    except FileNotFoundError:
        return False
    except OSError:
        unmount(folder)
    return os.path.ismount(folder)


@contextmanager
def _exclusive(root: Path) -> Iterator[None]:
    """Let one process at a time mount on this machine. Raises StorageError unless the folder is this user's alone."""
    root.mkdir(mode=0o700, exist_ok=True)
    status = root.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise StorageError("is not a folder that only you can access", where=str(root), remedy="remove it")
    with (root / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
