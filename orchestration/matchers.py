"""Other matchers on the frame features of a run's model, by Ray actors: features once, each matcher's pairs once.

A frame's feature is the mean of the encoder's tokens over its patches: what HCL's tuples are made of.
"""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from hcl.episodes import Episodes
from hcl.errors import HCLError
from hcl.evaluation import encode
from hcl.frame_matchers import is_pairwise, look_up_matcher, matching_scores, score_pairs_of_frames
from orchestration.loading import clips_of, model_of
from orchestration.runtime import compute_actor, device_of_actor, map_actors, n_workers_available, progress
from orchestration.tables import Cell

_CLIPS, _PAIRS = 16, 50_000  # encoded and scored in one call
_LOOKED_UP = 1000  # episodes at a time


class _Job(NamedTuple):
    """Some clips of a cell: to be encoded, or to be scored against all."""

    file: Path
    cell: Cell
    start: int
    stop: int


def ensure_matchers(cells: Sequence[Cell], runs: Path) -> None:
    """Frame features, and the pairs of pairwise matchers, for the cells whose files do not exist yet."""
    encoded = {frames_file(cell, runs): cell for cell in cells}
    _fill("encode", [job for file, cell in encoded.items() for job in _jobs(file, cell, _CLIPS)], runs)
    pairwise = [cell for cell in cells if is_pairwise(cell.method)]
    blocks = [_jobs(_pairs_file(cell, runs), cell, max(1, _PAIRS // len(cell.partition.videos))) for cell in pairwise]
    _fill("score", [job for jobs in blocks for job in jobs], runs)


def matcher_scores(cell: Cell, episodes: Episodes, runs: Path) -> np.ndarray:
    """Scores (episode, query, way) of a matcher whose files `ensure_matchers` has made."""
    if not is_pairwise(cell.method):
        frames = torch.from_numpy(np.load(frames_file(cell, runs)))
        return matching_scores(frames, episodes, seed=cell.experiment.seed)
    table = np.load(_pairs_file(cell, runs), mmap_mode="r")
    cuts = [slice(start, start + _LOOKED_UP) for start in range(0, len(episodes), _LOOKED_UP)]
    parts = [Episodes(episodes.classes[cut], episodes.support[cut], episodes.query[cut]) for cut in cuts]
    return np.concatenate([look_up_matcher(table, part, cell.method) for part in parts])


def frames_file(cell: Cell, runs: Path) -> Path:
    """Frame features (clip, frame, dim), the same for every matcher."""
    return runs / "cache" / "frame_features" / f"{_key(cell)}.npy"


def _pairs_file(cell: Cell, runs: Path) -> Path:
    return runs / "cache" / "frame_pairs" / f"{_key(cell)}-{cell.method}.npy"


def _key(cell: Cell) -> str:
    return dataclasses.replace(cell, method="frames").key


def _jobs(file: Path, cell: Cell, size: int) -> list[_Job]:
    n_clips = 0 if file.exists() else len(cell.partition.videos)
    return [_Job(file, cell, start, min(start + size, n_clips)) for start in range(0, n_clips, size)]


def _fill(what: Literal["encode", "score"], jobs: Sequence[_Job], runs: Path) -> None:
    """Have actors do the jobs; each file is written once all of its rows are there."""
    if not jobs:
        return
    use_gpu = jobs[0].cell.experiment.train.use_gpu
    actor = compute_actor(FrameMatcher, use_gpu=use_gpu)
    n_actors = min(n_workers_available(use_gpu=use_gpu), len(jobs))
    rows: dict[Path, dict[int, np.ndarray]] = {}
    with progress(sum(job.stop - job.start for job in jobs), f"{what} frames", "clips") as advance:
        answers = map_actors(
            lambda: actor.remote(runs), jobs, lambda one, job: one.work.remote(what, *job[1:]), n_actors=n_actors
        )
        for job, answer in answers:
            if isinstance(answer, Exception):
                raise answer if isinstance(answer, HCLError) else RuntimeError(f"{what} failed") from answer
            of_file = rows.setdefault(job.file, {})
            of_file[job.start] = answer
            if sum(map(len, of_file.values())) == len(job.cell.partition.videos):
                _save(job.file, np.concatenate([of_file[start] for start in sorted(of_file)]))
                rows[job.file] = {}
            advance(job.stop - job.start)


def _save(path: Path, rows: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    with partial.open("wb") as file:
        np.save(file, rows)
    os.replace(partial, path)


class FrameMatcher:
    """An actor: encodes the frames of some clips, or scores some clips against all."""

    def __init__(self, runs: Path):
        torch.set_num_threads(1)
        self.runs, self.device = runs, device_of_actor()
        self._held: tuple[Path, Any] | None = None  # of the last file: a model and its clips, or all frames

    def work(self, what: Literal["encode", "score"], cell: Cell, start: int, stop: int) -> np.ndarray:
        held = self._hold(what, cell)
        if what == "score":
            return score_pairs_of_frames(held[start:stop], held, cell.method).cpu().numpy()
        model, clips = held
        precision = cell.experiment.train.precision
        tokens, _ = encode(model, clips, range(start, stop), device=self.device, precision=precision)
        return tokens.mean(dim=2).cpu().numpy()

    def _hold(self, what: Literal["encode", "score"], cell: Cell) -> Any:
        file = frames_file(cell, self.runs)
        if self._held is None or self._held[0] != file:
            if what == "encode":
                self._held = file, (model_of(cell).to(self.device), clips_of(cell, self.runs))
            else:
                self._held = file, torch.from_numpy(np.load(file)).to(self.device)
        return self._held[1]
