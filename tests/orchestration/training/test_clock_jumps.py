"""Test a clock that jumps by hours and days while commands work: results equal those of a steady clock.

Every process of the program and of its workers sees `time.time` jump every three seconds; the driver does so only once
Ray runs, because Ray's start uses the clock for names of folders.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import results
from hcl.assembly.experiment_files import to_yaml
from hcl.frames.stored_dataset import DataRoot
from orchestration.training.run import Run
from tests.cluster.nodes import ROOT
from tests.orchestration.conftest import TWO, tiny_experiment
from tests.orchestration.training.test_train import assert_same_checkpoints, untimed

JUMPS = """
import time
words = open("/proc/self/cmdline", "rb").read()
first = 0.0 if b"default_worker" in words else 20.0
if b"-m\\0orchestration" in words or not first:
    real, began = time.time, time.monotonic()
    def jumping():
        since = time.monotonic() - began - first
        return real() + (0.0 if since < 0 else (86400.0, -86400.0, 3600.0, -7200.0)[int(since / 3) % 4])
    time.time, time.time_ns = jumping, lambda: int(jumping() * 1e9)
"""


@pytest.mark.ray
@pytest.mark.long
def test_training_and_evaluation_under_a_clock_that_jumps(trained: Run, data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPS)
    (tmp_path / "tiny.yaml").write_text(to_yaml(tiny_experiment(**TWO)))
    places = ["--data", str(data_root), "--runs", str(tmp_path / "runs")]
    for words in (["train", str(tmp_path / "tiny.yaml")], ["evaluate", "tiny", "--method", "hcl"]):
        done = subprocess.run(
            [sys.executable, "-m", "orchestration", *words, *places],
            env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    run = Run(trained.experiment, DataRoot(data_root), tmp_path / "runs", tmp_path / "runs" / "tiny")
    assert untimed(run) == untimed(trained)
    assert_same_checkpoints(run, trained)
    assert results.read_provenance(run.folder).finished
    assert len(results.load(run.folder).evaluations) == 2
