"""Test that extractions of an earlier version, which did not verify OpenCV's frames, are verified once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcl.datasets.manifest import VideoRecord, write_manifest
from hcl.frames.decoding import FrameOptions
from hcl.frames.extraction import extract_video
from hcl.frames.inventory import extraction_jobs, take_inventory
from hcl.frames.stored_dataset import StoredDataset
from tests.hcl.videos.made_videos import Made, picture

PLAIN = Made("avi", "mpeg4", "yuv420p")
INTERLACED = Made("avi", "mpeg4", "yuv420p", fields="tff")
OPTIONS = FrameOptions()


def stored_by_an_earlier_version(folder: Path, source: Path, pictures: list[np.ndarray]) -> VideoRecord:
    folder.mkdir(parents=True)
    for index, pixels in enumerate(pictures):
        cv2.imwrite(str(folder / f"{index}.jpg"), pixels)
    stat = source.stat()
    return VideoRecord(
        *(folder.parent.name, folder.name, "ok"),
        n_frames=len(pictures),
        source=f"{source.parent.name}/{source.name}",
        source_bytes=stat.st_size,
        source_mtime_ns=stat.st_mtime_ns,
        options_digest=OPTIONS.digest,
    )


def test_frames_that_are_right_stay_and_black_ones_are_made_again(tmp_path: Path) -> None:
    black = [np.zeros((80, 96, 3), np.uint8)] * 5
    right = [picture(2 * index) for index in range(5)]
    for video, pictures, decoder in (
        (PLAIN, right, "opencv"),
        (INTERLACED, black, "pyav"),
        (PLAIN, [*right[:2], right[1], *right[3:]], "opencv"),  # one frame repeated, as in a stream that switched
    ):
        source, folder = video.write(tmp_path / "video.avi"), tmp_path / "images" / "c" / "video"
        earlier = stored_by_an_earlier_version(folder, source, pictures)
        before = [path.read_bytes() for path in sorted(folder.iterdir())]
        record = extract_video(source, folder, OPTIONS, earlier=earlier)
        assert record.decoder == decoder
        stays = pictures is right
        assert ([path.read_bytes() for path in sorted(folder.iterdir())] == before) == stays
        assert (record == replace(earlier, decoder="opencv")) == stays
        assert bool(record.decoder_version) != stays
        assert np.ptp(cv2.imread(str(folder / "0.jpg"))) > 200
        shutil.rmtree(folder)


@pytest.mark.parametrize("status", ["ok", "broken", "timeout"])
def test_videos_of_an_earlier_version_are_jobs_once(tmp_path: Path, status: str) -> None:
    (tmp_path / "videos" / "toy" / "c").mkdir(parents=True)
    source = PLAIN.write(tmp_path / "videos" / "toy" / "c" / "video.avi")
    images = tmp_path / "images" / "toy"
    record = replace(stored_by_an_earlier_version(images / "c" / "video", source, [picture(0)]), status=status)
    write_manifest(images, [record])
    inventory = take_inventory(StoredDataset(tmp_path, "toy"))
    jobs = extraction_jobs(images, inventory, {record.key: record}, OPTIONS.digest)
    assert [job.earlier for job in jobs] == ([] if status == "timeout" else [record])
    confirmed = replace(record, decoder="opencv")
    assert extraction_jobs(images, inventory, {record.key: confirmed}, OPTIONS.digest) == []
