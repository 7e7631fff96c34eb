"""Encode and score with Ray actors, for all tables together; a repeated call does only the missing blocks."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray

from hcl.clips.episodes import Episodes
from hcl.errors import HCLError, StorageError
from hcl.evaluation.methods import Scores
from orchestration.evaluation.scorer import ENCODE, ONE_BY_ONE, SCORE, Done, Scorer
from orchestration.evaluation.tables import Cell
from orchestration.runtime.actors import BARRIER, Barrier, map_actors
from orchestration.runtime.connect import actor_of, n_workers_available
from orchestration.runtime.notices import telling_notices
from orchestration.runtime.progress import phases

_SHARD = 50  # episodes that an actor scores one by one in a call


class Mixed(NamedTuple):
    """Hold episodes whose clips must be processed together, so that pairs cannot answer them."""

    cell: Cell
    episodes: Episodes


class Outcome(NamedTuple):
    """Hold the work of the actors.

    Attributes:
        n_encoded: number of encoded views of clips.
        mixed: scores of each question that was scored episode by episode.
        seconds: working time of all actors together, by cell.
    """

    n_encoded: int
    mixed: list[Scores]
    seconds: dict[Cell, float]


@dataclass(frozen=True, eq=False)
class _Job:
    """Describe one call of an actor. Jobs of a phase take about equally long, for any table."""

    phase: str
    cell: Cell
    what: Any  # clips (start, stop), a tile, or episodes
    size: int  # in the phase's unit
    question: int = 0


def ensure_tables(cells: Sequence[Cell], runs: Path, *, mixed: Sequence[Mixed] = ()) -> Outcome:
    """Make the missing tables, and score mixed episodes one by one, with one view of progress.

    Args:
        cells: cells whose questions are answered from pairs.
        mixed: questions that are scored episode by episode, on features that are also encoded once.
    """
    cells = list(dict.fromkeys(cells))
    with telling_notices(runs):
        return _ensure_tables(cells, runs, mixed)


def _ensure_tables(cells: Sequence[Cell], runs: Path, mixed: Sequence[Mixed]) -> Outcome:
    for cell in cells:
        cell.table(runs).remove_damaged()
    score = [
        _Job(SCORE, cell, tile, tile.n_pairs * cell.views) for cell in cells for tile in cell.table(runs).missing()
    ]
    encoded = {job.cell.features(runs).folder: job.cell for job in score}  # tables may share their features
    encoded |= {cell.features(runs).folder: cell for cell in (mixed_episodes.cell for mixed_episodes in mixed)}
    encode = [
        _Job(ENCODE, cell, (start, stop), (stop - start) * cell.views)
        for cell in encoded.values()
        for start, stop in cell.features(runs).missing()
    ]
    one_by_one = [
        _Job(ONE_BY_ONE, mixed_episodes.cell, part, len(part), question)
        for question, mixed_episodes in enumerate(mixed)
        for part in mixed_episodes.episodes.parts(_SHARD)
    ]
    _check_room(encode, runs)
    work = {ENCODE: ("clips", encode), SCORE: ("pairs", score), ONE_BY_ONE: ("episodes", one_by_one)}
    answers: dict[_Job, Scores] = {}
    seconds: dict[Cell, float] = {}
    outcomes = _run([jobs for _, jobs in work.values()], runs)
    totals = {name: (sum(job.size for job in jobs), unit) for name, (unit, jobs) in work.items()}
    with closing(outcomes), phases(totals) as advance:
        for job, done in outcomes:
            answers[job] = done.answer
            seconds[job.cell] = seconds.get(job.cell, 0.0) + done.seconds
            advance(job.phase, job.size)
    for cell in cells:
        cell.table(runs).assemble()
    for cell in encoded.values():
        if not cell.experiment.evaluation.keep_features:
            cell.features(runs).discard()
    parts = [[answers[job] for job in one_by_one if job.question == question] for question in range(len(mixed))]
    return Outcome(sum(job.size for job in encode), [_joined(of_question) for of_question in parts], seconds)


def _joined(parts: Sequence[Scores]) -> Scores:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _check_room(encode: Sequence[_Job], runs: Path) -> None:
    """Raise StorageError if the disk has no room for the features."""
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
            remedy="free space, use --runs on a larger disk, or halve them with --set evaluation.precision=bfloat16",
        )


def _run(phases_of_jobs: Sequence[Sequence[_Job]], runs: Path) -> Generator[tuple[_Job, Done], None, None]:
    """Yield each job with its result as they end, phase after phase on the same actors. Raises the errors of jobs."""
    jobs = [job for phase in phases_of_jobs for job in phase]
    if not jobs:
        return
    use_gpu = jobs[0].cell.experiment.train.use_gpu
    scorer = actor_of(Scorer, "encode", f"evaluate {jobs[0].cell.experiment.name}", use_gpu=use_gpu)
    cells = {cell: ray.put(cell) for cell in dict.fromkeys(job.cell for job in jobs)}  # sent once, not with each job
    items: list[_Job | Barrier] = []
    for phase in phases_of_jobs:
        items += [*phase, BARRIER]
    answers = map_actors(
        lambda: scorer(runs),
        items,
        lambda actor, job: actor.work.remote(job.phase, cells[job.cell], job.what),
        n_actors=lambda: n_workers_available("encode", use_gpu=use_gpu),
    )
    with closing(answers):
        for job, answer in answers:
            if isinstance(answer, Exception):
                raise answer if isinstance(answer, HCLError) else RuntimeError(f"{job.phase} failed") from answer
            yield job, answer
