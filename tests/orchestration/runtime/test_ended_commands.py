"""Run commands as processes with a Ray of their own: after an error or a signal they end, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hcl.assembly.experiment_files import to_yaml
from tests.conftest import ROOT
from tests.orchestration.conftest import N_FRAMES, tiny_experiment
from tests.orchestration.sweeps.test_killed_study import processes_below

pytestmark = [pytest.mark.ray, pytest.mark.slow]

LIMIT_S = 300.0  # for a loaded machine; an idle one takes ten seconds


class Place:
    """Hold a working folder, and run commands in processes with a temporary folder of their own."""

    def __init__(self, folder: Path, temporary: Path):
        self.folder, self.temporary = folder, temporary

    def start(self, *words: str) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "orchestration", *words, "--data", "data"],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def assert_nothing_left(self) -> None:
        """Check that no folder of Ray and no lock of a run is left; commands have named the logs that they kept."""
        assert sorted(path.name for path in self.temporary.iterdir()) == []
        assert list((self.folder / "runs").glob(".*.lock")) == []


@pytest.fixture
def place(data_root: Path, tmp_path: Path) -> Iterator[Place]:
    """Write the data with one truncated frame of a training video."""
    shutil.copytree(data_root, tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(to_yaml(tiny_experiment()))
    temporary = Path(tempfile.mkdtemp(prefix="hcl", dir="/tmp"))  # short: sockets
    yield Place(tmp_path, temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def test_a_frame_that_is_torn_ends_train_sweep_and_evaluate_within_seconds(place: Place, trained) -> None:
    """All three run at once to save time, and must not disturb each other."""
    shutil.copytree(trained.folder, place.folder / "runs" / "tiny")
    for video in ("ant/ant_0", "hen/hen_0"):  # one for training, one for validation
        for index in range(N_FRAMES):
            frame = place.folder / "data" / "images" / "toy" / video / f"{index}.jpg"
            frame.write_bytes(frame.read_bytes()[:-200])
    commands = {
        "ant/ant_0": [("train", "tiny.yaml", "--set", "name=run"), ("sweep", "tiny.yaml", "--set", "name=study")],
        "hen/hen_0": [("evaluate", "tiny")],
    }
    running = [(video, words, place.start(*words)) for video, some in commands.items() for words in some]
    for video, words, process in running:
        try:
            _, err = process.communicate(timeout=LIMIT_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 1, (words, err)
        assert f"data/images/toy/{video}/" in err and "is not an image" in err and "Traceback" not in err, (words, err)
    place.assert_nothing_left()


LOOPBACK, AGENT_PORT = "127.0.0.1", 52365


def addresses_of(pids: Iterable[int]) -> set[tuple[str, int]]:
    """Return the addresses on which processes listen, according to the kernel."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):
                inodes.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
    addresses = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                host, port = fields[1].split(":")
                numbers = bytes.fromhex(host[-8:])[::-1]  # the last four of an IPv4 address that IPv6 sees
                is_mapped = len(host) == 8 or host[:24] == "0000000000000000FFFF0000"
                addresses.add((".".join(map(str, numbers)) if is_mapped else host, int(port, 16)))
    return addresses


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGTERM, ("train", "tiny.yaml", "--set", "train.epochs=100000")),
        pytest.param(
            signal.SIGINT,
            ("sweep", "tiny.yaml", "--set", "train.epochs=100000", "--trials", "2"),
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_signal_ends_a_command_its_ray_and_its_workers(
    place: Place, number: signal.Signals, words: tuple[str, ...]
) -> None:
    process = place.start(*words)
    try:
        deadline = time.monotonic() + LIMIT_S
        while not list((place.folder / "runs").glob("**/metrics.parquet")):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.2)
        below = processes_below(process.pid)
        assert "raylet" in below.values()
        (folder,) = place.temporary.glob("hcl-ray-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        of_ray = [
            pid for pid, name in below.items() if not name.startswith("ray::RayTrain")
        ]  # torch's store binds to all
        listening = addresses_of(of_ray)
        assert len(listening) > 5 and {host for host, _ in listening} == {LOOPBACK}, listening
        assert AGENT_PORT not in {port for _, port in listening}
        os.killpg(process.pid, number)  # as a terminal does it
        _, err = process.communicate(timeout=LIMIT_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 128 + number, err
    assert err.splitlines()[-1] == "stopped; repeat the command to resume"
    assert "Traceback" not in err and "SIGTERM received" not in err
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in below) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [name for pid, name in below.items() if Path(f"/proc/{pid}").exists()]
    place.assert_nothing_left()
