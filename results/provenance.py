"""How a run came about: code revision, versions, hardware, seeds, digests."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.records import Provenance

PACKAGES = ("torch", "torchvision", "ray", "optuna", "numpy", "pandas", "pyarrow", "opencv-python-headless")
PACKED = "revision.json"
"""Beside the packages of code that was sent to a cluster: its commit, and whether it was changed since."""


def collect_provenance(
    command: str | Sequence[str],
    *,
    seeds: Mapping[str, int] | None = None,
    digests: Mapping[str, str] | None = None,
    data: Mapping[str, Any] | None = None,
    resources: Mapping[str, float] | None = None,
    hardware: Mapping[str, Any] | None = None,
    packages: Sequence[str] = PACKAGES,
    code: Path = Path(__file__),
) -> Provenance:
    """The provenance of what starts now.

    Args:
        command: as typed, or its words.
        data: how many classes and videos each partition has.
        resources: workers, CPUs and GPUs that it holds while it runs.
        hardware: what only the caller can see (GPUs, nodes of a cluster); added to what this machine tells.
        packages: distributions whose versions count; those not installed are left out.
        code: a file of the code that runs: its checkout's revision is recorded.
    """
    revision, dirty = git_state(code)
    return Provenance(
        command=command if isinstance(command, str) else shlex.join(command),
        revision=revision,
        dirty=dirty,
        versions=versions_of(packages),
        hardware={**this_machine(), **(hardware or {})},
        seeds=dict(seeds or {}),
        digests=dict(digests or {}),
        data=dict(data or {}),
        resources=dict(resources or {}),
        started=now(),
    )


def finished(provenance: Provenance) -> Provenance:
    """The same, with the present time as its end."""
    return replace(provenance, finished=now())


def now() -> str:
    """The present time, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def git_state(code: Path = Path(__file__)) -> tuple[str | None, bool | None]:
    """Commit and dirtiness of the checkout that tracks `code`; (None, None) outside one or without git.

    A virtual environment may lie inside somebody else's checkout: only one that tracks the file counts. Code that was
    packed for a job has no checkout, but a note of the one that it comes from.
    """
    folder = code.resolve().parent
    if _git(folder, "ls-files", "--error-unmatch", "--", code.name) is None:
        return _packed_state(folder.parent / PACKED)
    revision = _git(folder, "rev-parse", "HEAD")
    if revision is None:  # staged, but never committed
        return None, None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return revision, None if changes is None else bool(changes)


def _packed_state(note: Path) -> tuple[str | None, bool | None]:
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        content = json.loads(note.read_text())
        return content["revision"], content["dirty"]
    return None, None


def this_machine() -> dict[str, Any]:
    """Host, system, usable CPUs and memory in GiB."""
    affinity = getattr(os, "sched_getaffinity", None)  # absent on macOS
    facts: dict[str, Any] = {
        "host": platform.node(),
        "platform": platform.platform(),
        "cpus": len(affinity(0)) if affinity else os.cpu_count(),
    }
    if sys.platform != "win32":
        facts["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return facts


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Of Python and of the distributions that are installed."""
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of git, or None where git is absent, fails or hangs."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}  # reading must not touch the index
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
