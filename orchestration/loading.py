"""A cell's model and clips in this process, as actors and single commands read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hcl import build
from hcl.checkpoint import load_checkpoint, load_model
from hcl.frames import FrameStore
from hcl.grids import GridDataset
from hcl.model import HCL
from orchestration.tables import Cell


def model_of(cell: Cell) -> HCL:
    """The trained model of a cell with a checkpoint, to evaluate. Raises CheckpointError where it does not fit."""
    assert cell.checkpoint is not None
    state = load_checkpoint(cell.checkpoint)
    model = build.make_model(cell.experiment, len(state["classes"]), random_weights=True)
    load_model(model, state["model"], source=str(cell.checkpoint))
    return model.eval()


def clips_of(cell: Cell, runs: Path) -> Any:
    """The clips of its partition as the model takes them: frames, or the cached grids of a frozen backbone."""
    job = cell.grid_job()
    if job is not None:
        return GridDataset(job.store(runs))
    frames = FrameStore(cell.data_root / "images" / cell.partition.dataset)
    return build.make_dataset(cell.experiment, frames, cell.partition, training=False)
