"""The videos of a dataset to frames, by Ray actors; repeated, it does only what is missing or has changed."""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import ray

from hcl.catalogue import frames_folder
from hcl.decoding import options_digest
from hcl.errors import StorageError
from hcl.frames import discard_frames, discard_partials, extract_video
from hcl.inventory import ExtractionJob, Inventory, extraction_jobs, settle_missing, take_inventory
from hcl.manifest import VideoRecord, append_record, read_manifest, write_manifest
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
    images_root = frames_folder(data_root, dataset)
    options: dict[str, Any] = {"short_side": short_side, "quality": quality, "max_frames": max_frames}
    inventory = take_inventory(data_root, dataset)
    done: list[VideoRecord] = []
    with _held(images_root):
        discard_partials(images_root)
        records = read_manifest(images_root)
        settle_missing(images_root, inventory, records)
        jobs = extraction_jobs(images_root, inventory, records, options_digest(**options), retry_failed=retry_failed)
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
    return _summary(dataset, inventory, records, done, time.monotonic() - began)


def _summary(
    dataset: str, inventory: Inventory, records: dict[str, VideoRecord], done: list[VideoRecord], seconds: float
) -> ExtractSummary:
    failed = tuple(records[key] for key in inventory.listed if key in records and records[key].status != "ok")
    n_missing = sum(record.status == "missing" for record in failed)
    counts = Counter(record.status for record in done)
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
        seconds=seconds,
        failed=failed,
    )


class _Extractor:
    """Runs in an actor. One video a call, so that a hang or a crash costs one."""

    def __init__(self, options: dict[str, Any]):
        os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # what FFmpeg says of damaged videos is noise in an actor's log
        cv2.setNumThreads(1)
        self.options = options

    def extract(self, job: ExtractionJob) -> VideoRecord:
        record = extract_video(job.source, job.destination, **self.options)
        if record.status == "missing":
            raise StorageError(
                f"node {ray.util.get_node_ip_address()} does not see the video: {record.error}",
                where=str(job.source),
                remedy="mount the data root under the same path on every node",
            )
        return record


def _extracted(
    jobs: list[ExtractionJob],
    options: dict[str, Any],
    actors: int | None,
    time_limit_s: float,
    dataset: str,
) -> Generator[VideoRecord, None, None]:
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


def _failure(job: ExtractionJob, error: ItemTimeout | ItemCrash, digest: str) -> VideoRecord:
    is_timeout = isinstance(error, ItemTimeout)
    stat = job.source.stat()
    return VideoRecord(
        job.destination.parent.name,
        job.destination.name,
        "timeout" if is_timeout else "broken",
        error=error.problem,
        source_bytes=stat.st_size,
        source_mtime_ns=stat.st_mtime_ns,
        # Without it the video is taken up again next time: processes also die of other causes, such as little memory.
        options_digest=digest if is_timeout else "",
    )


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
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                "another extraction of this dataset is running", where=str(images_root), remedy="wait until it ends"
            ) from error
        yield
    finally:
        os.close(folder)
