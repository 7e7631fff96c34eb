"""Test that a trial that exceeds its node's memory is reported as such, and that the study continues."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from orchestration.sweeps.study import Limits
from orchestration.sweeps.sweep import sweep
from orchestration.training.run import Run
from tests.orchestration.sweeps.stub_trials import Report, instant, stub_study

_MEBIBYTE = 2**20
_DRIVER = """
import os, psutil
memory = psutil.virtual_memory()
os.environ["RAY_memory_usage_threshold"] = str(round(1 - memory.available / memory.total + 0.12, 2))
os.environ["RAY_memory_monitor_refresh_ms"] = "100"
from tests.orchestration.sweeps.test_memory_of_trials import drive
drive({data_root!r}, {runs!r})
"""


def greedy(run: Run, report: Report) -> None:
    """Let the second trial take ever more memory."""
    held = []
    while run.folder.name.endswith("1"):
        held.append(bytearray(100 * _MEBIBYTE))
        held[-1][::4096] = b"x" * len(range(0, len(held[-1]), 4096))
        time.sleep(0.05)
    instant(run, report)


def drive(data_root: str, runs: str) -> None:
    """Run a study in a process whose Ray has a memory limit a little above the present use."""
    limits = Limits(concurrency=1, retries=0)
    _, trials = sweep(stub_study(Path(data_root), Path(runs), 3, stop_rule="none", limits=limits), train=greedy)
    print(json.dumps([[trial.state, trial.error] for trial in trials]))


@pytest.mark.ray
@pytest.mark.long
def test_a_trial_that_takes_too_much_memory(data_root: Path, tmp_path: Path) -> None:
    code = _DRIVER.format(data_root=str(data_root), runs=str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    outcomes: list[Any] = json.loads(ended.stdout.splitlines()[-1])
    assert outcomes[0] == outcomes[2] == ["complete", None]
    assert outcomes[1][0] == "failed" and "ran out of memory" in outcomes[1][1]
