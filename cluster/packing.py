"""Pack the code of a job into a zip file: the checkout's tracked files in their current state, and named files."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cluster.errors import PackageError

REVISION = "revision.json"
"""File in the package with the checkout's commit and a flag for changes since, because there is no .git folder."""


@dataclass(frozen=True)
class Package:
    """Describe a zip file that a job unpacks into its working folder. Sizes are in bytes."""

    path: Path
    n_files: int
    n_bytes: int  # unpacked
    revision: str | None
    dirty: bool
    untracked: tuple[str, ...]  # files of the checkout that are neither packed nor ignored

    @property
    def n_packed(self) -> int:
        return self.path.stat().st_size


def pack(checkout: Path, into: Path, *, named: Mapping[str, Path], limit: int) -> Package:
    """Pack the tracked files of a checkout in their current state, and `named` files.

    Data, runs and caches are not packed because git does not track them. The same content gives the same bytes, so that
    a cluster does not receive a package twice.

    Args:
        checkout: a folder of a git checkout; its whole checkout is packed.
        into: the zip file to write.
        named: additional files, by their path in the package.
        limit: maximum bytes of the files before packing, checked before anything is written.

    Raises:
        PackageError: the folder is not a checkout, has more than the limit, or a link leads out of the checkout.
    """
    root = Path(_git(checkout, "rev-parse", "--show-toplevel").strip())
    tracked = [name for name in _git(root, "ls-files", "-z").split("\0") if name]
    files = {name: root / name for name in tracked if (root / name).is_file()}  # without deleted files and submodules
    for name, path in files.items():
        if not path.resolve().is_relative_to(root.resolve()):
            raise PackageError(
                "is a link out of the checkout", where=str(path), remedy=f"git rm --cached {shlex.quote(name)}"
            )
    files |= named
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if sum(sizes.values()) > limit:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        raise PackageError(
            f"{len(sizes)} files of {megabytes(sum(sizes.values()))} are more than {megabytes(limit)}; the largest: "
            + ", ".join(f"{name} ({megabytes(sizes[name])})" for name in largest),
            where=str(root),
            remedy="put data on storage that the nodes see instead of into git (git rm --cached), or raise --limit",
        )
    revision = _git(root, "rev-parse", "--verify", "--quiet", "HEAD", may_fail=True).strip() or None
    dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    note = json.dumps({"revision": revision, "dirty": dirty}).encode()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry(REVISION), note)
        for name in sorted(files):
            archive.writestr(_entry(name, executable=os.access(files[name], os.X_OK)), files[name].read_bytes())
    others = _git(root, "ls-files", "-z", "--others", "--exclude-standard").split("\0")
    untracked = tuple(name for name in others if name and root / name not in named.values())
    return Package(into, len(files), sum(sizes.values()), revision, dirty, untracked)


def megabytes(n_bytes: int) -> str:
    """Return a size such as `6.2 MB`."""
    return f"{n_bytes / 1e6:.1f} MB"


def _entry(name: str, *, executable: bool = False) -> zipfile.ZipInfo:
    """Create an entry without a time, which would make equal packages differ."""
    entry = zipfile.ZipInfo(str(PurePosixPath(name)))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (0o755 if executable else 0o644) << 16
    return entry


def _git(folder: Path, *words: str, may_fail: bool = False) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackageError(f"git cannot be run: {error}", where=str(folder), remedy="install git") from error
    if answer.returncode and "safe.directory" in answer.stderr:
        raise PackageError(
            "belongs to another user, so git does not read it",
            where=str(folder),
            remedy=f"git config --global --add safe.directory {shlex.quote(str(folder.resolve()))}",
        )
    if answer.returncode and not may_fail:
        raise PackageError(
            f"is not a git checkout: {answer.stderr.strip() or answer.returncode}",
            where=str(folder),
            remedy="submit from a checkout, or give --installed to use the program that the cluster has",
        )
    return answer.stdout
