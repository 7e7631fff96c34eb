"""The videos of a dataset to frames, by Ray actors; repeated, it does only what is missing or has changed."""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import ray

from hcl.errors import DataError, StorageError
from hcl.frames import discard_frames, discard_partials, extract_video, find_videos, options_digest
from hcl.manifest import VideoRecord, append_record, read_manifest, write_manifest
from hcl.splits import read_split, refuse_unsafe_name
from orchestration.runtime import ItemCrash, ItemTimeout, connect, map_actors, n_workers_available, progress


@dataclass(frozen=True)
class ExtractSummary:
    """What a call of `extract_dataset` did. Counts are of this call; `failed` are all videos without frames."""

    dataset: str
    n_listed: int
    n_skipped: int  # settled by an earlier call
    n_ok: int = 0
    n_broken: int = 0
    n_timeout: int = 0
    n_missing: int = 0  # listed, but there is no file
    n_frames: int = 0
    n_bytes: int = 0
    seconds: float = 0.0  # start of Ray included
    failed: tuple[VideoRecord, ...] = field(default=(), repr=False)

    @property
    def videos_per_second(self) -> float:
        return (self.n_ok + self.n_broken + self.n_timeout) / self.seconds if self.seconds else 0.0


def extract_dataset(
    data_root: Path,
    dataset: str,
    *,
    actors: int | None = None,
    short_side: int = 256,
    quality: int = 90,
    max_frames: int | None = None,
    time_limit_s: float = 600.0,
    retry_failed: bool = False,
    address: str | None = None,
) -> ExtractSummary:
    """Bring the frames of a dataset up to date with its videos.

    Done are the videos of all partitions of its split; without a split, all that are found. A broken or missing
    video costs a row of the manifest, never the run. Missing ones are listed in `images/<dataset>/missing.txt`.

    Args:
        actors: how many videos are decoded at once; None: one for each free CPU.
        short_side, quality, max_frames: as in `extract_video`.
        time_limit_s: of one video.
        retry_failed: take up videos again that are recorded as broken or timed out.
        address: of a running cluster, which sees the data root under the same path; None: local Ray.
    Raises:
        DataError: there is not one video, or the split contradicts itself.
        StorageError: frames cannot be written, or another extraction of the dataset is running.
        ClusterError: Ray cannot be started or reached.
    """
    began = time.monotonic()
    data_root = Path(data_root).absolute()
    images_root = data_root / "images" / dataset
    options: dict[str, Any] = {"short_side": short_side, "quality": quality, "max_frames": max_frames}
    inventory = _inventory(data_root, dataset)
    done: list[VideoRecord] = []
    with _held(images_root):
        discard_partials(images_root)
        records = read_manifest(images_root)
        _settle_missing(images_root, inventory, records)
        jobs = _jobs(images_root, inventory, records, options_digest(**options), retry_failed)
        try:
            if jobs:
                with connect(address), closing(_extracted(jobs, options, actors, time_limit_s, dataset)) as extracted:
                    for record in extracted:
                        append_record(images_root, record)
                        done.append(record)
        finally:
            write_manifest(images_root, (records | {record.key: record for record in done}).values())
            discard_partials(images_root)
    records |= {record.key: record for record in done}
    failed = tuple(records[key] for key in inventory.listed if key in records and records[key].status != "ok")
    counts = Counter(record.status for record in done)
    n_missing = sum(record.status == "missing" for record in failed)
    return ExtractSummary(
        dataset,
        n_listed=len(inventory.listed),
        n_skipped=len(inventory.listed) - len(done) - n_missing,
        n_ok=counts["ok"],
        n_broken=counts["broken"],
        n_timeout=counts["timeout"],
        n_missing=n_missing,
        n_frames=sum(record.n_frames for record in done),
        n_bytes=sum(record.n_bytes for record in done),
        seconds=time.monotonic() - began,
        failed=failed,
    )


@dataclass(frozen=True)
class _Job:
    source: Path
    relative: str  # of the source to the dataset's videos: the manifest stays true where the data root is moved
    destination: Path


class _Extractor:
    """Runs in an actor. One video a call, so that a hang or a crash costs one."""

    def __init__(self, options: dict[str, Any]):
        os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # what FFmpeg says of damaged videos is noise in an actor's log
        cv2.setNumThreads(1)
        self.options = options

    def extract(self, job: _Job) -> VideoRecord:
        record = extract_video(job.source, job.destination, **self.options)
        if record.status == "missing":
            raise StorageError(
                f"node {ray.util.get_node_ip_address()} does not see the video: {record.error}",
                where=str(job.source),
                remedy="mount the data root under the same path on every node",
            )
        return record


