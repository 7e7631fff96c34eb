"""Show records as the tables of a paper: a row for each (training set, data set, method), a column for each shot."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from results.tables.best import best_records
from results.tables.cells import (
    CELL,
    MARKED,
    MISSING,
    cell_text,
    footnotes,
    latest_cells,
    marked,
    record_text,
    row_keys,
    wider_intervals,
)
from results.tables.evaluated import Evaluated


def accuracy_table(evaluations: pd.DataFrame | Evaluated) -> pd.DataFrame:
    """Make the table of accuracies in percent with 95% intervals over episodes and over classes: `47.7 ± 0.9 (± 3.1)`.

    Where there is no interval over classes, the one over videos stands in its place: `47.7 ± 0.9 (± 2.4 v)`.

    Columns that distinguish rows (partition, way, run and so on) appear if they are needed. A dagger marks rows of the
    published training protocol, a double dagger those of the published episodes, a section sign those that saw the
    queries' labels, and a double line those whose queries may be their own support. `attrs` holds the caption, the
    footnotes and, in `bold`, row and column of each accuracy that is better than all others in its cell
    (`results.tables.best`).
    """
    evaluated = Evaluated.of(evaluations)
    keys, latest = evaluated.keys, evaluated.latest
    best = best_records(latest, evaluated.answers)
    shots = sorted(latest["shot"].unique())
    rows: list[dict[str, Any]] = []
    bold: list[list[Any]] = []
    for values, cells in latest.groupby(keys, dropna=False, sort=True):
        row = dict(zip(keys, values, strict=True))
        row["method"] = marked(row)
        row = {name: value for name, value in row.items() if name not in MARKED}
        by_shot = {cell["shot"]: record_text(cell) for cell in cells.to_dict("records")}
        row |= {f"{shot}-shot": by_shot.get(shot, MISSING) for shot in shots}
        bold += [[len(rows), f"{cell['shot']}-shot"] for cell in cells.to_dict("records") if cell["path"] in best.paths]
        rows.append({_HEADINGS.get(name, name): value for name, value in row.items()})
    headings = [_HEADINGS.get(key, key) for key in keys if key not in MARKED]
    table = pd.DataFrame(rows, columns=[*headings, *(f"{shot}-shot" for shot in shots)])
    table.attrs["caption"] = f"{caption(latest)} {best.note}".rstrip()
    table.attrs["bold"] = bold
    table.attrs["footnotes"] = footnotes(latest)
    return table


def levels_table(evaluations: pd.DataFrame | Evaluated) -> pd.DataFrame:
    """Make a table of each level alone beside their fusion, in percent; empty where no record holds levels."""
    evaluated = Evaluated.of(evaluations)
    latest = evaluated.latest
    levels = [name for name in latest.columns if name.startswith("levels.")]
    with_levels = latest[latest[levels].notna().any(axis=1)] if levels else latest.iloc[:0]
    keys = [*(key for key in evaluated.keys if key not in MARKED), "shot"]
    table = with_levels[keys].rename(columns=_HEADINGS)
    table["method"] = [marked(record) for record in with_levels.to_dict("records")]
    for name in ("accuracy", *levels):
        heading = "fused" if name == "accuracy" else name.removeprefix("levels.")
        table[heading] = [cell_text(value) for value in with_levels[name]]
    table.attrs["caption"] = "Accuracy in percent of each level alone and of their fusion."
    return table.sort_values([_HEADINGS.get(key, key) for key in keys]).reset_index(drop=True)


def trials_table(trials: pd.DataFrame, n: int = 10) -> pd.DataFrame:
    """Return the best `n` trials of each study, best first, with varying parameters; trials without a value last."""
    several = trials["sweep"].nunique() > 1
    varying = varying_parameters(trials)
    rows: list[dict[str, Any]] = []
    for name, group in trials.groupby("sweep", sort=False):
        ascending = bool((group["mode"] == "min").all())
        for _, trial in (
            group.sort_values("value", ascending=ascending, na_position="last", kind="stable").head(n).iterrows()
        ):
            row = {"sweep": name} if several else {}
            row |= {"trial": trial["trial"], str(trial["objective"]): number(trial["value"])}
            row |= {"state": trial["state"], "epochs": number(trial["epochs"])}
            rows.append(row | {column.removeprefix("params."): number(trial[column]) for column in varying})
    table = pd.DataFrame(rows).fillna(MISSING) if rows else pd.DataFrame(columns=["trial", "state"])
    table.attrs["caption"] = f"The best {n} trials of each study, best first, with the parameters that vary."
    return table


def varying_parameters(trials: pd.DataFrame) -> list[str]:
    return [
        name
        for name in trials.columns
        if name.startswith("params.") and trials[name].dropna().astype(str).nunique() > 1
    ]


def caption(evaluations: pd.DataFrame, *, has_intervals: bool = True) -> str:
    """Return a description of the numbers, as far as all of them have it in common."""
    if evaluations.empty:
        return "No evaluation."
    statements = ["Accuracy in percent"]
    for name, form in (("way", "{}-way"), ("partition", "{} classes"), ("queries", "{} queries per class")):
        if evaluations[name].nunique() == 1:
            statements.append(form.format(evaluations[name].iloc[0]))
    low, high = evaluations["episodes"].min(), evaluations["episodes"].max()
    statements.append(f"{low:,} episodes per cell" if low == high else f"{low:,} to {high:,} episodes per cell")
    if has_intervals:
        statements += ["± half width of the 95% interval over episodes", *wider_intervals(evaluations)]
    return ", ".join(statements) + "."


def number(value: Any) -> str:
    """Return a value as text for a table: four significant digits, integers without a point, a dash if missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


_HEADINGS = {"train_dataset": "trained on", "dataset": "data set", "experiment_digest": "experiment"}

__all__ = [
    "CELL",
    "MISSING",
    "accuracy_table",
    "caption",
    "latest_cells",
    "levels_table",
    "number",
    "row_keys",
    "trials_table",
    "varying_parameters",
]
