"""Test that provenance finds the checkout of the code, and works without one."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from results.exports.reproduction import checks_table, code_checks
from results.records.provenance import code_state, collect_provenance, git_state

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


@needs_git
def test_the_revision_of_another_owners_checkout_is_read_with_its_reason(checkout, monkeypatch):
    """Git refuses to work there; the programs that it would have to run are not run."""
    folder, revision = checkout
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    (folder / "nested").mkdir()
    (folder / "nested" / "more.py").touch()
    with (folder / ".git" / "config").open("a") as settings:
        settings.write(f"[core]\n\tfsmonitor = touch {folder / 'was-run'}\n")
    state = code_state(folder / "code.py")
    assert state[:2] == (revision, None) and "belongs to another user" in state.why
    assert state.remedy == f"git config --global --add safe.directory {folder}"
    assert not (folder / "was-run").exists()
    assert code_state(folder / "nested" / "more.py")[:3] == (None, None, "the code is in no git checkout")
    record = collect_provenance("hcl demo", code=folder / "code.py")
    assert record.revision == revision and record.dirty is None
    assert record.revision_note.endswith(f"-> git config --global --add safe.directory {folder}")
    monkeypatch.setattr("results.exports.reproduction.code_state", lambda: state)
    [check] = code_checks("training", revision, False, {})
    table = checks_table([check])
    assert table[""].tolist() == ["unknown here"] and "safe.directory" in table["here"][0]
    [other] = code_checks("training", "f" * 40, False, {})
    assert other.verdict == "DIFFERS"


@needs_git
def test_shallow_clones_and_worktrees_have_their_revision(checkout, tmp_path_factory, monkeypatch):
    folder, revision = checkout
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for words in (
        ("clone", "-q", "--depth", "1", f"file://{folder}", str(elsewhere / "shallow")),
        ("worktree", "add", "-q", str(elsewhere / "tree")),
    ):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    for name in ("shallow", "tree"):
        assert code_state(elsewhere / name / "code.py") == (revision, False, "", "")
    (elsewhere / "tree" / "code.py").write_text("x = 3\n")
    assert git_state(elsewhere / "tree" / "code.py") == (revision, True)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    for name in ("shallow", "tree"):
        assert code_state(elsewhere / name / "code.py").revision == revision


@needs_git
def test_why_there_is_no_revision_is_told(checkout, tmp_path_factory, monkeypatch):
    folder, _ = checkout
    assert code_state(tmp_path_factory.mktemp("installed") / "code.py").why == "the code is in no git checkout"
    empty = tmp_path_factory.mktemp("empty")
    (empty / "code.py").touch()
    for words in (("init", "-q"), ("add", "code.py")):
        subprocess.run(["git", *words], cwd=empty, check=True)
    assert code_state(empty / "code.py") == (None, None, "nothing has been committed yet", "")
    monkeypatch.setenv("PATH", str(empty))
    state = code_state(folder / "code.py")
    assert state.revision is None and state.why.startswith("git cannot be run: No such file") and not state.remedy
    [check] = code_checks("training", "f" * 40, False, {})
    assert check.verdict == "unknown here" and "git cannot be run" in checks_table([check])["here"][0]


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
