"""Show published figures beside ours, with a row of published.csv for each method, data set, way, shot and source.

The figures on test classes are copied from the sources below. They were not measured here, and are not tested against
ours, because the episodes, the frames and, where a mark says so, the protocol differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from results.tables.accuracy import accuracy_table
from results.tables.cells import DAGGER, DOUBLE_DAGGER, MARKED, MISSING
from results.tables.evaluated import Evaluated

FILE = Path(__file__).with_name("published.csv")
SOURCES = {
    "hcl": "README of github.com/zhengsipeng/HCL-FSAR (Zheng, Chen, Jin, ECCV 2022)",
    "strm": "README of github.com/Anirudh257/strm (Thatipelli et al., CVPR 2022), which also lists OTAM and TRX",
    "trokens": "comparison table of Trokens (Kumar et al., ICCV 2025); second-hand for every other method",
}
"""Sources by the values of the column `source`."""
SURVEYS = frozenset(("trokens",))
"""Sources that mostly print figures of other papers: in full they stand in tables, and charts show HCL's only."""
PILCROW = "¶"
UNKNOWN = f"{PILCROW} its source does not state the classes of training and selection, nor the evaluation protocol."
HERE = "here"
_PROTOCOLS = {"training": "protocol", "episodes": "evaluation_protocol"}


def read_published() -> pd.DataFrame:
    """Return accuracies in percent; `training` and `episodes` are `published` or `unknown`, like `marks`."""
    return pd.read_csv(FILE, keep_default_na=False)


def published_figures() -> pd.DataFrame:
    """Return the published figures as shares from 0 to 1, with their sources in words.

    They have the columns of `results.tables.cells.MARKED`, so that `marked` and `footnotes` accept them like records.
    """
    printed = read_published()
    named = {"accuracy": printed["accuracy"] / 100, "source": printed["source"].map(SOURCES)}
    protocols = {name: printed[column].where(printed[column] == "published") for column, name in _PROTOCOLS.items()}
    return printed.assign(**(named | dict.fromkeys(MARKED) | protocols))


def charted_figures() -> pd.DataFrame:
    """Return the published figures that a chart has room for: HCL's from all sources, others' without the surveys."""
    printed, figures = read_published(), published_figures()
    return figures[~printed["source"].isin(SURVEYS) | (printed["method"] == "HCL")]


def disagreements(printed: pd.DataFrame, numbers: dict[str, int]) -> str | None:
    """Return a note on the figures that sources print differently; None if there are none.

    Args:
        numbers: the number of each source in the table's footnotes.
    """
    cells = []
    for (method, dataset, shot), group in printed.groupby(["method", "dataset", "shot"], sort=False):
        if group["accuracy"].nunique() > 1:
            values = zip(group["accuracy"], group["source"], strict=True)
            given = " or ".join(f"{accuracy:.1f} [{numbers[source]}]" for accuracy, source in values)
            cells.append(f"{method} on {dataset}, {shot}-shot: {given}")
    return f"Sources disagree: {'; '.join(cells)}." if cells else None


def published_table(evaluations: pd.DataFrame | Evaluated) -> pd.DataFrame:
    """Make a table of our rows of the test classes with printed ones of the same data sets and way; or empty.

    A published row names its source by a number, ours say "here". Bold, as in `accuracy_table`, applies only to ours.
    """
    evaluated, printed = Evaluated.of(evaluations), read_published()
    records = evaluated.records
    in_print = set(zip(printed["dataset"], printed["way"], strict=True))
    cells = zip(records["dataset"], records["way"], records["partition"], strict=True)
    ours = records[[(dataset, way) in in_print and partition == "test" for dataset, way, partition in cells]]
    if ours.empty:
        return pd.DataFrame()
    table = accuracy_table(evaluated.among(ours))
    shown = set(zip(ours["dataset"], ours["way"], strict=True))
    printed = printed[[pair in shown for pair in zip(printed["dataset"], printed["way"], strict=True)]]
    numbers = {source: number for number, source in enumerate(dict.fromkeys(printed["source"]), 1)}
    shots = sorted({*ours["shot"], *printed["shot"]})
    rows: list[tuple[str, bool, int | None, dict[Any, Any]]] = []  # ours come first: False before True
    for index, mine in enumerate(table.to_dict("records")):
        rows.append((str(mine["data set"]), False, index, {**mine, "source": HERE}))
    for (method, dataset, way, source), cell in printed.groupby(["method", "dataset", "way", "source"], sort=False):
        first = cell.iloc[0]
        backbone = f", {first['backbone']}" if first["backbone"] not in ("", "ResNet-50") else ""
        row: dict[Any, Any] = {
            "data set": dataset,
            "method": f"{method}{backbone} {_signs(first)}",
            "source": f"[{numbers[source]}]",
        }
        row |= {"way": way, "partition": "test"}
        row |= {
            f"{shot}-shot": f"{accuracy:.1f}" for shot, accuracy in zip(cell["shot"], cell["accuracy"], strict=True)
        }
        rows.append((str(dataset), True, None, row))
    rows.sort(key=lambda row: row[:2])
    names = [name for name in table.columns if not name.endswith("-shot")]
    names = [*names[: names.index("method") + 1], "source", *names[names.index("method") + 1 :]]
    columns = [*names, *(f"{shot}-shot" for shot in shots)]
    result = pd.DataFrame([row[3] for row in rows], columns=columns).fillna(MISSING)
    places = {old: new for new, (_, _, old, _) in enumerate(rows) if old is not None}
    result.attrs["bold"] = [[places[row], column] for row, column in table.attrs["bold"]]
    result.attrs["caption"] = (
        f"{table.attrs['caption']} Published figures were not measured here: other episodes, no test."
    )
    result.attrs["footnotes"] = _footnotes(table.attrs["footnotes"], printed, numbers)
    return result


def _signs(row: pd.Series) -> str:
    """Return the marks of a published figure, as for our own records."""
    signs = DAGGER if row["training"] == "published" else ""
    signs += DOUBLE_DAGGER if row["episodes"] == "published" else ""
    return signs + (PILCROW if "unknown" in (row["training"], row["episodes"]) else "")


def _footnotes(ours: list[str], printed: pd.DataFrame, numbers: dict[str, int]) -> list[str]:
    notes = list(ours)
    for column, name in _PROTOCOLS.items():
        if (printed[column] == "published").any() and MARKED[name].note not in notes:
            notes.append(MARKED[name].note)
    if (printed[["training", "episodes"]] == "unknown").any(axis=None):
        notes.append(UNKNOWN)
    if differing := disagreements(printed, numbers):
        notes.append(differing)
    return [*notes, *(f"[{number}] {SOURCES[source]}." for source, number in numbers.items())]
