"""Accuracies that others printed, to stand beside ours: `published.csv`.

A line holds method, dataset (the name of our split), way, shot, accuracy in percent, source, and the signs of
`results.marks` that are known to apply to it. No sign means that none is known, not that the protocol was ours.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd

from results.errors import RecordError
from results.files import read_bytes
from results.marks import MARKED

SHIPPED = Path(__file__).with_name("published.csv")
COLUMNS = ("method", "dataset", "way", "shot", "accuracy", "source", "marks")


def published_figures(path: Path | str = SHIPPED) -> pd.DataFrame:
    """One row a printed accuracy: `method`, `dataset`, `way`, `shot`, `accuracy` (a share), `source`, and the columns
    of `MARKED`, so that `marked` and `footnotes` read these rows as they read evaluation records.

    Raises:
        RecordError: no such file, other columns, or a line that cannot be understood, named by its number.
    """
    try:
        lines = list(csv.reader(io.StringIO(read_bytes(Path(path)).decode("utf-8-sig")), strict=True))
    except (UnicodeError, csv.Error) as error:
        raise RecordError(f"is not CSV: {error}", where=str(path), remedy=_REMEDY) from error
    if not lines or tuple(lines[0]) != COLUMNS:
        raise RecordError("holds other columns", where=str(path), remedy=_REMEDY)
    rows = [_row(line, f"{path}, line {number}") for number, line in enumerate(lines[1:], start=2) if line]
    return pd.DataFrame(rows, columns=[*COLUMNS[:-1], *MARKED])


def _row(line: list[str], where: str) -> dict[str, object]:
    if len(line) != len(COLUMNS):
        raise RecordError(f"expected {len(COLUMNS)} values, got {len(line)}", where=where, remedy=_REMEDY)
    row: dict[str, object] = dict(zip(COLUMNS[:-1], line[:-1], strict=True))
    signs = {mark.sign for mark in MARKED.values()}
    try:
        row |= {"way": int(line[2]), "shot": int(line[3]), "accuracy": float(line[4]) / 100}
    except ValueError as error:
        raise RecordError(f"holds no number: {error}", where=where, remedy=_REMEDY) from error
    if not 0 <= float(line[4]) <= 100:
        raise RecordError(f"expected an accuracy in percent, got {line[4]}", where=where, remedy=_REMEDY)
    if unknown := set(line[-1]) - signs:
        raise RecordError(
            f"no such sign: {', '.join(sorted(unknown))}", where=where, remedy=f"known are {' '.join(sorted(signs))}"
        )
    return row | {name: mark.value if mark.sign in line[-1] else None for name, mark in MARKED.items()}


_REMEDY = f"its first line is {','.join(COLUMNS)}; accuracies are percents"
