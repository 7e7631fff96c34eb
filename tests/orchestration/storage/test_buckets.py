"""Test runs and data in a bucket that is mounted as a folder, with a real S3 server on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import results
from hcl.assembly.experiment_files import to_yaml
from hcl.errors import ConfigError, StorageError
from orchestration.runtime import mounts
from orchestration.runtime.mounts import is_in_bucket, mount_here, runtime_env, set_up_worker, unmount
from orchestration.storage.buckets import _parsed, mounted
from orchestration.training.run import Run
from tests.cluster.nodes import processes
from tests.orchestration.conftest import TWO, Command, tiny_experiment
from tests.orchestration.storage.s3_server import KEYS, files, missing, s3_server, upload
from tests.orchestration.training.test_train import TIMED

needs_s3 = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def server(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Yield the endpoint; keys and endpoint are in the environment, and mounts end with the test."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": endpoint, mounts._MOUNTED: "{}"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(mounts, "_root", lambda: tmp_path / "mounts")
    yield endpoint
    for folder in json.loads(os.environ[mounts._MOUNTED]):
        unmount(Path(folder))


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    ["gcs://bucket", "file:///runs", "memory://x", "s3://Bucket/runs", "s3://b", "s3://bucket/x?user=me"],
)
def test_what_is_no_path_in_a_bucket_is_refused_and_makes_no_folder(hcl: Command, uri: str, tmp_path: Path) -> None:
    for option in ("--runs", "--data"):
        code, _, err = hcl("train", "demo", option, uri)
        assert code == 2 and f"error {option}: " in err and "neither a folder nor s3://" in " ".join(err.split())
    assert list(tmp_path.iterdir()) == []


def test_googles_buckets_are_asked_by_their_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """They speak S3; none can be reached here."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    bucket, path = _parsed("gs://lab/runs/a", "--runs")
    assert (bucket.name, bucket.endpoint, bucket.region, path) == (
        "lab", "https://storage.googleapis.com", "auto", "runs/a",
    )  # fmt: skip
    assert {"url=https://storage.googleapis.com", "endpoint=auto"} <= set(bucket.options())
    here, _ = _parsed("gs://lab/runs?endpoint_override=127.0.0.1:8&scheme=http", "--runs")
    assert here.endpoint == "http://127.0.0.1:8"


def test_a_path_does_not_leave_its_bucket(hcl: Command) -> None:
    code, _, err = hcl("results", "list", "--runs", "s3://bucket/runs/../../other")
    assert code == 2 and "leads out of its bucket" in err


def test_without_s3fs_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestration.storage.buckets.shutil.which", lambda _: None)
    with pytest.raises(ConfigError, match="needs s3fs, which is not installed") as caught:
        mounted("s3://bucket/runs", "--runs")
    assert "apt-get install s3fs" in str(caught.value)


