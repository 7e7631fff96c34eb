"""One command a run: who else holds it is named, and a holder that is killed holds nothing."""

from __future__ import annotations

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
from orchestration.locks import held
from orchestration.training.train import train
from tests.orchestration.conftest import tiny_experiment

HOLDER = """
import sys, subprocess
from pathlib import Path
from orchestration.locks import held
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
            train(tiny_experiment(), data_root=data_root, runs=tmp_path)
        assert "training of tiny is under way" in str(caught.value)
        assert not (tmp_path / "tiny").exists()


def test_a_killed_holder_holds_nothing_and_its_children_neither(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with another_process(path) as process:
        process.kill()
        process.wait()
        with held(path, what="the test"):
            assert path.read_text() == f"process {os.getpid()} on {socket.gethostname()}"
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