def _extracted(
    jobs: list[_Job],
    options: dict[str, Any],
    actors: int | None,
    time_limit_s: float,
    dataset: str,
) -> Iterator[VideoRecord]:
    """Records of the jobs as they finish. Raises what is not the video's fault."""
    make_actor = ray.remote(_Extractor).options(num_cpus=1).remote
    results = map_actors(
        lambda: make_actor(options),
        jobs,
        lambda actor, job: actor.extract.remote(job),
        n_actors=actors or n_workers_available(),
        timeout_s=time_limit_s,
    )
    with closing(results), progress(len(jobs), f"extract {dataset}", "videos") as advance:
        for job, result in results:
            if isinstance(result, ItemTimeout | ItemCrash):
                discard_frames(job.destination)
                result = _failure(job, result, options_digest(**options))
            elif isinstance(result, Exception):
                raise result
            yield replace(result, source=job.relative)
            advance()


def _failure(job: _Job, error: ItemTimeout | ItemCrash, digest: str) -> VideoRecord:
    stat = job.source.stat()
    return VideoRecord(
        job.destination.parent.name,
        job.destination.name,
        "timeout" if isinstance(error, ItemTimeout) else "broken",
        error=error.problem,
        source_bytes=stat.st_size,
        source_mtime_ns=stat.st_mtime_ns,
        options_digest=digest,
    )


@dataclass(frozen=True)
class _Inventory:
    listed: list[str]  # `class/video` of all that should have frames, sorted
    files: dict[str, Path]  # of those that have a video
    present: frozenset[str]  # those that have a folder of frames


def _inventory(data_root: Path, dataset: str) -> _Inventory:
    refuse_unsafe_name(dataset, what="dataset name", where="dataset")
    videos_root, images_root = data_root / "videos" / dataset, data_root / "images" / dataset
    has_split = (data_root / "splits" / dataset).is_dir()
    files = find_videos(videos_root) if videos_root.is_dir() else {}
    listed = sorted(files)
    if has_split:
        partitions = read_split(data_root, dataset).partitions.values()
        listed = sorted({video.key for partition in partitions for video in partition.videos})
    present = frozenset(_present(images_root, {key.partition("/")[0] for key in listed}))
    if not any(key in files or key in present for key in listed):
        raise DataError(
            f"holds none of the {len(listed)} videos that the split lists" if has_split else "holds no videos",
            where=str(videos_root),
            remedy=f"put the videos into {videos_root}/<class>/, or check the data root and the name of the dataset",
        )
    return _Inventory(listed, files, present)


def _present(images_root: Path, classes: Iterable[str]) -> Iterator[str]:
    for class_name in classes:
        if (images_root / class_name).is_dir():
            with os.scandir(images_root / class_name) as entries:
                yield from (f"{class_name}/{entry.name}" for entry in entries if entry.is_dir())


def _settle_missing(images_root: Path, inventory: _Inventory, records: dict[str, VideoRecord]) -> None:
    """Record listed videos without a file, unless their frames are there: videos may be deleted once extracted."""
    missing = [key for key in inventory.listed if key not in inventory.files and key not in inventory.present]
    for key in missing:
        records[key] = VideoRecord(*key.split("/"), "missing", error="no video file of this name")  # type: ignore[misc]
    names = images_root / "missing.txt"
    if missing:
        partial = images_root / f".missing.{uuid.uuid4().hex}.partial"
        partial.write_text("".join(f"{key}\n" for key in missing), encoding="utf-8")
        os.replace(partial, names)
    else:
        names.unlink(missing_ok=True)


def _jobs(
    images_root: Path, inventory: _Inventory, records: dict[str, VideoRecord], digest: str, retry_failed: bool
) -> list[_Job]:
    """The listed videos whose frames or failure are not on record for this very file and these options."""
    jobs = []
    for key in inventory.listed:
        if key not in inventory.files:
            continue
        source = inventory.files[key]
        relative, record = f"{source.parent.name}/{source.name}", records.get(key)
        if record is not None:
            stat = source.stat()
            stamp = (record.source, record.source_bytes, record.source_mtime_ns, record.options_digest)
            is_same = stamp == (relative, stat.st_size, stat.st_mtime_ns, digest)
            is_settled = key in inventory.present if record.status == "ok" else not retry_failed
            if is_same and is_settled:
                continue
        jobs.append(_Job(source, relative, images_root / key))
    return jobs


@contextmanager
def _held(images_root: Path) -> Iterator[None]:
    """The images folder, made, known to be writable, and kept from other extractions on this machine."""
    try:
        images_root.mkdir(parents=True, exist_ok=True)
        probe = images_root / f".{uuid.uuid4().hex}.partial"
        probe.mkdir()
        probe.rmdir()
        folder = os.open(images_root, os.O_RDONLY)
    except OSError as error:
        raise StorageError(
            f"frames cannot be written: {error.strerror or error}", where=str(images_root), remedy="check permissions"
        ) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise StorageError(
            "another extraction of this dataset is running", where=str(images_root), remedy="wait until it ends"
        ) from error
    finally:
        os.close(folder)
