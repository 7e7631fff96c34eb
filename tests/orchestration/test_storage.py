"""Places that runs and data cannot lie in are refused in seconds, before any work."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hcl.errors import ConfigError, StorageError
from orchestration.machines import storage
from orchestration.machines.storage import check_place
from tests.orchestration.conftest import Command


@pytest.mark.parametrize("uri", ["s3://bucket/runs", "gs://bucket", "file:///runs", "memory://x"])
def test_a_uri_is_refused_and_makes_no_folder(hcl: Command, uri: str, tmp_path: Path) -> None:
    for option in ("--runs", "--data"):
        code, _, err = hcl("train", "demo", option, uri)
        assert code == 2 and f"error {option}: " in err and "is a URI" in err and "-> give a folder" in err
    assert list(tmp_path.iterdir()) == []


def test_a_job_is_refused_such_places_too(hcl: Command) -> None:
    code, _, err = hcl("submit", "--dry-run", "--", "train", "demo", "--data", "/d", "--runs", "s3://bucket/runs")
    assert code == 2 and "--runs: 's3:/bucket/runs' is a URI" in err


@pytest.mark.parametrize("name", [".", "not there yet", "a:b", "C:"])
def test_folders_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    assert check_place(tmp_path / name, "--runs") == tmp_path / name
    assert check_place(Path(name), "--runs") == Path(name)


def test_a_file_system_that_hangs_costs_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(storage, "ANSWER_S", 0.2)
    monkeypatch.setattr(storage.os.path, "exists", lambda _: time.sleep(3))  # type: ignore[attr-defined]
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"does not answer within 0.2 s"):
        check_place(tmp_path, "--runs")
    assert time.monotonic() - began < 2
    with pytest.raises(ConfigError, match="is a URI"):
        check_place(Path("s3://bucket"), "--runs")
