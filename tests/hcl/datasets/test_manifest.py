"""Test the manifest: an order of writes that survives a crash, and records of older versions."""

from __future__ import annotations

import errno
import os
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hcl.datasets.manifest import VideoRecord, append_record, read_manifest, write_manifest
from hcl.errors import StorageError

RECORD = VideoRecord("a", "v", "ok", n_frames=3, options_digest="abc", decoder="opencv", decoder_version="5.0.0")


def disk_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Record the following synchronisations, renames and removals in order, by the file's name."""
    calls: list[tuple[str, str]] = []
    fsync, rename, remove = os.fsync, os.replace, Path.unlink

    def name(descriptor: int) -> str:
        return os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(("fsync", name(fd))), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(("replace", Path(b).name)), rename(a, b))[1])
    monkeypatch.setattr(
        Path,
        "unlink",
        lambda path, missing_ok=False: (calls.append(("unlink", path.name)), remove(path, missing_ok))[1],
    )
    return calls


def test_the_journal_goes_after_the_manifest_and_its_name_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_record(tmp_path, RECORD)
    with monkeypatch.context() as patched:
        calls = disk_calls(patched)
        write_manifest(tmp_path, [RECORD])
    assert [what for what, _ in calls] == ["fsync", "replace", "fsync", "unlink"]
    assert calls[0][1].startswith(".manifest.parquet.")
    assert calls[1:] == [("replace", "manifest.parquet"), ("fsync", tmp_path.name), ("unlink", "manifest.jsonl")]
    assert read_manifest(tmp_path) == {"a/v": RECORD}


@pytest.mark.parametrize("n_synced", [0, 1])
def test_a_manifest_that_does_not_reach_the_disk_leaves_the_journal(
    tmp_path: Path, n_synced: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_record(tmp_path, RECORD)
    done: list[int] = []

    def fsync(descriptor: int) -> None:
        if len(done) == n_synced:
            raise OSError(errno.EIO, "Input/output error")
        done.append(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="Input/output error"):
        write_manifest(tmp_path, [RECORD])
    assert (tmp_path / "manifest.jsonl").exists()
    assert read_manifest(tmp_path) == {"a/v": RECORD}
    assert list(tmp_path.glob(".*")) == []


def test_manifests_without_a_decoder_still_read(tmp_path: Path) -> None:
    row = asdict(RECORD)
    for column in ("decoder", "decoder_version"):
        del row[column]
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "manifest.parquet")
    record = read_manifest(tmp_path)["a/v"]
    assert record == replace(RECORD, decoder="", decoder_version="")
    assert record.is_unconfirmed and not RECORD.is_unconfirmed
    assert not replace(record, status="timeout").is_unconfirmed  # no decoder has finished it
