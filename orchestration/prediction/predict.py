"""Classify clips that are in no data set: encode the support once, then each query, with Ray actors."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import ray

from hcl.errors import ConfigError, DataError, HCLError
from hcl.evaluation.methods import HierarchicalMatching
from hcl.files.archives import archive_problem
from hcl.frames.loose_clips import LooseClip
from orchestration.evaluation.tables import digest_of
from orchestration.prediction.answers import AnswerStore
from orchestration.prediction.predictor import Predictor, QueryJob, Setup, SupportJob
from orchestration.prediction.request import (
    Asked,
    cache_folder,
    check,
    content_digests,
    meaning_of,
    setup_of,
    unreadable_support,
)
from orchestration.prediction.run_calibration import Calibration, calibrate
from orchestration.runtime.actors import BARRIER, Barrier, ItemCrash, ItemTimeout, map_actors
from orchestration.runtime.connect import actor_of, connect, n_workers_available
from orchestration.runtime.notices import telling_notices
from orchestration.runtime.progress import phases
from orchestration.storage.locks import held, lock_of

NOT_ASKED = "it was not asked for"
_SUPPORT, _QUERIES = "encode support", "classify"


class Found(NamedTuple):
    """Hold the outcomes of a prediction.

    Attributes:
        outcomes: of each query in order: scores, or a `reason`.
        digests: of each query's content; empty for one that cannot be read.
        store: the store with the pictures of queries; the first `n_pictures` have some.
        support_pictures: a picture of each support clip, class by class.
        calibration: None if there is none; `uncalibrated` then says why.
        n_new: number of queries that were classified in this call.
    """

    setup: Setup
    outcomes: list[dict[str, Any]]
    digests: list[str]
    store: AnswerStore
    n_pictures: int
    support_pictures: list[Path]
    calibration: Calibration | None
    uncalibrated: str
    n_new: int


def predict(asked: Asked, *, address: str | None = None) -> Found:
    """Classify the queries; a repeated call, after an interruption too, does only what is missing.

    A query that cannot be read, takes too long or crashes its actor costs a row with the reason.

    Raises:
        ConfigError: the classes' clips form no support for the run's regime.
        DataError: a support clip cannot be read, or a class name has no embedding.
        CheckpointError, StorageError, ClusterError: as `hcl evaluate`.
    """
    check(asked)
    setup, support_digests = setup_of(asked)
    folder = cache_folder(asked.runs) / digest_of(meaning_of(asked, setup, support_digests))
    digests, unreadable = content_digests(asked.queries)
    with telling_notices(asked.runs), connect(address), held(lock_of(folder), what="this prediction"):
        store = AnswerStore.opened(folder)
        calibration, uncalibrated = _calibration(asked)
        fresh = _classified(asked, setup, store, digests, unreadable)
    outcomes = [
        {"reason": unreadable[index]} if index in unreadable else fresh.get(digest) or store.outcomes[digest]
        for index, digest in enumerate(digests)
    ]
    known = dict(zip(support_digests, asked.support_clips, strict=True))
    for index, digest in enumerate(digests):
        if digest in known:
            outcomes[index] = {**outcomes[index], "note": f"has the content of the support clip {known[digest].name}"}
    n_new = sum("reason" not in outcome for outcome in fresh.values())
    pictures = [path.with_suffix(".webp") for path in setup.support]
    return Found(setup, outcomes, digests, store, asked.n_pictures, pictures, calibration, uncalibrated, n_new)


def _calibration(asked: Asked) -> tuple[Calibration | None, str]:
    """Return the calibration, or why there is none."""
    if asked.calibrated_on is None:
        return None, NOT_ASKED
    try:
        return (
            calibrate(
                asked.folder,
                asked.experiment,
                asked.checkpoint,
                data=asked.data,
                runs=asked.runs,
                shots=asked.shots,
                measured_on=asked.calibrated_on,
            ),
            "",
        )
    except (ConfigError, DataError) as error:
        return None, f"{error.where}: {error.problem}" if error.where else error.problem


def _classified(
    asked: Asked, setup: Setup, store: AnswerStore, digests: Sequence[str], unreadable: Mapping[int, str]
) -> dict[str, dict[str, Any]]:
    """Do the missing jobs, and return the outcomes of queries of this call by digest."""
    support = _support_jobs(asked, setup)
    queries: dict[str, QueryJob] = {}
    for index, (clip, digest) in enumerate(zip(asked.queries, digests, strict=True)):
        missing = _query_job(clip, digest, store, has_picture=index < asked.n_pictures, setup=setup)
        if index not in unreadable and missing is not None and digest not in queries:
            queries[digest] = missing
    broken: list[tuple[LooseClip, str]] = []
    fresh: dict[str, dict[str, Any]] = {}
    totals = {_SUPPORT: (len(support), "clips"), _QUERIES: (len(queries), "queries")}
    with closing(_worked(asked, setup, support, list(queries.values()), broken)) as answers, phases(totals) as advance:
        for job, outcome in answers:
            if isinstance(job, SupportJob):
                advance(_SUPPORT, 1)
                if "reason" in outcome:
                    broken.append((job.clip, outcome["reason"]))
                continue
            advance(_QUERIES, 1)
            fresh[job.digest] = outcome
            if "reason" not in outcome:  # others are tried again by the next command
                store.add(job.digest, outcome)
    if broken:
        raise unreadable_support([clip for clip, _ in broken], [reason for _, reason in broken])
    return fresh


def _worked(
    asked: Asked, setup: Setup, support: Sequence[SupportJob], queries: Sequence[QueryJob], broken: Sequence[Any]
) -> Generator[tuple[SupportJob | QueryJob, dict[str, Any]], None, None]:
    """Yield each job with its outcome; no query is begun if a support clip is broken. Raise what is no clip's fault."""
    if not support and not queries:
        return
    use_gpu = asked.experiment.train.use_gpu
    make = actor_of(Predictor, "encode", f"predict {asked.folder.name}", use_gpu=use_gpu)
    sent = ray.put(setup)

    def items() -> Generator[SupportJob | QueryJob | Barrier, None, None]:
        yield from support
        yield BARRIER
        if not broken:
            yield from queries

    answers: Generator[tuple[Any, Any], None, None] = map_actors(
        lambda: make(sent),
        items(),
        lambda actor, job: actor.work.remote(job),
        n_actors=lambda: n_workers_available("encode", use_gpu=use_gpu),
        timeout_s=asked.time_limit_s,
    )
    with closing(answers):
        for job, outcome in answers:
            if isinstance(outcome, ItemTimeout | ItemCrash):
                outcome = {"reason": outcome.problem}
            elif isinstance(outcome, Exception):
                raise outcome if isinstance(outcome, HCLError) else RuntimeError("a prediction failed") from outcome
            yield job, outcome


def _support_jobs(asked: Asked, setup: Setup) -> list[SupportJob]:
    """Return the support clips without features; damaged files are removed. Clips of equal content count once."""
    jobs: dict[Path, SupportJob] = {}
    for number, (clip, path) in enumerate(zip(asked.support_clips, setup.support, strict=True)):
        if archive_problem(path):
            path.unlink()
        if not path.exists():
            jobs.setdefault(path, SupportJob(clip, number))
    return list(jobs.values())


def _query_job(clip: LooseClip, digest: str, store: AnswerStore, *, has_picture: bool, setup: Setup) -> QueryJob | None:
    """Return the job of a query that has no outcome, or lacks the pictures that are asked for."""
    animation = store.animation(digest)
    match = store.match(digest) if isinstance(setup.how, HierarchicalMatching) else None
    outcome = store.outcomes.get(digest)
    is_drawn = animation.exists() and (match is None or match.exists())
    if outcome is not None and (not has_picture or is_drawn):
        return None
    return QueryJob(clip, digest, animation, match) if has_picture else QueryJob(clip, digest)
