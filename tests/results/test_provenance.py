"""Provenance tells the checkout that the code comes from, and copes where there is none."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from results.provenance import collect_provenance, git_state

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def checkout(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    (tmp_path / "code.py").write_text("x = 1\n")
    git("add", "code.py")
    git("commit", "-q", "-m", "first")
    return tmp_path, git("rev-parse", "HEAD")


@needs_git
def test_revision_and_whether_tracked_files_differ(checkout):
    folder, revision = checkout
    (folder / "untracked.txt").write_text("not code")
    assert git_state(folder / "code.py") == (revision, False)
    (folder / "code.py").write_text("x = 2\n")
    assert git_state(folder / "code.py") == (revision, True)


@needs_git
def test_a_file_that_the_checkout_does_not_track_has_no_revision(checkout):
    folder, _ = checkout
    (folder / "installed.py").write_text("")
    assert git_state(folder / "installed.py") == (None, None)


def test_without_git_there_is_no_revision(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path / "code.py") == (None, None)


def test_what_is_collected():
    record = collect_provenance(
        "hcl demo", packages=["numpy", "no-such-distribution"], hardware={"gpus": ["one"]}, digests={"data": "ab"}
    )
    assert set(record.versions) == {"python", "numpy"}
    assert record.versions["python"] == platform.python_version()
    assert record.hardware["gpus"] == ["one"]
    assert 1 <= record.hardware["cpus"] <= os.cpu_count()
    assert record.hardware["memory_gib"] > 0
    assert record.digests == {"data": "ab"} and record.finished is None and record.started.endswith("+00:00")


def test_packed_code_names_the_checkout_that_it_comes_from(tmp_path: Path) -> None:
    code = tmp_path / "results" / "provenance.py"
    code.parent.mkdir()
    code.touch()
    assert git_state(code) == (None, None)
    (tmp_path / "revision.json").write_text('{"revision": "abc", "dirty": true}')
    assert git_state(code) == ("abc", True)
    (tmp_path / "revision.json").write_text("[]")
    assert git_state(code) == (None, None)
