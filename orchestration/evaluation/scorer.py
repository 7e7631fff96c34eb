"""Work as one actor of an evaluation: encode a block of clips, score a tile of pairs, score single episodes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from hcl.assembly import inputs, models
from hcl.clips.blocks import BlockStore
from hcl.clips.episodes import Episodes
from hcl.config import Experiment
from hcl.errors import CheckpointError
from hcl.evaluation.methods import ByEpisode, Kept, Scores
from hcl.files.arrays import save_arrays
from hcl.models.checkpoint import file_digest
from hcl.models.inference import for_inference
from hcl.models.precision import set_convolutions
from orchestration.evaluation.tables import Cell, Tile
from orchestration.runtime.connect import device_of_actor
from orchestration.runtime.notices import keep_notices

ENCODE, SCORE, ONE_BY_ONE = "encode clips", "score pairs", "score episodes one by one"


class Done(NamedTuple):
    """Hold the result of a call, and the seconds that it took."""

    answer: Any
    seconds: float


class Scorer:
    """Encode and score as an actor. It keeps only the model of its last cell, and only the features in use."""

    def __init__(self, runs: Path):
        torch.set_num_threads(1)
        self.runs, self.device = runs, device_of_actor()
        keep_notices(runs)
        self.cell: Cell | None = None
        self.store: BlockStore | None = None

    def work(self, phase: str, cell: Cell, what: Any) -> Done:
        """Do one piece of a phase: clips (start, stop), a tile, or episodes."""
        began = time.perf_counter()
        answer = {ENCODE: self.encode, SCORE: self.score, ONE_BY_ONE: self.episodes}[phase](cell, what)  # type: ignore[operator]
        return Done(answer, time.perf_counter() - began)

    @torch.no_grad()
    def encode(self, cell: Cell, clips: tuple[int, int]) -> None:
        """Encode all views of consecutive clips into the cell's feature store."""
        start, stop = clips
        self._load(cell)
        names = None if self.embeddings is None else self.embeddings[start:stop].to(self.device)
        views = []
        for view in range(cell.views):
            frames = torch.stack(
                [self.dataset[inputs.test_draws(clip, cell.views)[view]] for clip in range(start, stop)]
            )
            precision = cell.experiment.train.precision
            kept = cell.how.keep(self.model, frames.to(self.device), names, precision=precision)
            views.append({name: values.cpu().numpy() for name, values in kept.items()})
        self._features(cell).write(start, {name: np.stack([of_view[name] for of_view in views]) for name in views[0]})

    def score(self, cell: Cell, tile: Tile) -> None:
        """Score a tile's pairs, averaged over views."""
        store = self._features(cell)
        total: dict[str, Tensor] = {}
        for view in range(cell.views):
            query = self._moved(store.read(tile.row, tile.row_end, view))
            support = self._moved(store.read(tile.column, tile.column_end, view))
            for name, values in cell.pairwise.pairs(query, support).items():
                total[name] = total[name] + values if name in total else values
        arrays = {name: (values / cell.views).cpu().numpy() for name, values in total.items()}
        save_arrays(cell.table(self.runs).tile(tile), arrays)

    @torch.no_grad()
    def episodes(self, cell: Cell, episodes: Episodes) -> Scores:
        """Return the scores of episodes whose clips must be processed together, averaged over views."""
        self._load(cell)
        store, how = self._features(cell), cast(ByEpisode, cell.how)
        of_views = [
            how.one_by_one(self.model, lambda clips, v=view: self._moved(store.take(clips.numpy(), v)), episodes)  # type: ignore[misc]
            for view in range(cell.views)
        ]
        return {name: np.mean([scores[name] for scores in of_views], axis=0) for name in of_views[0]}

    def _features(self, cell: Cell) -> BlockStore:
        """Return the cell's features; each block's checksums are verified once, and damaged ones are encoded again."""
        plain = cell.features(self.runs)
        if plain != self.store:
            self.store = replace(plain, mend=lambda start, stop: self.encode(cell, (start, stop)))
        return self.store

    def _moved(self, kept: Kept) -> Kept:
        return {name: values.to(self.device) for name, values in kept.items()}

    def _load(self, cell: Cell) -> None:
        """Load the cell's model, clips and class names, unless they are loaded."""
        if self.cell == cell:
            return
        set_convolutions(cell.experiment.train.precision)
        job = cell.grid_job()
        if job is not None:
            self.dataset: Any = job.dataset(self.runs, by_number=True)
        else:
            frames = inputs.frame_store(cell.experiment, cell.stored)
            self.dataset = inputs.make_dataset(
                cell.experiment, frames, cell.partition, training=False, random_views=cell.views > 1
            )
        self.cell, self.model, self.embeddings = (
            cell,
            for_inference(_model(cell), has_grids=job is not None).to(self.device),
            cell.embeddings(),
        )


def _model(cell: Cell) -> models.Model:
    if cell.checkpoint is None:
        return models.make_model(cell.experiment, n_classes=2, random_weights=cell.has_random_weights).eval()
    return checked_model(cell.experiment, cell.checkpoint, cell.checkpoint_digest)


def checked_model(experiment: Experiment, checkpoint: Path, digest: str) -> models.Model:
    """Return the model of a checkpoint. Raises CheckpointError if the file no longer has the digest."""
    model = models.trained_model(experiment, checkpoint)
    # The digest is read after the weights, so that it covers what was loaded.
    if file_digest(checkpoint) != digest:
        raise CheckpointError(
            "has changed since the command started, because the run is being trained",
            where=str(checkpoint),
            remedy="repeat the command to use the present weights, or wait until training has ended",
        )
    return model
