"""Resuming: which of a run's files count after whatever has stopped it, or damaged one of them.

`last.pt` is what a run goes on from, `previous.pt` the checkpoint before it, for the day on which the last cannot be
read. Both hold the metrics of all epochs, so that `metrics.parquet` can be written from either.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import results
from hcl.errors import CheckpointError
from hcl.evaluation.scores import LEVELS
from hcl.files.atomic import partial_of
from hcl.files.disk_errors import storing
from hcl.models.checkpoint import check_checkpoint, file_digest, load_checkpoint, write_checkpoint
from orchestration.storage.record_files import write_epochs
from orchestration.training.run import BEST, FUSION, LAST, METRICS, NEXT_BEST, PREVIOUS, Resumption, Run, write_fusion

FUSED_ACCURACY = "val_fused_accuracy"
FUSED_SIGMAS = {level: f"fused_sigma_{level}" for level in LEVELS}
"""In an epoch's metrics with `train.val_fusions`: the accuracy at the best weights of the levels, and these weights."""
PARTS = ("epoch", "sums", "metrics", "best", "optimizer", "scaler")
"""Of a checkpoint, what a run goes on from."""
DAMAGED = "checkpoints/last.damaged.pt"
"""Where a last checkpoint that cannot be read is put aside."""


def keep_previous(folder: Path) -> None:
    """Keep the last checkpoint as the previous one, before a new one takes its name. Raises StorageError.

    The file gets a second name, so that there is a `last.pt` at any moment; where the disk has no second names, it gets
    another until the new one is there.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    if not last.exists():
        return
    partial = partial_of(previous)
    with storing(previous):
        try:
            os.link(last, partial)
        except OSError:
            os.replace(last, previous)
            return
        os.replace(partial, previous)
        partial.unlink(missing_ok=True)  # of two names of one file neither replaces the other


def settle(run: Run, found: Resumption, warn: Callable[[str], None]) -> dict[str, Any]:
    """Put a run's files in order for going on from `found`: for its one writer.

    The previous checkpoint becomes the last where that cannot be read. The best epoch's weights get their name if the
    checkpoint tells of that epoch; those of an epoch that has to be done again go, and so does what cannot be read.

    Args:
        warn: called with what a user should know.

    Returns:
        The metrics of the best epoch so far, as its weights are on disk; empty where they are lost.
    """
    is_fallback = found.file == PREVIOUS
    if is_fallback:
        _put_previous_last(run, found, warn)
    _settle_metrics(run, found.state, is_fallback, warn)
    best = found.state["best"]
    _settle_next_best(run, best, warn)
    return _settle_best(run, found.state, is_fallback, warn) if best else best


def rows_of(run: Run, state: dict[str, Any]) -> list[dict[str, Any]]:
    """The metrics of all whole epochs of a checkpoint; those of older versions leave them to `metrics.parquet`."""
    if "rows" in state or not (run.folder / METRICS).exists():
        return list(state.get("rows", []))
    return [row for row in results.read_epochs(run.folder) if row["epoch"] <= state["epoch"]]


def name_best(run: Run, best: dict[str, Any]) -> None:
    """Give the weights of the best epoch, and the fusion that it found, their last names."""
    if fusion := fusion_of(best):  # first: while the next best is there, a run that is resumed does both again
        chosen_on, weights = run.experiment.data.selection_partition, file_digest(run.folder / NEXT_BEST)
        how = "while training (train.val_fusions)"
        write_fusion(run.folder, fusion, how, partition=chosen_on, weights=weights)
    os.replace(run.folder / NEXT_BEST, run.folder / BEST)


def inherit(parent: Path, folder: Path) -> None:
    """Begin a run's folder with what another has come to, unless it has begun; the checkpoint to go on from is last.

    Files are linked where they can be: none of them is ever written in place.
    """
    if (folder / LAST).exists() or not any((parent / name).exists() for name in (LAST, PREVIOUS)):
        return
    for name in (METRICS, FUSION, BEST, PREVIOUS, LAST):
        if (parent / name).exists():
            _link_or_copy(parent / name, folder / name)


def fusion_of(row: dict[str, Any]) -> dict[str, float]:
    """Return the best weights of the levels of an epoch, by dotted path; empty where none were tried."""
    return {f"fusion.sigma_{level}": row[name] for level, name in FUSED_SIGMAS.items() if name in row}


def chosen_by(row: dict[str, Any]) -> float:
    """Return the value by which the best epoch is chosen."""
    return row.get(FUSED_ACCURACY, row["val_accuracy"])


def _put_previous_last(run: Run, found: Resumption, warn: Callable[[str], None]) -> None:
    epoch, step = found.state["epoch"], found.state["sums"]["steps"]
    aside = ""
    if (run.folder / LAST).exists():
        os.replace(run.folder / LAST, run.folder / DAMAGED)
        aside = f"; what could not be read is now {DAMAGED}"
    _link_or_copy(run.folder / PREVIOUS, run.folder / LAST)
    where = f"after epoch {epoch}" + (f", step {step}" if step else "")
    warn(f"{run.folder / LAST}: {found.problem}; training goes on from {PREVIOUS}, {where}{aside}")


def _settle_metrics(run: Run, state: dict[str, Any], is_fallback: bool, warn: Callable[[str], None]) -> None:
    """Write `metrics.parquet` from the checkpoint where it cannot be read, or tells of epochs that are done again."""
    path = run.folder / METRICS
    try:
        known = results.read_epochs(run.folder) if path.exists() else []
    except results.RecordError as error:
        if "rows" not in state:
            raise
        warn(f"{path}: {error.problem}; it has been written again from the checkpoint")
        known, is_fallback = [], True
    rows = rows_of(run, state) if "rows" in state else [row for row in known if row["epoch"] <= state["epoch"]]
    if rows and (is_fallback or not known):
        write_epochs(run.folder, rows)
    elif is_fallback and not rows:
        path.unlink(missing_ok=True)


def _settle_next_best(run: Run, best: dict[str, Any], warn: Callable[[str], None]) -> None:
    path = run.folder / NEXT_BEST
    if not path.exists():
        return
    try:
        is_best = load_checkpoint(path, holding=["epoch"])["epoch"] == best.get("epoch")
    except CheckpointError as error:
        warn(f"{path}: {error.problem}; it has been removed")
        is_best = False
    if is_best:
        name_best(run, best)
    else:
        path.unlink()


def _settle_best(run: Run, state: dict[str, Any], is_fallback: bool, warn: Callable[[str], None]) -> dict[str, Any]:
    """See that the best weights are on disk, from the checkpoint itself if they are its own."""
    path, best = run.folder / BEST, state["best"]
    kept: dict[str, Any] = {}
    problem = "is of an epoch that is done again"
    try:
        check_checkpoint(path)
        kept = load_checkpoint(path, holding=["epoch", "metrics"]) if is_fallback else {"epoch": best["epoch"]}
    except CheckpointError as error:
        problem = error.problem
    if kept.get("epoch") == best["epoch"]:
        return best
    if best["epoch"] == state["epoch"] and not state["sums"]["steps"]:
        warn(f"{path}: {problem}; it has been written again from the weights of epoch {state['epoch']}")
        rest = {name: value for name, value in state.items() if name not in ("optimizer", "scaler", "sums", "rows")}
        write_checkpoint(path, rest)
        return best
    if kept and chosen_by(kept["metrics"]) >= chosen_by(best):  # what it holds was as good as its metrics say
        return kept["metrics"]
    warn(
        f"{path}: {problem}; the weights of epoch {best['epoch']}, the best so far, are lost: the best of the epochs "
        "from here on is kept"
    )
    return {}


def _link_or_copy(source: Path, destination: Path) -> None:
    partial = partial_of(destination)
    with storing(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)
        os.replace(partial, destination)
        with suppress(OSError):
            partial.unlink()
