"""Extract the frames of a dataset's videos with Ray actors; a repeated call does only missing or changed videos."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from hcl.datasets.manifest import VideoRecord, append_record, begin_journal, read_manifest, write_manifest
from hcl.files.atomic import discard_folder
from hcl.files.locking import exclusive
from hcl.frames.decoding import FrameOptions
from hcl.frames.extraction import ExtractionJob, discard_partials
from hcl.frames.inventory import Inventory, extraction_jobs, keep_frames_of_others, settle_missing, take_inventory
from hcl.frames.stored_dataset import StoredDataset
from orchestration.extraction.extractor import Extractor, Place
from orchestration.runtime.actors import ItemCrash, ItemTimeout, map_actors
from orchestration.runtime.connect import actor_of, connect, n_workers_available
from orchestration.runtime.progress import progress
from orchestration.storage.locks import held, lock_of


@dataclass(frozen=True)
class ExtractSummary:
    """Hold the outcome of a call of `extract_dataset`.

    Counts are of this call; `failed` are all videos without frames. `n_confirmed` of `n_skipped` were checked again,
    because a version that knew no second decoder had extracted them.
    """

    dataset: str
    n_listed: int
    n_skipped: int  # finished by an earlier call
    n_ok: int = 0
    n_broken: int = 0
    n_timeout: int = 0
    n_missing: int = 0  # listed, but without a file
    n_confirmed: int = 0
    n_frames: int = 0
    n_bytes: int = 0
    seconds: float = 0.0  # including the start of Ray
    failed: tuple[VideoRecord, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()  # videos that were left out, or read in a special way

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

    All videos of the partitions of its split are extracted; without a split, all that are found. A broken or missing
    video costs a row of the manifest, but does not stop the run. Missing ones are listed in
    `images/<dataset>/missing.txt`.

    Args:
        actors: number of videos that are decoded at once; None: one for each free CPU.
        short_side, quality, n_frames: as in `FrameOptions`; a video with other options is extracted again.
        time_limit_s: time limit of one video.
        retry_failed: retry videos that are recorded as broken or timed out.
        address: address of a running cluster, which sees the data root under the same path; None: local Ray.
    Raises:
        DataError: if there is no video, or the split contradicts itself.
        StorageError: if frames cannot be written, a node does not see the data, or another command works on it.
        ClusterError: if Ray cannot be started or reached.
    """
    began = time.monotonic()
    dataset, images_root = stored.name, stored.images_root
    options = FrameOptions(short_side, quality, n_frames)
    inventory = take_inventory(stored)
    done: list[VideoRecord] = []
    # The second lock is among hosts.
    with exclusive(images_root), held(lock_of(images_root), what=f"extraction of {dataset}"):
        discard_partials(images_root)
        records = read_manifest(images_root)  # under the lock: another extraction may have ended since
        is_first = begin_journal(images_root)
        inventory = keep_frames_of_others(images_root, inventory, records, is_first=is_first)
        settle_missing(images_root, inventory, records)
        jobs = extraction_jobs(images_root, inventory, records, options.digest, retry_failed=retry_failed)
        try:
            if jobs:
                place = Place(_staging(images_root))
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


def _extracted(
    jobs: list[ExtractionJob],
    place: Place,
    options: FrameOptions,
    actors: int | None,
    time_limit_s: float,
    dataset: str,
) -> Generator[VideoRecord, None, None]:
    """Yield the records of the jobs as they finish. Raise what is not the video's fault."""
    make_actor = actor_of(Extractor, "decode", f"extract {dataset}")
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
                discard_folder(place.partial(job))  # first, because the killed process may live a moment longer
                discard_folder(job.destination)
                result = _failure(job, result, options.digest)
            elif isinstance(result, Exception):
                raise result
            yield replace(result, source=job.relative)
            advance()


def _staging(images_root: Path) -> Path:
    """Make a folder for the unfinished frames of this run.

    The next run removes it, and with it everything that actors could still write after their driver was killed.
    """
    staging = images_root / f".{uuid.uuid4().hex}.partial"
    staging.mkdir()
    return staging


def _failure(job: ExtractionJob, error: ItemTimeout | ItemCrash, digest: str) -> VideoRecord:
    is_timeout = isinstance(error, ItemTimeout)
    try:
        stat = job.source.stat()
    except OSError:  # the file has been removed
        stat = None
    return VideoRecord(
        job.destination.parent.name,
        job.destination.name,
        "timeout" if is_timeout else "broken",
        error=error.problem,
        source_bytes=stat.st_size if stat else 0,
        source_mtime_ns=stat.st_mtime_ns if stat else 0,
        # Without the digest the video is tried again next time, because processes also die of other causes, as low
        # memory.
        options_digest=digest if is_timeout else "",
    )
