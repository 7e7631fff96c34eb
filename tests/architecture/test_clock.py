"""Test that the wall clock is only recorded and shown, never used for decisions, because it may jump."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
import time
from pathlib import Path

import pytest

import results
from hcl.errors import StorageError
from orchestration.storage import locks

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("hcl", "orchestration", "search_spaces", "cluster", "results")
WALL = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}
ALLOWED = {
    "orchestration/clusters/doctor.py": "compares the clocks of nodes",
    "orchestration/clusters/node_facts.py": "tells a node's",
    "orchestration/runtime/ray_folder.py": "removes logs of failures after days",
    "orchestration/runtime/notices.py": "a name in the order of writing",
    "orchestration/training/ray_train.py": "a name that no other has",
    "orchestration/sweeps/ray_tune.py": "a name that no other has",
    "orchestration/cli/jobs.py": "shows how long a job has run",
    "results/records/provenance.py": "notes when something was done",
}


def reads_it(path: Path) -> bool:
    """Return true if a module reads the wall clock."""
    return any(
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in WALL
        for node in ast.walk(ast.parse(path.read_text()))
    )


def test_nothing_else_reads_the_wall_clock() -> None:
    found = {
        str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py") if reads_it(path)
    }
    assert found == set(ALLOWED)


def test_a_clock_that_jumps_back_leaves_a_record_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Record a training run whose end is an hour before its start."""
    moments = iter(("2026-03-29T03:10:00+00:00", "2026-03-29T02:10:00+00:00"))
    monkeypatch.setattr("results.records.provenance.now", lambda: next(moments))
    begun = results.collect_provenance("hcl train", seeds={}, digests={})
    results.write_provenance(tmp_path, results.finished(begun))
    assert results.read_provenance(tmp_path).finished == "2026-03-29T02:10:00+00:00"


def test_waiting_for_a_lock_takes_as_long_as_it_should_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = (
        "import sys; from orchestration.storage.locks import *; c = held(Path(sys.argv[1]), what='x'); c.__enter__(); "
    )
    code = held + "print('held', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        jumps = itertools.cycle((0.0, 1e9, -1e9))
        monkeypatch.setattr(time, "time", lambda: next(jumps))
        began = time.monotonic()
        with (
            pytest.raises(StorageError, match="is already running"),
            locks.held(tmp_path / "lock", what="x", wait_s=0.5),
        ):
            pass
        assert 0.5 <= time.monotonic() - began < 5
    finally:
        other.kill()
        other.communicate()
