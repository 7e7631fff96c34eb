"""Encoding and scoring by Ray actors, over all tables together; repeated, it does the blocks that are missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray

from hcl.episodes import Episodes
from hcl.errors import HCLError, StorageError
from hcl.scores import Levels
from orchestration.actors import BARRIER, Barrier
from orchestration.runtime import compute_actor, map_actors, n_workers_available, phases
from orchestration.scorer import Scorer
from orchestration.tables import Cell

ENCODE, SCORE, ONE_BY_ONE = "encode clips", "score pairs", "score episodes one by one"
_SHARD = 50  # episodes that an actor scores one by one in a call


class Mixed(NamedTuple):
    """Episodes whose clips mix (the release's defects), so that no pair answers them."""

    cell: Cell
    episodes: Episodes


class Outcome(NamedTuple):
    n_encoded: int  # views of clips
    mixed: list[Levels]  # of each question that went episode by episode


@dataclass(frozen=True, eq=False)
class _Job:
    """One call of an actor. Jobs of a phase take about equally long, whatever table they belong to."""

    phase: str
    cell: Cell
    what: Any  # clips (start, stop), a tile, or episodes
    size: int  # in the phase's unit
    question: int = 0


def ensure_tables(cells: Sequence[Cell], runs: Path, *, mixed: Sequence[Mixed] = ()) -> Outcome:
    """Make the tables that do not exist yet, and score the episodes that need it one by one: one view of progress.

    Args:
        cells: whose questions pairs answer.
        mixed: questions that go episode by episode, on features that are encoded once all the same.
    """
    cells = list(dict.fromkeys(cells))
    score = [
        _Job(SCORE, cell, tile, tile.n_pairs * cell.views) for cell in cells for tile in cell.table(runs).missing()
    ]
    encoded = {job.cell.features(runs).folder: job.cell for job in score}  # tables may share their features
    encoded |= {one.cell.features(runs).folder: one.cell for one in mixed}
    encode = [
        _Job(ENCODE, cell, (start, stop), (stop - start) * cell.views)
        for cell in encoded.values()
        for start, stop in cell.features(runs).missing()
    ]
    one_by_one = [
        _Job(ONE_BY_ONE, one.cell, part, len(part), question)
        for question, one in enumerate(mixed)
        for part in one.episodes.parts(_SHARD)
    ]
    _check_room(encode, runs)
    work = {ENCODE: ("clips", encode), SCORE: ("pairs", score), ONE_BY_ONE: ("episodes", one_by_one)}
    answers: dict[_Job, Levels] = {}
    with phases({name: (sum(job.size for job in jobs), unit) for name, (unit, jobs) in work.items()}) as advance:
        for job, answer in _run([jobs for _, jobs in work.values()], runs):
            answers[job] = answer
            advance(job.phase, job.size)
    for cell in cells:
        cell.table(runs).assemble()
    for cell in encoded.values():
        if not cell.experiment.evaluation.keep_features:
            cell.features(runs).discard()
    levels = [[answers[job] for job in one_by_one if job.question == question] for question in range(len(mixed))]
    n_encoded = sum(job.size for job in encode)
    return Outcome(n_encoded, [Levels(*map(np.concatenate, zip(*parts, strict=True))) for parts in levels])


def _check_room(encode: Sequence[_Job], runs: Path) -> None:
    """Raise StorageError where the disk cannot take the features."""
    missing: dict[Cell, int] = {}
    for job in encode:
        missing[job.cell] = missing.get(job.cell, 0) + job.size
    need = sum(cell.feature_bytes() * n_views // (cell.n_clips * cell.views) for cell, n_views in missing.items())
    runs.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(runs).free
    if need > free:
        raise StorageError(
            f"the features take {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            where=str(runs),
            remedy="free space, give --runs a larger disk, or halve them with --set evaluation.precision=bfloat16",
        )


def _run(phases_of_jobs: Sequence[Sequence[_Job]], runs: Path) -> Iterator[tuple[_Job, Any]]:
    """Each job with its answer, as they are done, phase after phase on the same actors. Raises what a job raised."""
    jobs = [job for phase in phases_of_jobs for job in phase]
    if not jobs:
        return
    use_gpu = jobs[0].cell.experiment.train.use_gpu
    scorer = compute_actor(Scorer, use_gpu=use_gpu)
    cells = {cell: ray.put(cell) for cell in dict.fromkeys(job.cell for job in jobs)}  # sent once, not with each job
    calls: dict[str, Callable[[Any, _Job], Any]] = {
        ENCODE: lambda actor, job: actor.encode.remote(cells[job.cell], *job.what),
        SCORE: lambda actor, job: actor.score.remote(cells[job.cell], job.what),
        ONE_BY_ONE: lambda actor, job: actor.episodes.remote(cells[job.cell], job.what),
    }
    items: list[_Job | Barrier] = []
    for phase in phases_of_jobs:
        items += [*phase, BARRIER]
    answers = map_actors(
        lambda: scorer.remote(runs),
        items,
        lambda actor, job: calls[job.phase](actor, job),
        n_actors=min(n_workers_available(use_gpu=use_gpu), len(jobs)),
    )
    for job, answer in answers:
        if isinstance(answer, Exception):
            raise answer if isinstance(answer, HCLError) else RuntimeError(f"{job.phase} failed") from answer
        yield job, answer
