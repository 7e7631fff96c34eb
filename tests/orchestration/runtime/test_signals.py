"""Commands that a signal ends: in order, with a status and a line that say so; and at once at a second Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from orchestration.cli import submit
from orchestration.runtime import signals as interrupts
from orchestration.runtime.signals import Interrupts, ended_by, handlers_kept, orderly_ends
from tests.orchestration.conftest import Command


def receive(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(30)


@pytest.mark.parametrize("number", interrupts.HANDLED)
def test_a_signal_ends_a_command_with_its_status_and_how_to_go_on(
    number: signal.Signals, hcl: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = signal.getsignal(number)
    undone = []

    def interrupted(*_: object, **__: object) -> None:
        try:
            with handlers_kept():  # as `ray.init` does
                signal.signal(number, signal.SIG_DFL)
            receive(number)
        finally:
            undone.append(number)

    monkeypatch.setattr("hcl.frames.checking.check_dataset", interrupted)
    code, _, err = hcl("data", "check", "toy")
    assert code == 128 + number and undone == [number]
    assert err == "stopped; repeat the command to go on where it was\n"
    assert signal.getsignal(number) is before


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with orderly_ends() as seen:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not seen.received
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_ctrl_c_ends_at_once_and_other_signals_that_come_twice_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once: list[int] = []
    monkeypatch.setattr(Interrupts, "end_at_once", lambda self: at_once.append(self.exit_code))
    with orderly_ends() as seen:
        with pytest.raises(KeyboardInterrupt):
            receive(signal.SIGTERM)
        for number in (signal.SIGHUP, signal.SIGTERM):  # a terminal that closes says so twice
            os.kill(os.getpid(), number)
        assert not at_once
        os.kill(os.getpid(), signal.SIGINT)
        assert at_once == [143] and seen.exit_code == 143


def test_what_can_end_by_itself_is_asked_first() -> None:
    asked = []
    with orderly_ends() as seen:
        with ended_by(lambda: bool(asked.append(1)) or True):
            os.kill(os.getpid(), signal.SIGTERM)
        assert asked == [1] and seen.received == [signal.SIGTERM]


def test_a_command_that_hangs_as_it_ends_is_ended(tmp_path: Path) -> None:
    """Nothing waits for ever: neither after one signal nor, for longer than a moment, after two."""
    script = """
        import os, signal, sys, time
        from orchestration.runtime import signals as interrupts
        interrupts.GRACE_S = float(sys.argv[1])
        with interrupts.orderly_ends():
            try:
                print("ready", flush=True)
                time.sleep(60)
            finally:
                print("ending", flush=True)
                time.sleep(60)
    """
    for grace_s, signals, status in (("0.2", [signal.SIGTERM], 143), ("60", [signal.SIGINT, signal.SIGINT], 130)):
        words = [sys.executable, "-c", textwrap.dedent(script), grace_s]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for number in signals:
            process.stdout.readline()
            process.send_signal(number)
        assert process.communicate(timeout=20)[1] == f"{interrupts.AGAIN}\n"
        assert process.returncode == status


def test_ctrl_c_of_a_job_that_is_followed_says_how_to_reach_it_in_one_line(
    hcl: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands are there to be copied, however narrow the terminal is. A job has time to end in order."""
    job, given = "hcl-train-a-name-that-is-rather-long-0123456789", {}

    class Server:
        url, sends_token_in_clear = "http://head:8265", False

        def __init__(self, address: str | None) -> None:
            pass

        def submit(self, entrypoint: str, **named: Any) -> None:
            given.update(named)

        def follow(self, job_id: str, write: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr("cluster.jobs.JobServer", Server)
    monkeypatch.setattr(submit.notes, "_width", 40)
    code, _, err = hcl("submit", "--installed", "--name", job, "--", "config", "list")
    assert code == 130
    assert err == f"job {job} goes on: hcl jobs logs {job} --follow, or hcl jobs stop {job}\n"
    assert given["environment"]["RAY_JOB_STOP_WAIT_TIME_S"] == "30"
