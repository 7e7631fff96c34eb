"""Other matchers on the frame features of a run's model, by Ray actors: features once, each matcher's pairs once.

A frame's feature is the mean of the encoder's tokens over its patches: what HCL's tuples are made of.
"""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hcl.episodes import Episodes
from hcl.errors import HCLError
from hcl.evaluation import encode
from hcl.frame_matchers import is_pairwise, look_up_matcher, matching_scores, score_pairs_of_frames
from orchestration.loading import clips_of, model_of
from orchestration.runtime import compute_actor, device_of_actor, map_actors, n_workers_available, progress
from orchestration.tables import Cell

_ENCODED, _PAIRS, _SHARD = 16, 50_000, 250  # clips encoded, pairs scored, episodes answered in a call
_LOOKED_UP = 1000  # episodes at a time


def ensure_matchers(cells: Iterable[Cell], runs: Path) -> None:
    """Frame features, and the pairs of pairwise matchers, for every cell whose files do not exist yet."""
    for cell in cells:
        _ensure(frames_file(cell, runs), cell, runs, "encode frames", "clips", _blocks(cell, _ENCODED))
        if is_pairwise(cell.method):
            n_rows = max(1, _PAIRS // len(cell.partition.videos))
            _ensure(_pairs_file(cell, runs), cell, runs, "score pairs", "clips", _blocks(cell, n_rows))


def matcher_scores(cell: Cell, episodes: Episodes, runs: Path) -> np.ndarray:
    """Scores (episode, query, way) of a matcher whose files `ensure_matchers` has made."""
    if is_pairwise(cell.method):
        table = np.load(_pairs_file(cell, runs), mmap_mode="r")
        parts = _parts(episodes, _LOOKED_UP)
        return np.concatenate([look_up_matcher(table, part, cell.method) for part in parts])
    shards = _parts(episodes, _SHARD)
    return np.concatenate(_map("score episodes", "shards", cell, runs, shards))


def frames_file(cell: Cell, runs: Path) -> Path:
    """Frame features (clip, frame, dim), the same for every matcher."""
    return runs / "cache" / "frame_features" / f"{dataclasses.replace(cell, method='frames').key}.npy"


def _pairs_file(cell: Cell, runs: Path) -> Path:
    return runs / "cache" / "frame_pairs" / f"{dataclasses.replace(cell, method='frames').key}-{cell.method}.npy"


def _blocks(cell: Cell, size: int) -> list[tuple[int, int]]:
    n_clips = len(cell.partition.videos)
    return [(start, min(start + size, n_clips)) for start in range(0, n_clips, size)]


def _parts(episodes: Episodes, size: int) -> list[Episodes]:
    cuts = [slice(start, start + size) for start in range(0, len(episodes), size)]
    return [Episodes(episodes.classes[cut], episodes.support[cut], episodes.query[cut]) for cut in cuts]


def _ensure(path: Path, cell: Cell, runs: Path, what: str, unit: str, blocks: Sequence[tuple[int, int]]) -> None:
    if path.exists():
        return
    rows = np.concatenate(_map(what, unit, cell, runs, blocks))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    with partial.open("wb") as file:
        np.save(file, rows)
    os.replace(partial, path)


def _map(what: str, unit: str, cell: Cell, runs: Path, items: Sequence[Any]) -> list[np.ndarray]:
    """What actors answer to each item, in order."""
    calls: dict[str, Callable[[Any, Any], Any]] = {
        "encode frames": lambda actor, item: actor.encode.remote(*item[1]),
        "score pairs": lambda actor, item: actor.score.remote(*item[1]),
        "score episodes": lambda actor, item: actor.episodes.remote(item[1]),
    }
    use_gpu = cell.experiment.train.use_gpu
    actor = compute_actor(FrameMatcher, use_gpu=use_gpu)
    numbered = list(enumerate(items))
    sizes = [item[1] - item[0] if unit == "clips" else 1 for item in items]
    answers: dict[int, np.ndarray] = {}
    with progress(sum(sizes), f"{cell.method}: {what}", unit) as advance:
        answered = map_actors(
            lambda: actor.remote(cell, runs),
            numbered,
            calls[what],
            n_actors=min(n_workers_available(use_gpu=use_gpu), len(items)),
        )
        for (index, _), answer in answered:
            if isinstance(answer, Exception):
                raise answer if isinstance(answer, HCLError) else RuntimeError(f"{what} failed") from answer
            answers[index] = answer
            advance(sizes[index])
    return [answers[index] for index in range(len(items))]


class FrameMatcher:
    """An actor: encodes the frames of some clips, scores some clips against all, answers some episodes."""

    def __init__(self, cell: Cell, runs: Path):
        torch.set_num_threads(1)
        self.cell, self.runs, self.device = cell, runs, device_of_actor()
        self._model: Any = None
        self._frames: torch.Tensor | None = None

    def encode(self, start: int, stop: int) -> np.ndarray:
        if self._model is None:
            self._model = model_of(self.cell).to(self.device), clips_of(self.cell, self.runs)
        model, clips = self._model
        precision = self.cell.experiment.train.precision
        tokens, _ = encode(model, clips, range(start, stop), device=self.device, precision=precision)
        return tokens.mean(dim=2).cpu().numpy()

    def score(self, start: int, stop: int) -> np.ndarray:
        frames = self._all_frames()
        return score_pairs_of_frames(frames[start:stop], frames, self.cell.method).cpu().numpy()

    def episodes(self, episodes: Episodes) -> np.ndarray:
        return matching_scores(self._all_frames().cpu(), episodes, seed=self.cell.experiment.seed)

    def _all_frames(self) -> torch.Tensor:
        if self._frames is None:
            self._frames = torch.from_numpy(np.load(frames_file(self.cell, self.runs))).to(self.device)
        return self._frames
