"""What an accuracy is about, and which of many records stand in a table's rows."""

from __future__ import annotations

import math

import pandas as pd

from results.marks import MARKED

CELL = ["dataset", "partition", "way", "shot", "evaluation_protocol"]
"""What an accuracy is about, whatever the method: accuracies of the same cell can be compared."""
MISSING = "–"


def row_keys(evaluations: pd.DataFrame) -> list[str]:
    """The columns that tell the table's rows apart: the usual ones, and others where these leave two in one cell."""
    keys = ["train_dataset", "dataset", "method", *MARKED]
    keys += [name for name in ("partition", "way") if evaluations[name].nunique() > 1]
    for name in ("run", "mode", "queries", "episodes", "seed", "metric", "checkpoint", "experiment_digest"):
        if not evaluations.duplicated([*keys, "shot"]).any():
            break
        if (evaluations.groupby([*keys, "shot"], dropna=False)[name].nunique(dropna=False) > 1).any():
            keys.append(name)
    return keys


def latest_cells(evaluations: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One record a cell: of several with the same keys and shot, the one created last."""
    return evaluations.sort_values("created", kind="stable").drop_duplicates([*keys, "shot"], keep="last")


def cell_text(accuracy: float | None, ci95: float | None = None, ci95_classes: float | None = None) -> str:
    """An accuracy in percent with its intervals: `47.7 ± 0.9 (± 3.1)`."""
    if accuracy is None or math.isnan(accuracy):
        return MISSING
    said = [f"{100 * accuracy:.1f}"]
    if ci95 is not None and not math.isnan(ci95):
        said.append(f"± {100 * ci95:.1f}")
    if ci95_classes is not None and not math.isnan(ci95_classes):
        said.append(f"(± {100 * ci95_classes:.1f})")
    return " ".join(said)
