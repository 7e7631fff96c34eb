"""Implement `hcl --version`."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import typer

import orchestration
from orchestration.console import out


def show_version(is_asked: bool) -> None:
    """Print the version and the code revision, and end the command. A callback of `--version`."""
    if is_asked:
        out.print(version_text(), soft_wrap=True, markup=False, highlight=False)
        raise typer.Exit


def version_text() -> str:
    """Return the version, the commit, and whether tracked files differ from it, or why the commit is unknown."""
    from results.records.provenance import code_state

    state = code_state()
    if state.revision is None:
        return f"hcl {_version()}, revision unknown: {state.why}"
    changes = {True: ", tracked files differ from it", False: "", None: f", changes unknown: {state.why}"}[state.dirty]
    return f"hcl {_version()}, revision {state.revision}{changes}"


def _version() -> str:
    """Return the version of the code that runs: of its checkout or package for a job, or of the installed distribution.

    Code of a checkout may run beside an installed version, so the distribution is only asked where there is no
    pyproject.toml beside the packages.
    """
    project = Path(orchestration.__file__).resolve().parents[1] / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text())["project"]["version"])
    return importlib.metadata.version("hcl-orchestrator")
