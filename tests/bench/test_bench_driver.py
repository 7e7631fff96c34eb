"""What the driver of 1,000 actors keeps in mind: `map_actors` with stand-ins for Ray, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
N_ACTORS, N_BLOCKS, LIMIT_MB = 1000, 200_000, 1000

DRIVER = """
import collections, resource, sys, time
from types import SimpleNamespace
from orchestration.runtime import actors

class Reference:
    __slots__ = ()

pending = collections.OrderedDict()  # what is under way; every look some hundred calls have ended

def call(actor, block):
    reference = Reference()
    pending[reference] = None
    return reference

def wait(references, num_returns=1, timeout=None, fetch_local=True):
    if num_returns == 1:
        for _ in range(min(500, len(pending))):
            pending.popitem(last=False)
    done = [one for one in references if one not in pending]
    return done, []

def make():
    return SimpleNamespace(__ray_ready__=SimpleNamespace(remote=Reference))

actors.ray = SimpleNamespace(
    wait=wait, get=lambda reference: b"x" * 200, kill=lambda actor, no_restart: None, is_initialized=lambda: True
)
n_actors, n_blocks = int(sys.argv[1]), int(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began, n_done = time.process_time(), 0
for block, answer in actors.map_actors(make, range(n_blocks), call, n_actors=n_actors):
    n_done += 1
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(n_done, before // 1024, peak // 1024, round(time.process_time() - began, 1))
"""


def test_a_driver_of_a_thousand_actors(capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(N_ACTORS), str(N_BLOCKS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    n_done, before, peak, seconds = done.stdout.split()
    with capsys.disabled():
        print(f"\n  {N_ACTORS} actors, {n_done} blocks: {peak} MB at most, {before} before; {seconds} s of the driver")
    assert int(n_done) == N_BLOCKS
    assert int(peak) < LIMIT_MB
    assert int(peak) - int(before) < 100  # what is done is forgotten: memory follows from actors, not from blocks
