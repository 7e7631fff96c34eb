"""Test kill -9 of an actor, of the driver, of a whole Ray, and of packing, at random moments.

`make test-long` runs it. HCL_KILLS sets the number of kills (default 3), HCL_KILL_SEED the moments. Each command runs
in a process of its own with a Ray of its own; only its descendants are killed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

N_KILLS = int(os.environ.get("HCL_KILLS", "3"))
SEED = int(os.environ.get("HCL_KILL_SEED", "0"))
N_VIDEOS = 10 + 10 * N_KILLS  # enough that none of the kills comes too late
EXTRACT = (
    "from orchestration.extraction.extract import *; extract_dataset(StoredDataset(Path(sys.argv[1]), 'toy'), actors=2)"
)
PACKING = "from hcl.frames.packing import *; {}_dataset(Path(sys.argv[1]) / 'images' / 'toy'{})"
PACK, UNPACK = PACKING.format("pack", ", videos_per_shard=4"), PACKING.format("unpack", "")

pytestmark = [pytest.mark.ray, pytest.mark.long]


class Run:
    """Run a command in a process of its own, and track all processes that it starts."""

    def __init__(self, root: Path, code: str):
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"import sys; {code}", str(root)],
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.seen: set[int] = set()

    def descendants(self) -> list[int]:
        """Return the living descendants at any depth; they are remembered, because they may outlive their parents."""
        parents = {}
        for entry in os.scandir("/proc"):
            with suppress(OSError, ValueError):
                parents[int(entry.name)] = int(Path(entry, "stat").read_text().rpartition(")")[2].split()[1])
        pids, new = set(), {self.process.pid}
        while new:
            pids |= new
            new = {pid for pid, parent in parents.items() if parent in pids} - pids
        self.seen |= pids
        return sorted(pids)

    def is_running(self) -> bool:
        return self.process.poll() is None

    def wait_until(self, is_so: Callable[[], bool]) -> bool:
        """Return whether the condition became true before the command ended."""
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            if is_so():
                return True
            if not self.is_running():
                return False
            time.sleep(0.005)
        pytest.fail("the command neither works nor ends")

    def kill(self, what: str) -> None:
        everything = self.descendants()
        victims = {"driver": [self.process.pid], "ray": everything}.get(what)
        for pid in [pid for pid in everything if is_extractor(pid)][:1] if victims is None else victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if what != "actor":
            self.end()

    def end(self) -> None:
        """Check that no process is left; those that die with their driver get a moment to do so."""
        self.process.wait()
        deadline = time.monotonic() + 5
        while (left := [pid for pid in self.seen if is_alive(pid)]) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_extractor(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Extractor")
    return False


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def complete(root: Path, code: str) -> None:
    run = Run(root, code)
    run.wait_until(lambda: False)
    assert run.process.returncode == 0
    run.end()


def make_videos(root: Path) -> Path:
    texture = cv2.resize(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8), (320, 240))
    for index in range(N_VIDEOS):
        path = root / "videos" / "toy" / f"class {index % 3}" / f"{index:03d}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (320, 240))
        for shift in range(60):
            writer.write(np.roll(texture, 3 * shift + index, axis=1))
        writer.release()
        os.utime(path, ns=(10**18, 10**18))
    return root


def contents(root: Path) -> dict[str, bytes]:
    images = root / "images" / "toy"
    return {str(path.relative_to(images)): path.read_bytes() for path in images.rglob("*") if path.is_file()}


def tell(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n  {line}")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_videos(tmp_path_factory.mktemp("reference"))
    complete(root, EXTRACT)
    return root


def test_extraction(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(reference / "videos", tmp_path / "videos")
    journal, chance = tmp_path / "images" / "toy" / "manifest.jsonl", random.Random(SEED)
    run, killed = None, {"actor": 0, "driver": 0, "ray": 0}

    def n_done() -> int:
        with suppress(OSError):
            return journal.read_bytes().count(b"\n")
        return 0

    for what in [list(killed)[number % 3] for number in range(N_KILLS)]:
        if run is None or not run.is_running():
            run = Run(tmp_path, EXTRACT)
            before = n_done()
            if not run.wait_until(lambda n=before: n_done() > n):
                break
        time.sleep(chance.uniform(0, 0.4))
        if run.is_running():
            run.kill(what)
            killed[what] += 1
            run = run if what == "actor" else None
    if run is not None:
        run.wait_until(lambda: False)
        run.end()
    n_left = N_VIDEOS - n_done()
    complete(tmp_path, EXTRACT)
    tell(capsys, f"killed {killed}; {n_left} of {N_VIDEOS} videos were left for the last run")
    assert sum(killed.values()) >= min(N_KILLS, 3)
    assert contents(tmp_path) == contents(reference)
    assert list((tmp_path / "images").rglob("*.partial")) == []


def test_packing_and_unpacking(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, disturbed = tmp_path / "whole", tmp_path / "disturbed"
    for root in (whole, disturbed):
        shutil.copytree(reference / "images", root / "images")
    complete(whole, PACK)
    images, chance, killed = disturbed / "images" / "toy", random.Random(SEED), {PACK: 0, UNPACK: 0}
    commands = [PACK, UNPACK]
    while sum(killed.values()) < N_KILLS:
        run = Run(disturbed, commands[0])
        before = sorted(os.listdir(images))
        run.wait_until(lambda names=before: sorted(os.listdir(images)) != names)
        time.sleep(chance.uniform(0, 0.05))
        if run.is_running():
            run.kill("driver")
            killed[commands[0]] += 1
        else:
            assert run.process.returncode == 0
            commands.reverse()
    complete(disturbed, PACK)
    tell(capsys, f"killed {killed[PACK]} times packing, {killed[UNPACK]} times unpacking")
    assert contents(disturbed) == contents(whole)
    complete(disturbed, UNPACK)
    assert contents(disturbed) == contents(reference)
