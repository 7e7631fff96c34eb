"""Test that a driver without nodes ends with an error instead of waiting for ever."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress

import pytest

from hcl.errors import ClusterError
from orchestration.runtime.node_watch import ends_without_nodes

FAST = {"patience_s": 0.1, "every_s": 0.02}


def wait() -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        time.sleep(0.01)


def test_without_a_node_the_wait_ends_in_an_error() -> None:
    with (
        pytest.raises(ClusterError, match="no node of Ray is left") as caught,
        ends_without_nodes("local Ray", count=lambda: 0, **FAST),
    ):
        wait()
    assert "repeat the command" in (caught.value.remedy or "")


def test_what_takes_the_interruption_for_its_own_is_told_as_well() -> None:
    with (
        pytest.raises(ClusterError),
        ends_without_nodes("local Ray", count=lambda: 0, **FAST),
        suppress(KeyboardInterrupt),
    ):
        wait()


def test_a_node_that_comes_back_in_time_is_no_loss() -> None:
    answers = iter([1, 0, 0, 1, 0, 1] + [1] * 1000)
    with ends_without_nodes("local Ray", count=lambda: next(answers), patience_s=1.0, every_s=0.02):
        time.sleep(0.5)


def test_who_cannot_be_asked_has_no_node() -> None:
    def refuse() -> int:
        raise ConnectionError

    with pytest.raises(ClusterError), ends_without_nodes("local Ray", count=refuse, **FAST):
        wait()


def test_other_errors_and_ctrl_c_pass() -> None:
    for kind in (ValueError, KeyboardInterrupt):
        with pytest.raises(kind), ends_without_nodes("local Ray", count=lambda: 1):
            raise kind


def test_what_ignores_the_interruption_is_ended_with_its_process() -> None:
    code = """
import signal, time
from orchestration.runtime.node_watch import ends_without_nodes
signal.signal(signal.SIGINT, signal.SIG_IGN)
with ends_without_nodes("local Ray", count=lambda: 0, patience_s=0.1, every_s=0.02, grace_s=0.3):
    time.sleep(60)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == ClusterError.exit_code and "no node of Ray is left; repeat the command" in ended.stderr
