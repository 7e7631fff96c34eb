"""The videos of a dataset to frames, by Ray actors; repeated, it does only what is missing or has changed."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections import Counter
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2

from hcl.datasets.manifest import VideoRecord, append_record, read_manifest, write_manifest
from hcl.files.atomic import discard_folder
from hcl.files.locking import exclusive
from hcl.frames.decoding import FrameOptions
from hcl.frames.extraction import discard_partials, extract_video
from hcl.frames.inventory import ExtractionJob, Inventory, extraction_jobs, settle_missing, take_inventory
from hcl.frames.stored_dataset import StoredDataset
from orchestration.runtime.actors import ItemCrash, ItemTimeout, map_actors
from orchestration.runtime.connect import actor_of, connect, n_workers_available
from orchestration.runtime.progress import progress
from orchestration.storage.locks import held, lock_of
from orchestration.storage.places import check_seen


@dataclass(frozen=True)
class ExtractSummary:
    """The outcome of a call of `extract_dataset`. Counts are of this call; `failed` are all videos without frames.

    `n_confirmed` of `n_skipped` were looked at again: a version that knew no second decoder had extracted them.
    """

    dataset: str
    n_listed: int
    n_skipped: int  # settled by an earlier call
    n_ok: int = 0
    n_broken: int = 0
    n_timeout: int = 0
    n_missing: int = 0  # listed, but there is no file
    n_confirmed: int = 0
    n_frames: int = 0
    n_bytes: int = 0
    seconds: float = 0.0  # start of Ray included
    failed: tuple[VideoRecord, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()  # what was left out or read in its own way

    @property
    def videos_per_second(self) -> float:
        return (self.n_ok + self.n_broken + self.n_timeout) / self.seconds if self.seconds else 0.0


def extract_dataset(
    stored: StoredDataset,
    *,
    actors: int | None = None,
    short_side: int = 256,
    quality: int = 90,
    n_frames: int | None = None,
    time_limit_s: float = 600.0,
    retry_failed: bool = False,
    address: str | None = None,
) -> ExtractSummary:
    """Bring the frames of a dataset up to date with its videos.

    Done are the videos of all partitions of its split; without a split, all that are found. A broken or missing
    video costs a row of the manifest, never the run. Missing ones are listed in `images/<dataset>/missing.txt`.

    Args:
        stored: with an absolute path, for actors have another working folder.
        actors: how many videos are decoded at once; None: one for each free CPU.
        short_side, quality, n_frames: as in `FrameOptions`; a video that was extracted with others is done again.
        time_limit_s: of one video.
        retry_failed: take up videos again that are recorded as broken or timed out.
        address: of a running cluster, which sees the data root under the same path; None: local Ray.
    Raises:
        DataError: there is not one video, or the split contradicts itself.
        StorageError: frames cannot be written, a node does not see the data, or another command is at work on it.
        ClusterError: Ray cannot be started or reached.
    """
    began = time.monotonic()
    dataset, images_root = stored.name, stored.images_root
    options = FrameOptions(short_side, quality, n_frames)
    inventory = take_inventory(stored)
    done: list[VideoRecord] = []
    with exclusive(images_root), held(lock_of(images_root), what=f"extraction of {dataset}"):  # the second: of hosts
        discard_partials(images_root)
        records = read_manifest(images_root)  # under the lock: another extraction may have ended since
        settle_missing(images_root, inventory, records)
        jobs = extraction_jobs(images_root, inventory, records, options.digest, retry_failed=retry_failed)
        try:
            if jobs:
                place = _Place(_staging(images_root))
                extracted = _extracted(jobs, place, options, actors, time_limit_s, dataset)
                with connect(address), closing(extracted):
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
    missing = {record.key for record in failed if record.status == "missing"}
    confirmed = [record for record in done if record.status == "ok" and not record.decoder_version]
    done = [record for record in done if record not in confirmed]
    counts = Counter(record.status for record in done)
    return ExtractSummary(
        dataset,
        n_listed=len(inventory.listed),
        n_skipped=len(set(inventory.listed) - missing - {record.key for record in done}),
        n_ok=counts["ok"],
        n_broken=counts["broken"],
        n_timeout=counts["timeout"],
        n_missing=len(missing),
        n_confirmed=len(confirmed),
        n_frames=sum(record.n_frames for record in done),
        n_bytes=sum(record.n_bytes for record in done),
        seconds=seconds,
        failed=failed,
        notes=inventory.notes,
    )


@dataclass(frozen=True)
class _Place:
    """The staging folder of this run, which a node has to see beside the folder of a video."""

    staging: Path

    def refuse_blind(self, job: ExtractionJob) -> None:
        """Raise StorageError, which names the node, if its process does not see both. The staging folder is new and
        has a name of its own: an empty folder under the same path on another disk is not taken for it."""
        for folder in (job.source.parent, self.staging):
            check_seen(folder, remedy="mount it under the same path on every node")

    def partial(self, job: ExtractionJob) -> Path:
        return self.staging / hashlib.sha256(job.relative.encode()).hexdigest()


class _Extractor:
    """Runs in an actor. One video a call, so that a hang or a crash costs one."""

    def __init__(self, place: _Place, options: FrameOptions):
        os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # what FFmpeg says of damaged videos is noise in an actor's log
        cv2.setNumThreads(1)
        self.place, self.options = place, options

    def extract(self, job: ExtractionJob) -> VideoRecord:
        self.place.refuse_blind(job)
        return extract_video(
            job.source, job.destination, self.options, partial=self.place.partial(job), earlier=job.earlier
        )


def _extracted(
    jobs: list[ExtractionJob],
    place: _Place,
    options: FrameOptions,
    actors: int | None,
    time_limit_s: float,
    dataset: str,
) -> Generator[VideoRecord, None, None]:
    """Records of the jobs as they finish. Raises what is not the video's fault."""
    make_actor = actor_of(_Extractor, "decode", f"extract {dataset}")
    results = map_actors(
        lambda: make_actor(place, options),
        jobs,
        lambda actor, job: actor.extract.remote(job),
        n_actors=actors or (lambda: n_workers_available("decode")),
        timeout_s=time_limit_s,
    )
    with closing(results), progress(len(jobs), f"extract {dataset}", "videos") as advance:
        for job, result in results:
            if isinstance(result, ItemTimeout | ItemCrash):
                discard_folder(place.partial(job))  # first: the killed process may live a moment longer
                discard_folder(job.destination)
                result = _failure(job, result, options.digest)
            elif isinstance(result, Exception):
                raise result
            yield replace(result, source=job.relative)
            advance()


def _staging(images_root: Path) -> Path:
    """A folder for the unfinished frames of this run. The next one removes it, and with it what actors that outlive
    a killed driver could still put into place."""
    staging = images_root / f".{uuid.uuid4().hex}.partial"
    staging.mkdir()
    return staging


def _failure(job: ExtractionJob, error: ItemTimeout | ItemCrash, digest: str) -> VideoRecord:
    is_timeout = isinstance(error, ItemTimeout)
    try:
        stat = job.source.stat()
    except OSError:  # gone since
        stat = None
    return VideoRecord(
        job.destination.parent.name,
        job.destination.name,
        "timeout" if is_timeout else "broken",
        error=error.problem,
        source_bytes=stat.st_size if stat else 0,
        source_mtime_ns=stat.st_mtime_ns if stat else 0,
        # Without it the video is taken up again next time: processes also die of other causes, such as little memory.
        options_digest=digest if is_timeout else "",
    )
