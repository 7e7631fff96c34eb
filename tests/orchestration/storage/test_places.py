"""Test that unusable folders for runs and data are refused in seconds, before any work."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from hcl.errors import StorageError
from orchestration.storage import places
from orchestration.storage.places import check_place, storage_error


@pytest.mark.parametrize("name", [".", "not there yet", "a:b", "C:"])
def test_folders_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    assert check_place(tmp_path / name, "--runs") == tmp_path / name
    assert check_place(Path(name), "--runs") == Path(name)


def test_a_file_system_that_hangs_costs_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(places, "ANSWER_S", 0.2)
    monkeypatch.setattr(places.os.path, "exists", lambda _: time.sleep(3))  # type: ignore[attr-defined]
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"does not answer within 0.2 s"):
        check_place(tmp_path, "--runs")
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "text",
    [
        "unable to write to file </torch_71_123_0>: No space left on device (28)",
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory. Please try to raise your shared memory limit.",
    ],
)
def test_shared_memory_that_is_full_is_no_fault_of_the_runs_folder(tmp_path: Path, text: str) -> None:
    fault = storage_error(RuntimeError(f"Caught RuntimeError in DataLoader worker process 0.\n{text}"), tmp_path)
    assert fault is not None and fault.where == "/dev/shm"
    assert "train.loader_processes=0" in str(fault.remedy) and "--shm-size" in str(fault.remedy)


def test_a_full_disk_is_the_one_that_is_named_or_that_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    named = storage_error(OSError(errno.ENOSPC, "No space left on device", "/var/x"), tmp_path)
    in_text = storage_error(RuntimeError("[Errno 28] No space left on device: '/var/y'"), tmp_path)
    assert named is not None and named.where == "/var/x"
    assert in_text is not None and in_text.where == "/var/y"
    monkeypatch.setattr(places.shutil, "disk_usage", lambda _: places.shutil._ntuple_diskusage(2**40, 0, 2**40))
    elsewhere = storage_error(full, tmp_path)
    assert elsewhere is not None and str(elsewhere.where).startswith(f"another disk than that of {tmp_path}")
    monkeypatch.setattr(places.shutil, "disk_usage", lambda _: places.shutil._ntuple_diskusage(2**40, 2**40, 0))
    here = storage_error(full, tmp_path)
    assert here is not None and here.where == str(tmp_path) and "free space" in str(here.remedy)


def test_the_remedy_fits_what_a_disk_refuses(tmp_path: Path) -> None:
    for number, word in ((errno.EROFS, "mount it for writing"), (errno.EDQUOT, "quota"), (errno.ESTALE, "mount it")):
        fault = storage_error(OSError(number, os.strerror(number), "/x"), tmp_path)
        assert fault is not None and word in str(fault.remedy)
        assert number == errno.EDQUOT or "free space" not in str(fault.remedy)
