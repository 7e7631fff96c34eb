"""Collect the provenance of a run: code revision, versions, hardware, seeds, digests."""

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
from typing import Any, NamedTuple

from results.records.records import Provenance

PACKAGES = ("torch", "torchvision", "ray", "optuna", "numpy", "pandas", "pyarrow", "opencv-python-headless")
PACKED = "revision.json"
"""File beside the packages of code that was sent to a cluster: its commit, and whether it had been changed."""


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
    """Return the provenance of a run that starts now.

    Args:
        command: the command line, or its words.
        data: numbers of classes and videos of each partition.
        resources: workers, CPUs and GPUs that the run holds.
        hardware: facts that only the caller knows (GPUs, nodes of a cluster), added to those of this machine.
        packages: distributions whose versions are recorded; those not installed are left out.
        code: a file of the running code, whose checkout's revision is recorded.
    """
    state = code_state(code)
    return Provenance(
        command=command if isinstance(command, str) else shlex.join(command),
        revision=state.revision,
        dirty=state.dirty,
        revision_note=f"{state.why} -> {state.remedy}" if state.remedy else state.why,
        versions=versions_of(packages),
        hardware={**this_machine(), **(hardware or {})},
        seeds=dict(seeds or {}),
        digests=dict(digests or {}),
        data=dict(data or {}),
        resources=dict(resources or {}),
        started=now(),
    )


def finished(provenance: Provenance) -> Provenance:
    """Return the provenance with the present time as its end."""
    return replace(provenance, finished=now())


def now() -> str:
    """Return the present time, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class CodeState(NamedTuple):
    """Hold the commit of the running code, whether tracked files differ from it, and why one of the two is unknown.

    Attributes:
        why: empty if both are known.
        remedy: the command that would make them known; empty if nothing needs to be done.
    """

    revision: str | None
    dirty: bool | None
    why: str = ""
    remedy: str = ""


def git_state(code: Path = Path(__file__)) -> tuple[str | None, bool | None]:
    """Return commit and dirtiness of the checkout that tracks `code`; (None, None) outside one or without git."""
    return code_state(code)[:2]


def code_state(code: Path = Path(__file__)) -> CodeState:
    """Return the state of the checkout that tracks `code`.

    A virtual environment may lie inside somebody else's checkout, so only a checkout that tracks the file counts. Code
    that was packed for a job has no checkout, but a note of the one that it comes from. In a checkout of another owner
    git refuses to work, because its settings could name programs to run. The commit is then read without these
    settings, and whether files were changed, which would need them, stays unknown.
    """
    folder = code.resolve().parent
    listed = _git(folder, "ls-files", "--error-unmatch", "--", code.name)
    if listed.is_refused and (root := _root_above(folder)) is not None:
        return _state_of_other_owner(root, code)
    if listed.output is None:
        return _packed_state(folder.parent / PACKED, listed.problem or "the code is in no git checkout")
    revision = _git(folder, "rev-parse", "HEAD")
    if revision.output is None:
        return CodeState(None, None, revision.problem or "nothing has been committed yet")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return CodeState(revision.output, None if changes.output is None else bool(changes.output), changes.problem)


def _root_above(folder: Path) -> Path | None:
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), None)


def _state_of_other_owner(root: Path, code: Path) -> CodeState:
    """Return the commit, read by a git that is told the checkout's place, checks no owner and runs no programs."""
    place = {"GIT_DIR": str(root / ".git"), "GIT_WORK_TREE": str(root)}
    plain = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
    name = str(code.resolve().relative_to(root))
    if _git(root, *plain, "ls-files", "--error-unmatch", "--", name, **place).output is None:
        return _packed_state(code.resolve().parent.parent / PACKED, "the code is in no git checkout")
    revision = _git(root, *plain, "rev-parse", "HEAD", **place).output
    return CodeState(
        revision,
        None,
        f"the checkout {root} belongs to another user, so git does not show whether its files were changed",
        f"git config --global --add safe.directory {shlex.quote(str(root))}",
    )


def _packed_state(note: Path, why: str) -> CodeState:
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        content = json.loads(note.read_text())
        return CodeState(content["revision"], content["dirty"])
    return CodeState(None, None, why)


def this_machine() -> dict[str, Any]:
    """Return host, system, usable CPUs and memory in GiB."""
    affinity = getattr(os, "sched_getaffinity", None)  # absent on macOS
    facts: dict[str, Any] = {
        "host": platform.node(),
        "platform": platform.platform(),
        "cpus": len(affinity(0)) if affinity else os.cpu_count(),
    }
    if processor := _processor():
        facts["cpu"] = processor
    if sys.platform != "win32":
        facts["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return facts


def _processor() -> str:
    """Return the name of the processor, such as `AMD EPYC 7R13 Processor`; empty if the system does not tell it."""
    with suppress(OSError, UnicodeError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python and of the installed distributions."""
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


class _Answer(NamedTuple):
    """Hold the answer of git, None if it failed; the reason; and whether it refused another user's checkout."""

    output: str | None
    problem: str = ""
    is_refused: bool = False


def _git(folder: Path, *arguments: str, **place: str) -> _Answer:
    """Return the answer of git; `place` holds variables that name the checkout's place."""
    environment = {**os.environ, **place, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}  # reading must not touch the index
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=_PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        return _Answer(None, f"git: no answer within {_PATIENCE_S} s")
    except (OSError, UnicodeError) as error:
        return _Answer(None, f"git cannot be run: {getattr(error, 'strerror', None) or error}")
    if answer.returncode:
        return _Answer(None, is_refused=any(words in answer.stderr for words in _REFUSALS))
    return _Answer(answer.stdout.strip())


_PATIENCE_S = 20
_REFUSALS = ("dubious ownership", "unsafe repository")
"""Messages of git since 2.36, and of 2.35.2."""
