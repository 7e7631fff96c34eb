"""Read the costs of a run from its records, for `cluster.plan`."""

from __future__ import annotations

import statistics
from pathlib import Path

import results
from cluster.plan import UnitCosts
from hcl.assembly import models
from hcl.assembly.experiment_files import load_resolved
from hcl.config import Experiment
from hcl.errors import ConfigError
from hcl.files.arrays import load_arrays


def measured(folder: Path, runs: Path) -> tuple[UnitCosts, Experiment]:
    """Return the costs of a run that has been trained and, for the costs of an evaluation, evaluated.

    The first epoch is left out if there are others, because it includes work that is done once. Sizes of features and
    tables are those of the largest in the cache.

    Raises:
        ConfigError: if it has no epochs.
    """
    experiment = load_resolved(folder / "experiment.yaml")
    try:
        epochs = results.read_epochs(folder)
    except results.RecordError as error:
        raise ConfigError("has no epochs to measure", where=str(folder), remedy="train it first: hcl train") from error
    epochs = epochs[1:] or epochs
    workers = experiment.train.workers
    train_s, val_s = (
        statistics.median(float(row[name]) for row in epochs) for name in ("train_seconds", "val_seconds")
    )
    records = [record for path in sorted(folder.glob("evaluation/*.json")) if (record := results.read_evaluation(path))]
    timed = [record for record in records if record.method == "hcl" and record.seconds and record.n_clips]
    n_pairs = sum({record.dataset: float(record.n_clips or 0) ** 2 for record in timed}.values())
    n_clips = max((record.n_clips or 0 for record in timed), default=0)
    features = max(
        (_bytes(folder_of_features) for folder_of_features in (runs / "cache" / "features").glob("*")), default=0
    )
    table, n_sides = _largest_table(runs / "cache" / "scores")
    costs = UnitCosts(
        clip_s=train_s * workers / models.clips_per_epoch(experiment),
        val_s=val_s * workers,
        pair_s=sum(record.seconds or 0.0 for record in timed) / n_pairs if timed else None,
        run_bytes=_bytes(folder) - _bytes(folder / "evaluation"),
        feature_bytes=features / n_clips if features and n_clips else None,
        table_bytes=table / n_sides**2 if n_sides else None,
    )
    return costs, experiment


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _largest_table(folder: Path) -> tuple[int, int]:
    """Return its size and its number of clips; zeros if there is none."""
    path = max(folder.glob("*.npz"), key=lambda file: file.stat().st_size, default=None)
    if path is None:
        return 0, 0
    arrays = load_arrays(path, remedy="delete it and repeat the command")
    return path.stat().st_size, max((len(array) for array in arrays.values() if array.ndim == 2), default=0)
