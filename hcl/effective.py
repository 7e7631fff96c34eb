"""The videos that training and evaluation really use: those listed, less those that could not be decoded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hcl.errors import DataError
from hcl.frames import FrameStore
from hcl.manifest import read_manifest
from hcl.splits import Partition, Video


def left_out(data_root: Path, listed: Partition) -> dict[Video, str]:
    """The videos of a partition that extraction has recorded as broken or timed out, with the reason."""
    records = read_manifest(data_root / "images" / listed.dataset)
    failed = {key: record for key, record in records.items() if record.status in ("broken", "timeout")}
    return {video: failed[video.key].error or "" for video in listed.videos if video.key in failed}


def effective_partition(data_root: Path, listed: Partition) -> Partition:
    """The partition without `left_out`; nothing else is ever missing from it.

    Raises:
        DataError: other videos have no frames, or a class has lost all of its videos.
    """
    broken = left_out(data_root, listed)
    partition = replace(listed, videos=tuple(video for video in listed.videos if video not in broken))
    images_root = data_root / "images" / listed.dataset
    if missing := FrameStore(images_root).missing(partition):
        names = ", ".join(video.key for video in missing[:3])
        raise DataError(
            f"{len(missing)} of {len(listed.videos)} videos of {listed.dataset} {listed.name} have no frames: "
            f"{names}{', ...' if len(missing) > 3 else ''}",
            where=str(images_root),
            remedy=f"run `hcl extract {listed.dataset}`, or take them out of the split",
        )
    if empty := set(listed.classes) - {video.class_name for video in partition.videos}:
        raise DataError(
            f"class {min(empty)!r} of {listed.dataset} {listed.name} has no video that could be decoded",
            where=str(images_root / "manifest.parquet"),
            remedy="mend the videos and extract again with --retry-failed, or take the class out of the split",
        )
    return partition
