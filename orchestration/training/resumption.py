"""Choose the files from which a run resumes after an interruption, or after damage to one of them.

A run resumes from `last.pt`, or from the checkpoint before it, `previous.pt`, if the last cannot be read. Both hold the
metrics of all epochs, so that `metrics.parquet` can be written from either.
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
from orchestration.training.run import Resumption, Run, write_fusion
from orchestration.training.run_files import BEST, FUSION, LAST, METRICS, NEXT_BEST, PREVIOUS

FUSED_ACCURACY = "val_fused_accuracy"
FUSED_SIGMAS = {level: f"fused_sigma_{level}" for level in LEVELS}
"""In an epoch's metrics with `train.val_fusions`: the accuracy at the best weights of the levels, and these weights."""
PARTS = ("epoch", "sums", "metrics", "best", "optimizer", "scaler")
"""Parts of a checkpoint that are needed to resume."""
DAMAGED = "checkpoints/last.damaged.pt"
"""Name to which a last checkpoint is moved that cannot be read."""


def keep_previous(folder: Path) -> None:
    """Keep the last checkpoint as the previous one, before a new one takes its name. Raises StorageError.

    The file gets a hard link, so that `last.pt` exists at any moment. On a disk without hard links it is renamed, and
    `last.pt` is missing until the new one is written.
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
        partial.unlink(missing_ok=True)  # os.replace leaves it if both names are one file


def settle(run: Run, resumption: Resumption, warn: Callable[[str], None]) -> dict[str, Any]:
    """Put a run's files in order for resuming; only the writer of the run calls it.

    If the last checkpoint cannot be read, the previous one becomes the last. The best epoch's weights get their name
    if the checkpoint knows that epoch; those of an epoch that is trained again are removed, and so are unreadable ones.

    Args:
        warn: called with texts that a user should know.

    Returns:
        The metrics of the best epoch so far whose weights are on disk; empty if they are lost.
    """
    is_fallback = resumption.file == PREVIOUS
    if is_fallback:
        _put_previous_last(run, resumption, warn)
    _settle_metrics(run, resumption.state, is_fallback, warn)
    best = resumption.state["best"]
    _settle_next_best(run, best, warn)
    return _settle_best(run, resumption.state, is_fallback, warn) if best else best


def rows_of(run: Run, state: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the metrics of all finished epochs of a checkpoint; older versions keep them in `metrics.parquet`."""
    if "rows" in state or not (run.folder / METRICS).exists():
        return list(state.get("rows", []))
    return [row for row in results.read_epochs(run.folder) if row["epoch"] <= state["epoch"]]


def name_best(run: Run, best: dict[str, Any]) -> None:
    """Give the weights of the best epoch, and the fusion found for it, their final names."""
    if fusion := fusion_of(best):  # first, because a resumed run repeats both while the next best exists
        chosen_on, weights = run.experiment.data.selection_partition, file_digest(run.folder / NEXT_BEST)
        origin = "while training (train.val_fusions)"
        write_fusion(run.folder, fusion, origin, partition=chosen_on, weights=weights)
    os.replace(run.folder / NEXT_BEST, run.folder / BEST)


def inherit(parent: Path, folder: Path) -> None:
    """Start a run's folder with another run's files, unless it has started; the checkpoint to resume from comes last.

    Files are hard-linked if possible, because none of them is ever written in place.
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


def _put_previous_last(run: Run, resumption: Resumption, warn: Callable[[str], None]) -> None:
    epoch, step = resumption.state["epoch"], resumption.state["sums"]["steps"]
    aside = ""
    if (run.folder / LAST).exists():
        os.replace(run.folder / LAST, run.folder / DAMAGED)
        aside = f"; the unreadable file is now {DAMAGED}"
    _link_or_copy(run.folder / PREVIOUS, run.folder / LAST)
    where = f"after epoch {epoch}" + (f", step {step}" if step else "")
    warn(f"{run.folder / LAST}: {resumption.problem}; training resumes from {PREVIOUS}, {where}{aside}")


def _settle_metrics(run: Run, state: dict[str, Any], is_fallback: bool, warn: Callable[[str], None]) -> None:
    """Write `metrics.parquet` from the checkpoint if it cannot be read, or has epochs that are trained again."""
    path = run.folder / METRICS
    try:
        rows_on_disk = results.read_epochs(run.folder) if path.exists() else []
    except results.RecordError as error:
        if "rows" not in state:
            raise
        warn(f"{path}: {error.problem}; it has been written again from the checkpoint")
        rows_on_disk, is_fallback = [], True
    rows = rows_of(run, state) if "rows" in state else [row for row in rows_on_disk if row["epoch"] <= state["epoch"]]
    if rows and (is_fallback or not rows_on_disk):
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
    """Make sure that the best weights are on disk; write them from the checkpoint if they are its own."""
    path, best = run.folder / BEST, state["best"]
    kept: dict[str, Any] = {}
    problem = "is of an epoch that is trained again"
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
    if kept and chosen_by(kept["metrics"]) >= chosen_by(best):  # the weights in the file are at least as good
        return kept["metrics"]
    warn(
        f"{path}: {problem}; the weights of epoch {best['epoch']}, the best so far, are lost: the best of the epochs "
        "from now on is kept"
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
