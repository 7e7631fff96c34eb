"""Folders that runs and data cannot lie in are refused in seconds, before any work."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hcl.errors import StorageError
from orchestration.machines import storage
from orchestration.machines.storage import check_place


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
