"""Test `hcl status`: once, as lines of changes, and as a table that is drawn where something has changed."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

import results
from orchestration.state import state_table
from orchestration.state.run_state import run_state
from orchestration.state.state_table import watch
from orchestration.state.study_state import State
from orchestration.storage.locks import lock_of
from tests.conftest import ROOT
from tests.orchestration.conftest import Command
from tests.orchestration.state.test_run_state import held_elsewhere, write_run, write_study


def test_each_run_and_study_is_a_line(hcl: Command, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "first", 5)
    write_run(tmp_path / "runs" / "second", 2)
    write_study(tmp_path / "runs" / "study", ("complete", "running"))
    code, out, err = hcl("status")
    lines = out.splitlines()
    assert code == 0, err
    assert lines[0] == "first: done: 5 of 5 epochs" and lines[1].startswith(
        "second: stopped: 2 of 5 epochs; to resume: "
    )
    assert lines[2].startswith("study: study stopped: 1 of 3 trials; ") and len(lines) == 3
    code, out, _ = hcl("status", "first", "study/t1")
    assert code == 0 and [line.partition(":")[0] for line in out.splitlines()] == ["first", "t1"]


def test_wrong_names_are_told(hcl: Command, tmp_path: Path) -> None:
    assert "no such folder" in hcl("status").err
    write_run(tmp_path / "runs" / "first", 5)
    code, _, err = hcl("status", "frist")
    assert code == 2 and "is not a run" in err
    (tmp_path / "empty").mkdir()
    assert "no runs in empty" in hcl("status", "--runs", "empty").out


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Watch the folder `runs`, piped, in another process."""
    write_run(tmp_path / "runs" / "first", 1)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestration", "status", "--watch", "--every", "0.1"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_a_pipe_gets_a_line_for_each_change_until_ctrl_c(watching: subprocess.Popen[str], tmp_path: Path) -> None:
    def change() -> str:
        assert watching.stdout is not None
        return watching.stdout.readline().partition(" ")[2]

    run = tmp_path / "runs" / "first"
    assert change().startswith("first: stopped: 1 of 5 epochs")
    with held_elsewhere(lock_of(run)):
        assert change().startswith("first: running: epoch 2 of 5; ")
        results.write_epochs(run, [{"epoch": 1}, {"epoch": 2}])
        assert change().startswith("first: running: epoch 3 of 5; ")
    assert change().startswith("first: stopped: 2 of 5 epochs; ")
    write_run(tmp_path / "runs" / "second", 5)
    assert change() == "second: done: 5 of 5 epochs\n"
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=30)
    assert (watching.returncode, out) == (130, "") and err.splitlines() == ["stopped watching; runs are not affected"]


class Ended(Exception):
    pass


def test_a_terminal_is_drawn_again_only_where_something_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "first", 1)
    screen = io.StringIO()
    monkeypatch.setattr(state_table, "out", Console(file=screen, force_terminal=True, width=200))
    written: list[int] = []

    def look() -> list[State]:
        written.append(len(screen.getvalue()))
        if len(written) == 4:
            results.write_epochs(run, [{"epoch": 1}, {"epoch": 2}])
        if len(written) == 7:
            raise Ended
        return [run_state(run)]

    with pytest.raises(Ended):
        watch(look, every=0.0)
    assert written[0] < written[1] == written[2] == written[3] < written[4] == written[5] == written[6]
    assert "stopped" in screen.getvalue() and "2 of 5 epochs" in screen.getvalue()[written[3] :]
