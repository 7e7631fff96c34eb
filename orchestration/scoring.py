"""Encoding and scoring by Ray actors, over all tables together; repeated, it does the blocks that are missing."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hcl import build
from hcl.episodes import Episodes
from hcl.errors import HCLError
from hcl.evaluation import encode, features_of, frames_in_order, pooled_episode_scores
from hcl.evaluation import mixed_levels as levels_of_mixed
from hcl.frames import FrameStore
from hcl.grids import GridDataset
from hcl.model import ClipFeatures
from hcl.pooled import PooledModel
from hcl.scores import Levels, score_pairs
from orchestration.runtime import compute_actor, device_of_actor, map_actors, n_workers_available, progress
from orchestration.tables import CLIPS, PAIRS, Cell, save_arrays


def ensure_tables(cells: Sequence[Cell], runs: Path, *, mixed: Sequence[Cell] = ()) -> None:
    """Make the tables that do not exist yet.

    Args:
        mixed: cells with questions that pairs cannot answer; their tokens are kept for `mixed_levels`.
    """
    keep = set(mixed)
    open_cells = [cell for cell in cells if not cell.table(runs).whole.exists()]
    encoded = list(dict.fromkeys([*open_cells, *mixed]))
    for cell in encoded:
        cell.table(runs).folder.mkdir(parents=True, exist_ok=True)
    clips = [
        (cell, index * CLIPS, path)
        for cell in encoded
        for index, path in enumerate(cell.table(runs).tokens())
        if not path.exists()
    ]
    _run(clips, "encode clips", CLIPS, runs)
    rows = [
        (cell, start, stop)
        for cell in open_cells
        for start, stop in cell.table(runs).rows()
        if not cell.table(runs).block(start).exists()
    ]
    _run(rows, "score pairs", PAIRS, runs)
    for cell in open_cells:
        cell.table(runs).assemble()
        if cell not in keep:
            cell.table(runs).discard()


def mixed_levels(cell: Cell, episodes: Episodes, runs: Path) -> Levels:
    """Levels of episodes whose clips mix (the release's defects): episode by episode, shared by the actors."""
    shards = [
        (cell, Episodes(episodes.classes[rows], episodes.support[rows], episodes.query[rows]), int(rows[0]))
        for rows in np.array_split(np.arange(len(episodes)), max(1, len(episodes) // 50))
    ]
    parts: dict[int, Levels] = {}
    _run(shards, "score episodes one by one", 50, runs, parts)
    return Levels(*(np.concatenate(level) for level in zip(*(parts[start] for start in sorted(parts)), strict=True)))


def _run(items: Sequence[Any], description: str, n_each: int, runs: Path, parts: dict | None = None) -> None:
    if not items:
        return
    use_gpu = items[0][0].experiment.train.use_gpu
    scorer = compute_actor(Scorer, use_gpu=use_gpu)
    unit = {"encode clips": "clips", "score pairs": "pairs"}.get(description, "episodes")
    with progress(len(items) * n_each, description, unit) as advance:
        answers = map_actors(
            lambda: scorer.remote(runs),
            items,
            lambda actor, item: actor.work.remote(description, item),
            n_actors=min(n_workers_available(use_gpu=use_gpu), len(items)),
        )
        for item, answer in answers:
            if isinstance(answer, Exception):
                raise answer if isinstance(answer, HCLError) else RuntimeError(f"{description} failed") from answer
            if parts is not None:
                parts[item[2]] = answer
            advance(n_each)


@dataclass
class _Loaded:
    """What an actor keeps of the cell that it works on."""

    cell: Cell
    model: Any  # HCL or PooledModel
    dataset: Any
    embeddings: torch.Tensor | None = None
    tokens: torch.Tensor | None = None
    features: ClipFeatures | None = None


class Scorer:
    """An actor: encodes blocks of clips, scores blocks of rows, or whole episodes."""

    def __init__(self, runs: Path):
        torch.set_num_threads(1)
        self.runs, self.device = runs, device_of_actor()
        self.loaded: _Loaded | None = None

    def work(self, kind: str, item: tuple) -> Any:
        loaded = self._load(item[0])
        if kind == "encode clips":
            return self._encode(loaded, *item[1:])
        if kind == "score pairs":
            return self._score(loaded, *item[1:])
        return self._episodes(loaded, item[1])

    def _load(self, cell: Cell) -> _Loaded:
        if self.loaded is None or self.loaded.cell != cell:
            job = cell.grid_job()
            if job is not None:
                dataset: Any = GridDataset(job.store(self.runs))
            else:
                frames = FrameStore(cell.data_root / "images" / cell.partition.dataset)
                dataset = build.make_dataset(cell.experiment, frames, cell.partition, training=False)
            self.loaded = _Loaded(cell, _model(cell).to(self.device), dataset, cell.embeddings())
        return self.loaded

    def _encode(self, loaded: _Loaded, start: int, path: Path) -> None:
        clips = range(start, min(start + CLIPS, loaded.cell.table(self.runs).n_clips))
        precision = loaded.cell.experiment.train.precision
        if loaded.cell.method == "prototype":
            vectors = frames_in_order(loaded.model, loaded.dataset, clips, device=self.device, precision=precision)
            values, rows = vectors[:, None, None], 1  # one token a clip
        else:
            values, rows = encode(loaded.model, loaded.dataset, clips, device=self.device, precision=precision)
        (path.parent / "patch_rows").write_text(str(rows))  # before the tokens, which say that the block is done
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
        with partial.open("wb") as file:
            np.save(file, values.cpu().numpy())
        os.replace(partial, path)

    def _score(self, loaded: _Loaded, start: int, stop: int) -> None:
        cell = loaded.cell
        tokens = self._tokens(loaded)
        if cell.method == "prototype":
            vectors = tokens.flatten(1)
            table = {"global": vectors[start:stop] @ vectors.T}
        else:
            if loaded.features is None:
                loaded.features = features_of(
                    loaded.model.heads,
                    tokens,
                    self._rows(cell),
                    project=cell.experiment.matching.project_at_test,
                    embeddings=loaded.embeddings,
                )
            rows = loaded.features[slice(start, stop)]
            table = score_pairs(rows, loaded.features, **build.test_matching(cell.experiment))
        save_arrays(cell.table(self.runs).block(start), {name: values.cpu().numpy() for name, values in table.items()})

    def _episodes(self, loaded: _Loaded, episodes: Episodes) -> Levels:
        experiment = loaded.cell.experiment
        if isinstance(loaded.model, PooledModel):
            scores = pooled_episode_scores(loaded.model, self._tokens(loaded), episodes)
            return Levels(scores, np.zeros_like(scores), np.zeros_like(scores))
        return levels_of_mixed(
            loaded.model.heads,
            self._tokens(loaded),
            self._rows(loaded.cell),
            episodes,
            metric=experiment.matching.metric,
            project=experiment.matching.project_at_test,
            defects=build.defects(experiment),
            embeddings=loaded.embeddings,
            **build.test_matching(experiment),
        )

    def _tokens(self, loaded: _Loaded) -> torch.Tensor:
        if loaded.tokens is None:
            paths = loaded.cell.table(self.runs).tokens()
            tokens = torch.from_numpy(np.concatenate([np.load(path) for path in paths]))
            loaded.tokens = tokens.to(self.device)
        return loaded.tokens

    def _rows(self, cell: Cell) -> int:
        return int((cell.table(self.runs).folder / "patch_rows").read_text())


def _model(cell: Cell) -> build.Model:
    if cell.checkpoint is None:
        return build.make_model(cell.experiment, n_classes=2, random_weights=cell.method == "random").eval()
    return build.trained_model(cell.experiment, cell.checkpoint)
