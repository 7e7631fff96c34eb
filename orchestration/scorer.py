"""What one actor of an evaluation does: encode a block of clips, score a tile of pairs, score episodes one by one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hcl import build
from hcl.arrays import save_arrays
from hcl.checkpoint import load_checkpoint, load_model
from hcl.episodes import Episodes
from hcl.evaluation import encode, features_of, frames_in_order, levels_one_by_one
from hcl.features import pack, unpack
from hcl.frames import FrameStore
from hcl.grids import GridDataset
from hcl.model import HCL, ClipFeatures
from hcl.scores import Levels, score_pairs
from orchestration.runtime import device_of_actor
from orchestration.tables import Cell, Tile


class Scorer:
    """An actor. It keeps the model of the cell that it worked on last, and of features only those at hand."""

    def __init__(self, runs: Path):
        torch.set_num_threads(1)
        self.runs, self.device = runs, device_of_actor()
        self.cell: Cell | None = None

    def encode(self, cell: Cell, start: int, stop: int) -> None:
        """All views of some clips, into the cell's feature store."""
        model, dataset = self._load(cell)
        half = cell.experiment.evaluation.precision == "bfloat16"
        views = []
        for view in range(cell.views):
            draws = [build.test_draws(clip, cell.views)[view] for clip in range(start, stop)]
            options: dict[str, Any] = {"device": self.device, "precision": cell.experiment.train.precision}
            if cell.method == "prototype":
                views.append(pack(ClipFeatures((), (), frames_in_order(model, dataset, draws, **options))))
                continue
            tokens, rows = encode(model, dataset, draws, **options)
            if _mixes_scales(cell):
                views.append({"tokens": tokens.cpu().numpy(), "rows": np.full(len(tokens), rows)})
            else:
                project = cell.experiment.matching.project_at_test
                views.append(pack(features_of(model.heads, tokens, rows, project=project), half=half))
        cell.features(self.runs).write(start, {name: np.stack([one[name] for one in views]) for name in views[0]})

    def score(self, cell: Cell, tile: Tile) -> None:
        """The similarities of a tile's pairs, averaged over views."""
        store = cell.features(self.runs)
        options = build.test_matching(cell.experiment)
        if cell.method == "prototype":
            options["tuple_sizes"] = ()
        total: dict[str, torch.Tensor] = {}
        for view in range(cell.views):
            query = unpack(store.read(tile.row, tile.row_end, view), self.device)
            support = unpack(store.read(tile.column, tile.column_end, view), self.device)
            for name, values in score_pairs(query, support, **options).items():
                total[name] = total[name] + values if name in total else values
        arrays = {name: (values / cell.views).cpu().numpy() for name, values in total.items()}
        save_arrays(cell.table(self.runs).tile(tile), arrays)

    def episodes(self, cell: Cell, episodes: Episodes) -> Levels:
        """Levels of episodes whose clips mix, averaged over views."""
        matcher = build.test_matcher(cell.experiment)
        each = [levels_one_by_one(episodes, partial(self._take, cell, view), matcher) for view in range(cell.views)]
        return Levels(*(np.mean(level, axis=0) for level in zip(*each, strict=True)))

    def _take(self, cell: Cell, view: int, clips: torch.Tensor) -> ClipFeatures:
        arrays = cell.features(self.runs).take(clips.numpy(), view)
        if not _mixes_scales(cell):
            return unpack(arrays, self.device)
        model, _ = self._load(cell)
        tokens = arrays["tokens"].to(self.device)
        return model.heads(tokens, int(arrays["rows"][0]), project=cell.experiment.matching.project_at_test)

    def _load(self, cell: Cell) -> tuple[HCL, Any]:
        if self.cell != cell:
            job = cell.grid_job()
            if job is not None:
                self.dataset: Any = GridDataset(job.store(self.runs), by_number=True)
            else:
                frames = FrameStore(cell.data_root / "images" / cell.partition.dataset)
                self.dataset = build.make_dataset(
                    cell.experiment, frames, cell.partition, training=False, random_views=cell.views > 1
                )
            self.cell, self.model = cell, _model(cell).to(self.device)
        return self.model, self.dataset


def _mixes_scales(cell: Cell) -> bool:
    """Whether features depend on the other clips of an episode (deviation 3), so that tokens are kept instead."""
    return cell.method != "prototype" and build.defects(cell.experiment).mix_scales


def _model(cell: Cell) -> HCL:
    if cell.checkpoint is None:
        return build.make_model(cell.experiment, n_classes=2, random_weights=cell.method == "random").eval()
    state = load_checkpoint(cell.checkpoint)
    model = build.make_model(cell.experiment, len(state["classes"]), random_weights=True)
    load_model(model, state["model"], source=str(cell.checkpoint))
    return model.eval()
