"""Test two hosts, one of which is cut off for 20 seconds, and permanently.

A job must succeed or end with one clear error within LIMIT_S of the cut. The tests need the permission to create
network namespaces.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hcl.assembly.experiment_files import to_yaml
from hcl.datasets.manifest import read_manifest
from tests.cluster.compare import assert_same_run, ended_well, epochs_of, evaluations
from tests.cluster.hosts import LINK, Host, NotPermitted, two_hosts
from tests.cluster.nodes import ROOT, LocalCluster, processes, wait_for
from tests.orchestration.conftest import tiny_experiment, tree, write_data
from tests.orchestration.storage.s3_server import KEYS, missing, s3_server

pytestmark = pytest.mark.cluster

LIMIT_S = 300.0  # a minute until the host counts as lost, four restarts of 30 s, and a loaded machine
NETWORK = ["--env", f"GLOO_SOCKET_IFNAME={LINK}"]


class Place(NamedTuple):
    cluster: LocalCluster
    far: Host
    root: Path


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    try:
        with two_hosts() as both:
            yield both
    except NotPermitted as error:
        pytest.skip(f"no network namespaces here: {error}")


@pytest.fixture
def place(hosts: tuple[Host, Host], tmp_path: Path) -> Iterator[Place]:
    """Start a head and a node on another host, with one CPU each; each test needs its own, because nodes are lost."""
    near, far = hosts
    cluster = LocalCluster(host=near)
    try:
        cluster.start(0, head_cpus=1)
        cluster.add_node(host=far)
        yield Place(cluster, far, tmp_path)
    finally:
        cluster.stop()


@pytest.fixture
def server(hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Start an S3 server for all nodes on the near host; return a function for `s3_server upload BUCKET FOLDER`."""
    if missing():
        pytest.skip(missing())
    near, _ = hosts
    with s3_server(near.address, near.command()) as endpoint:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": endpoint}.items():
            monkeypatch.setenv(name, value)

        def move(direction: str, bucket: str, folder: Path) -> None:
            words = (
                sys.executable,
                "-m",
                "tests.orchestration.storage.s3_server",
                direction,
                endpoint,
                bucket,
                str(folder),
            )
            subprocess.run(near.command(*words), cwd=ROOT, check=True, timeout=LIMIT_S)

        yield move
        for daemon in processes("s3fs", "lab "):
            os.kill(daemon, signal.SIGKILL)


def cut(place: Place, has_begun: Callable[[], object], seconds: float | None, *words: str | Path) -> tuple[int, str]:
    """Submit, unplug the cable after work has begun, for some seconds or permanently; return exit status and output."""
    job = place.cluster.begin(*words, options=[*NETWORK, "--env", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=30"])
    try:
        wait_for(lambda: job.poll() is not None or has_begun(), "work")
        assert job.poll() is None, f"ended before the cut: {job.communicate()[0]}"
        place.far.unplug()
        began = time.monotonic()
        if seconds is not None:
            time.sleep(seconds)
            place.far.plug_in()
        printed, _ = job.communicate(timeout=LIMIT_S)
        print(f"ended {time.monotonic() - began:.0f} s after the cut")
        return job.returncode, printed
    finally:
        job.kill()


def training(place: Place, name: str, epochs: int) -> list[str | Path]:
    if not (place.root / "data").exists():
        write_data(place.root / "data", ("toy",))
    places = ["--data", str(place.root / "data"), "--runs", str(place.root / "runs")]
    return ["train", settings(place, name, epochs), *places]


def settings(place: Place, name: str, epochs: int) -> Path:
    """Return the settings of a run with a worker on either host."""
    path = place.root / f"{name}.yaml"
    path.write_text(to_yaml(tiny_experiment(name=name, train__workers=2, train__epochs=epochs, model__dropout=0.0)))
    return path


def test_training_over_two_hosts_outlasts_a_cut_of_twenty_seconds(place: Place) -> None:
    runs = place.root / "runs"
    ended_well(place.cluster.submit(*training(place, "whole", 30), options=NETWORK))
    status, printed = cut(place, lambda: epochs_of(runs / "cut") >= 2, 20.0, *training(place, "cut", 30))
    assert status == 0, printed
    assert_same_run(runs / "cut", runs / "whole")


def test_training_ends_with_one_error_when_a_host_is_cut_off_for_good(place: Place) -> None:
    folder = place.root / "runs" / "lost"
    status, printed = cut(place, lambda: epochs_of(folder) >= 2, None, *training(place, "lost", 200))
    assert status == 1, printed
    assert printed.count("training stopped") == 1 and "repeat the command to resume" in printed
    assert "Traceback" not in printed
    assert epochs_of(folder) >= 2


def test_extraction_ends_right_when_a_host_is_cut_off_for_good(place: Place) -> None:
    data = place.root / "data"
    make = ["data", "synth", "--domain", "plain", "--videos-per-class", "4", "--size", "64", "--data", data]
    ended_well(place.cluster.submit(*make))
    images = data / "images" / "synth_plain"
    begun = lambda: sum(1 for _ in images.glob("*/*/0.jpg")) >= 5  # noqa: E731
    status, printed = cut(place, begun, None, "extract", "synth_plain", "--data", data)
    assert status == 0, printed
    records = read_manifest(images)
    assert {one.status for one in records.values()} == {"ok"}
    frames = [name for name in tree(images) if name.endswith(".jpg")]
    assert len(frames) == sum(one.n_frames for one in records.values())


def test_a_bucket_is_mounted_on_both_hosts_and_gives_the_same_run(server: Callable[..., None], place: Place) -> None:
    ended_well(place.cluster.submit(*training(place, "one", 3), options=NETWORK))
    server("upload", "lab", place.root)
    one = settings(place, "one", 3)
    places = ["--data", "s3://lab/data", "--runs", "s3://lab/there"]
    ended_well(place.cluster.submit("train", one, *places, options=NETWORK))
    ended_well(place.cluster.submit("evaluate", "one", *places, options=NETWORK))
    networks = {os.stat(f"/proc/{daemon}/ns/net").st_ino for daemon in processes("s3fs", "lab")}
    assert len(networks) == 2
    server("download", "lab", place.root / "downloaded")
    assert_same_run(place.root / "downloaded" / "there" / "one", place.root / "runs" / "one")
    assert len(evaluations(place.root / "downloaded" / "there" / "one")) == 2
