"""Measure a check, the effective split and the decision to resume for seventy thousand videos."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hcl.config.resolve import resolve
from hcl.datasets.manifest import VideoRecord, read_manifest, write_manifest
from hcl.datasets.splits import Partition, Video, write_split
from hcl.frames.checking import check_dataset, keep_effective
from hcl.frames.decoding import FrameOptions
from hcl.frames.inventory import extraction_jobs, take_inventory
from hcl.frames.stored_dataset import DataRoot, StoredDataset
from orchestration.cli.train import train_and_show
from orchestration.training import train as training

CLASSES = {"train": range(64), "val": range(64, 76), "test": range(76, 100)}
N_VIDEOS = 700  # of each class
LIMIT_S = 10.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write lists, a manifest with a record of every video, empty folders of frames, and files of one byte."""
    root = tmp_path_factory.mktemp("large")
    partitions, records = {}, []
    for name, numbers in CLASSES.items():
        classes = tuple(f"class {number} (with something)" for number in numbers)
        videos = tuple(Video(one, f"{one[6:8].strip()}{index:06d}") for one in classes for index in range(N_VIDEOS))
        partitions[name] = Partition("large", name, classes, videos)
        for class_name in classes:
            (root / "videos" / "large" / class_name).mkdir(parents=True)
            (root / "images" / "large" / class_name).mkdir(parents=True)
        for video in videos:
            (root / "images" / "large" / video.key).mkdir()
            file = root / "videos" / "large" / f"{video.key}.webm"
            file.write_bytes(b"x")
            stamp: dict[str, Any] = {"source_bytes": 1, "source_mtime_ns": file.stat().st_mtime_ns}
            stamp |= {"source": f"{video.class_name}/{file.name}", "options_digest": FrameOptions().digest}
            stamp["digest"] = f"of {video.key}"
            records.append(VideoRecord(video.class_name, video.name, "ok", n_frames=40, **stamp))
    write_split(root, "large", partitions)
    write_manifest(root / "images" / "large", records)
    return root


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def test_a_check_takes_seconds(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_s, check = seconds(lambda: check_dataset(StoredDataset(root, "large")))
    keep_s, _ = seconds(lambda: keep_effective(StoredDataset(root, "large"), check))
    stored = StoredDataset(root, "large")
    use_s, parts = seconds(lambda: [stored.effective(name) for name in CLASSES])
    assert sum(len(part.videos) for part in parts) == 70_000
    assert check.warnings() == [] and check.is_extracted
    with capsys.disabled():
        print(f"\n  70,000 videos: check {check_s:.2f} s, write {keep_s:.2f} s, three partitions {use_s:.2f} s")
    assert max(check_s, keep_s, use_s) < LIMIT_S


class RayStarts(Exception):
    """Raised in the place of the start of Ray."""


def test_a_training_starts_in_seconds(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(address: str | None) -> None:
        raise RayStarts

    monkeypatch.setattr(training, "connect", start)
    changes = {"data.dataset": "large", "model.weights": "none", "clips.flip": False}
    experiment, data = resolve(None, changes).experiment, DataRoot(root)

    def train() -> None:
        with pytest.raises(RayStarts):
            train_and_show(experiment, data, data=root, runs=tmp_path)

    start_s, _ = seconds(train)
    with capsys.disabled():
        print(f"\n  70,000 videos: from `hcl train` to the start of Ray {start_s:.2f} s")
    assert start_s < LIMIT_S


def test_the_decision_to_resume_takes_seconds(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def decide() -> list:
        inventory, images_root = take_inventory(StoredDataset(root, "large")), root / "images" / "large"
        return extraction_jobs(images_root, inventory, read_manifest(images_root), FrameOptions().digest)

    decide_s, jobs = seconds(decide)
    assert jobs == []
    write_s, _ = seconds(
        lambda: write_manifest(root / "images" / "large", read_manifest(root / "images" / "large").values())
    )
    with capsys.disabled():
        print(f"\n  70,000 videos: decision to resume {decide_s:.2f} s, manifest read and written {write_s:.2f} s")
    assert max(decide_s, write_s) < LIMIT_S
