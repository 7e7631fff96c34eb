"""Test that one command works on a run: messages name another holder, and a killed holder holds nothing."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hcl.errors import StorageError
from hcl.frames.stored_dataset import DataRoot
from orchestration.storage import locks
from orchestration.storage.locks import held
from orchestration.training.train import train
from tests.orchestration.conftest import tiny_experiment

HOLDER = """
import sys, subprocess
from pathlib import Path
from orchestration.storage.locks import held
with held(Path(sys.argv[1]), what="the test"):
    child = subprocess.Popen(["sleep", "60"])  # a child does not inherit the lock
    print(child.pid, flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-c", HOLDER, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        os.kill(child, signal.SIGKILL)


def test_a_second_command_on_a_run_is_refused_naming_the_first(data_root: Path, tmp_path: Path) -> None:
    with another_process(tmp_path / ".tiny.lock") as process:
        with pytest.raises(StorageError, match=f"by process {process.pid} on {socket.gethostname()}") as caught:
            train(tiny_experiment(), data=DataRoot(data_root), runs=tmp_path)
        assert "training of tiny is already running" in str(caught.value)
        assert not (tmp_path / "tiny").exists()


def test_a_killed_holder_holds_nothing_and_its_children_neither(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with another_process(path) as process:
        process.kill()
        process.wait()
        with held(path, what="the test"):
            assert path.read_text().startswith(f"process {os.getpid()} on {socket.gethostname()}\n")
    assert not path.exists()


def test_who_waits_gets_it_when_the_holder_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with another_process(path) as process:
        with pytest.raises(StorageError), held(path, what="the test", wait_s=0.3):
            pass
        assert process.stdin is not None
        process.stdin.close()
        with held(path, what="the test", wait_s=20.0):
            assert str(os.getpid()) in path.read_text()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"), held(tmp_path / "file" / "lock", what="the test"):
        pass


def test_a_file_system_without_locks_is_not_taken_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lockf(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "lockf", lockf)
    with pytest.raises(StorageError, match="cannot be locked: No locks available"), held(tmp_path / "x", what="it"):
        pass


# --- among hosts that share no locks --------------------------------------------------------------------------------

FAR = """
import sys
from pathlib import Path
from orchestration.storage import locks
from orchestration.storage import claims
claims.BEAT_S, claims.QUIET_S, claims._SETTLE_S = 0.1, 1.0, 0.3
claims.socket.gethostname = lambda: sys.argv[2]
locks.is_in_bucket = lambda path: True
locks.lock_here = lambda path: path.with_name(f"lock on {sys.argv[2]}")
print("begins", flush=True)
sys.stdin.readline()
try:
    with locks.held(Path(sys.argv[1]), what="the test"):
        print("holds", flush=True)
        sys.stdin.read()
except Exception as error:
    print(error, flush=True)
"""


@contextmanager
def on_host(name: str, path: Path) -> Iterator[subprocess.Popen]:
    """Start a process that takes the lock once it gets a line, on a host of that name."""
    command = [sys.executable, "-c", FAR, str(path), name]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    try:
        assert said(process) == "begins"
        yield process
    finally:
        process.kill()
        process.wait()


def said(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go(*processes: subprocess.Popen) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")


def test_a_claim_of_another_host_holds_while_it_lives_and_not_longer(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with on_host("near", path) as near, on_host("far", path) as far, on_host("near", path) as second:
        go(far)
        assert said(far) == "holds"
        go(near)
        assert f"already running, by process {far.pid} on far" in said(near)
        far.kill()
        far.wait()
        assert path.exists()
        go(second)
        assert said(second) == "holds"
        assert path.read_text().startswith(f"process {second.pid} on near\n")


def test_of_two_hosts_that_begin_together_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with on_host("near", path) as near, on_host("far", path) as far:
        go(near, far)
        answers = [said(near), said(far)]
    (refused,) = {*answers} - {"holds"}
    assert "holds" in answers and "already running, by process" in refused


def test_a_host_that_comes_back_to_a_claim_that_was_taken_over_stops(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with on_host("far", path) as far, on_host("near", path) as near:
        go(far)
        assert said(far) == "holds"
        os.kill(far.pid, signal.SIGSTOP)  # as one that is cut off
        go(near)
        assert said(near) == "holds"
        os.kill(far.pid, signal.SIGCONT)
        assert f"was taken over by process {near.pid} on near" in said(far)
        far.wait(20)
        assert path.read_text().startswith(f"process {near.pid} on near\n")
        assert near.poll() is None


def test_a_claim_goes_with_the_block(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with on_host("far", path) as far:
        go(far)
        assert said(far) == "holds"
        assert far.stdin is not None
        far.stdin.close()
        far.wait(10)
    assert list(tmp_path.iterdir()) == []