def test_a_job_on_another_machine_mounts_there(hcl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestration.storage.buckets.shutil.which", lambda _: None)
    words = ("train", "demo", "--data", "s3://bucket/data", "--runs", "s3://bucket/runs")
    code, out, err = hcl("submit", "--dry-run", "--", *words)
    assert code == 0 and "hcl train demo --data s3://bucket/data --runs s3://bucket/runs" in out, err
    code, _, err = hcl("submit", "--dry-run", "--", *words[:-1], "hdfs://bucket/runs")
    assert code == 2 and "neither a folder nor s3://" in " ".join(err.split())


@needs_s3
def test_a_bucket_that_is_not_there_is_told_in_seconds(hcl: Command, server: str) -> None:
    began = time.monotonic()
    code, _, err = hcl("train", "demo", "--runs", "s3://nobody/runs")
    assert code == 1 and f"there is no bucket 'nobody' at {server}" in " ".join(err.split())
    code, _, err = hcl("train", "demo", "--runs", "s3://bucket/runs?endpoint_override=127.0.0.1:9&scheme=http")
    assert code == 1 and "cannot be reached at http://127.0.0.1:9" in " ".join(err.split())
    assert time.monotonic() - began < 30


@needs_s3
def test_a_bucket_that_takes_nothing_is_read_and_refused_as_runs(
    hcl: Command, server: str, data_root: Path, experiment_file: Path
) -> None:
    upload(server, "readonly", {"data/a/b.txt": b"words"})
    folder = mounted("s3://readonly/data", "--data")
    assert (folder / "a" / "b.txt").read_text() == "words"
    code, _, err = hcl("train", experiment_file, "--data", data_root, "--runs", "s3://readonly/runs")
    assert code == 1 and "Read-only file system" in " ".join(err.split())
    assert "Ray" not in err


# --- as a folder ------------------------------------------------------------------------------------------------------


@needs_s3
def test_files_are_objects_and_objects_are_files(server: str) -> None:
    upload(server, "both", {"up/a/0.jpg": b"a picture"})
    folder = mounted("s3://both/up", "--data")
    assert files(folder) == {"a/0.jpg": b"a picture"} and os.access(folder / "a" / "0.jpg", os.R_OK)
    with (folder / "lines").open("a") as file:
        file.write("one\n")
    with (folder / "lines").open("a") as file:
        file.write("two\n")
    os.replace(folder / "lines", folder / "a" / "lines")
    assert mounted("s3://both/up/a", "--runs") == folder / "a"
    assert is_in_bucket(folder / "a" / "lines") and not is_in_bucket(folder.parents[2])
    fresh = mounted(
        f"s3://both/up?endpoint_override={server.removeprefix('http://')}&scheme=http&region=eu-1", "--runs"
    )
    assert fresh != folder and files(fresh) == {"a/0.jpg": b"a picture", "a/lines": b"one\ntwo\n"}


@needs_s3
def test_a_mount_whose_process_was_killed_is_made_anew_also_in_a_worker(server: str) -> None:
    upload(server, "killed", {"x": b"1"})
    folder = mounted("s3://killed/", "--runs")
    assert runtime_env()["worker_process_setup_hook"] == f"{mounts.__name__}.{set_up_worker.__name__}"
    for again in (lambda: mounted("s3://killed/", "--runs"), set_up_worker):
        (daemon,) = processes("s3fs", "killed", folder)
        os.kill(daemon, signal.SIGKILL)
        with pytest.raises(OSError, match="connect"):
            list(folder.iterdir())
        again()
        assert files(folder) == {"x": b"1"}
    unmount(folder)
    assert not os.path.ismount(folder)
    mount_here()
    assert files(folder) == {"x": b"1"}


@needs_s3
def test_a_folder_of_mounts_that_others_may_enter_is_refused(server: str, tmp_path: Path) -> None:
    upload(server, "mine", {})
    (tmp_path / "mounts").mkdir(mode=0o755)
    with pytest.raises(StorageError, match="is not a folder that only you can access"):
        mounted("s3://mine/", "--runs")


@pytest.mark.long
@needs_s3
def test_a_run_in_a_bucket_equals_one_on_disk(
    hcl: Command, server: str, trained: Run, data_root: Path, tmp_path: Path
) -> None:
    upload(server, "lab", {f"data/{name}": content for name, content in files(data_root).items()})
    (tmp_path / "tiny.yaml").write_text(to_yaml(tiny_experiment(**TWO)))
    places = ("--data", "s3://lab/data", "--runs", "s3://lab/runs")
    code, _, err = hcl("train", tmp_path / "tiny.yaml", *places)
    assert code == 0, err
    folder = mounted("s3://lab/runs", "--runs") / "tiny"
    timeless = [
        [{name: value for name, value in row.items() if name not in TIMED} for row in results.read_epochs(place)]
        for place in (folder, trained.folder)
    ]
    assert timeless[0] == timeless[1] and len(timeless[0]) == TWO["train__epochs"]
    code, out, err = hcl("evaluate", "tiny", *places)
    assert code == 0 and "3-shot" in out, err
    assert subprocess.run(["fusermount", "-u", "-z", str(folder.parents[1])], check=False).returncode == 0
    code, out, _ = hcl("results", "list", *places[2:])
    assert code == 0 and "tiny" in out
