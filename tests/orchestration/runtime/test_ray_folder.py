"""The folder of a local Ray: private, gone afterwards, and never one that another command uses."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hcl.errors import ClusterError, DataError
from orchestration.runtime import local_ray, ray_folder
from orchestration.runtime.local_ray import _remedy, _token_beside
from orchestration.runtime.ray_folder import private_folder


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go in these tests; a short path stands for the system's /tmp."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setattr(ray_folder, "_SYSTEM", folder)
    monkeypatch.setattr(
        ray_folder, "_LIMIT", len(os.fsencode(f"{folder}/{ray_folder._FOLDER}12345678{ray_folder._SOCKET}"))
    )
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_it_is_the_users_alone_and_gone_afterwards(base: Path) -> None:
    with private_folder() as folder:
        assert os.environ["RAY_TMPDIR"] == str(folder.path)
        assert folder.path.parent == base and folder.path.stat().st_mode & 0o777 == 0o700
        (folder.path / "ray" / "session").mkdir(parents=True)
        (folder.path / "ray").chmod(0o777)
    assert "RAY_TMPDIR" not in os.environ and list(base.iterdir()) == []


def test_what_a_killed_command_left_is_removed_and_what_a_living_one_uses_is_not(base: Path) -> None:
    script = """
import sys
from orchestration.runtime import ray_folder
ray_folder._LIMIT = 10**6  # no link in the system's /tmp, which would stay there
with ray_folder.private_folder() as folder:
    (folder.path / "ray").mkdir()
    print(folder.path, flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    with private_folder():
        assert (folder / "ray").is_dir()
    process.kill()
    process.wait()
    process.communicate()
    assert (folder / "ray").is_dir()
    with private_folder():
        assert not folder.exists()


def test_nothing_else_is_removed(base: Path) -> None:
    """A folder that another command is just making, kept logs, what somebody else made; logs go after days."""
    fresh, kept, old, link = (base / f"hcl-ray-{name}" for name in ("fresh", "logs-1", "logs-2", "link"))
    for folder in (fresh, kept, old):
        folder.mkdir()
    (base / "mine").mkdir()
    (base / "mine" / "owner").touch()
    link.symlink_to(base / "mine")
    long_ago = time.time() - 30 * 86400
    os.utime(old, (long_ago, long_ago))
    with private_folder():
        assert fresh.exists() and kept.exists() and not old.exists()
    assert (base / "mine" / "owner").exists()


def test_a_path_that_is_too_long_for_sockets_is_linked_to(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = base.parent / ("long" * 30)
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.setenv(name, str(long))
        with private_folder() as folder:
            assert len(os.fsencode(f"{folder.path}{ray_folder._SOCKET}")) <= ray_folder._LIMIT + 2
            assert folder.path.resolve().parent == long and folder.path.resolve().stat().st_mode & 0o777 == 0o700
            for place in (base, long):
                ray_folder._remove_leftovers(place)  # as another command does
            assert (folder.path / "owner").exists()
        assert list(base.iterdir()) == [] and list(long.iterdir()) == []


def test_a_place_that_cannot_be_used_is_named_with_what_to_do_about_it(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(base / "file" / "x"))
    with pytest.raises(ClusterError, match=r"RAY_TMPDIR=.*file/x: .*Not a directory") as raised, private_folder():
        pass
    assert "set RAY_TMPDIR to a folder of yours" in str(raised.value.remedy)
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv("TMPDIR", str(base / "file" / "x"))
    with private_folder() as folder:  # as Python's own temporary files
        assert folder.path.parent == base


def test_logs_are_kept_of_a_failure_that_is_no_users_mistake(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(*_: object, **__: object) -> None:
        logs = Path(os.environ["RAY_TMPDIR"]) / "ray" / "session_2026" / "logs"
        logs.mkdir(parents=True)
        (logs / "raylet.err").write_text("why")

    monkeypatch.setattr(local_ray.ray, "init", start)
    monkeypatch.setattr(local_ray.ray, "shutdown", lambda: None)
    for error in (DataError("no frames"), KeyboardInterrupt()):
        with pytest.raises(type(error)), local_ray.local_ray(1, {}):
            raise error
        assert list(base.iterdir()) == [] and capsys.readouterr().err == ""
    for failure in (ClusterError("training stopped"), ZeroDivisionError("a bug")):
        with pytest.raises(type(failure)), local_ray.local_ray(1, {}):
            raise failure
        (kept,) = base.iterdir()
        assert capsys.readouterr().err == f"Ray's logs of this failure: {kept}\n"
        assert (kept / "raylet.err").read_text() == "why" and kept.stat().st_mode & 0o777 == 0o700
        (kept / "raylet.err").unlink()
        kept.rmdir()


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (PermissionError(13, "Permission denied", "/.ray"), "make that path writable for you"),
        (OSError(28, "No space left on device"), "free space in /tmp and /dev/shm"),
        (RuntimeError("Failed to start: [Errno 24] Too many open files"), "ulimit -n"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "ulimit -u"),
        (RuntimeError("The current node timed out during startup."), "check free memory"),
    ],
)
def test_the_remedy_of_a_ray_that_does_not_start_fits_its_cause(error: Exception, remedy: str) -> None:
    assert _remedy(error).startswith(remedy) or remedy in _remedy(error)
    assert ("memory" in _remedy(error)) == ("memory" in remedy)


def test_a_user_without_a_home_has_a_token_all_the_same(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(base / "home"))
    (base / "home").mkdir()
    assert _token_beside(base) == {} and (base / "home" / ".ray").is_dir()
    monkeypatch.setenv("HOME", "/proc")  # nobody may write there
    first, second = base / "first", base / "second"
    tokens = []
    for folder in (first, second):
        folder.mkdir()
        path = Path(_token_beside(folder)["RAY_AUTH_TOKEN_PATH"])
        assert path.parent == folder and path.stat().st_mode & 0o777 == 0o600
        tokens.append(path.read_text())
    assert len(tokens[0]) >= 32 and tokens[0] == tokens[1]  # Ray's own code reads it once a process
