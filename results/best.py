"""Which method of a cell is the best beyond chance: what a table may print in bold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from results.cells import CELL
from results.errors import RecordError
from results.marks import MARKED
from results.outcomes import Outcomes, read_outcomes
from results.resampling import class_values
from results.statistics import holm, paired_difference

LEVEL = 0.05


class Best(NamedTuple):
    """Records that are better than every other of their cell.

    Attributes:
        paths: of the records.
        note: what was tested, and how; empty where nothing could be.
    """

    paths: frozenset[str]
    note: str


def told_apart(records: pd.DataFrame) -> Best:
    """The best record of each cell, where it differs from each other one on the very same episodes.

    Compared are records of one cell with the same marks. The test is paired: over classes, so that it speaks of other
    actions, or over episodes where the classes are too few; p-values of a cell are corrected by Holm's method. A cell
    of one method, of other episodes or without answers has no best.

    Args:
        records: one a method and cell, with their `path`.
    """
    paths: set[str] = set()
    over: list[str] = []
    for _, cell in records.groupby(list(dict.fromkeys([*CELL, *MARKED])), dropna=False):
        answered = _answers(cell) if len(cell) > 1 else None
        if answered is None:
            continue
        means = {path: outcomes.accuracies.mean() for path, outcomes in answered.items()}
        best = max(means, key=lambda path: means[path])
        tests = [_p_value(answered[best], other) for path, other in answered.items() if path != best]
        over += {kind for _, kind in tests}
        if max(holm([p for p, _ in tests])) < LEVEL:
            paths.add(best)
    return Best(frozenset(paths), _note(over, bool(paths)))


def compare_records(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> tuple[float, float, str] | None:
    """The difference a - b of two records' accuracies, its p-value, and what that was taken over: classes or episodes.

    None where they have no answers, or answered other episodes.
    """
    if a["episodes_digest"] != b["episodes_digest"]:
        return None
    first, second = _outcomes(a), _outcomes(b)
    if first is None or second is None:
        return None
    return (float(first.accuracies.mean() - second.accuracies.mean()), *_p_value(first, second))


def _answers(cell: pd.DataFrame) -> dict[str, Outcomes] | None:
    """By path; None where some are missing or answer other episodes."""
    digests = set(cell["episodes_digest"])
    if len(digests) > 1 or digests == {""}:
        return None
    found = {}
    for record in cell.to_dict("records"):
        outcomes = _outcomes(record)
        if outcomes is None:
            return None
        found[record["path"]] = outcomes
    return found


def _outcomes(record: Mapping[Any, Any]) -> Outcomes | None:
    try:
        return read_outcomes(Path(record["path"]), record["episodes_digest"], record["accuracy"])
    except RecordError:  # the accuracies stand without them
        return None


def _p_value(a: Outcomes, b: Outcomes) -> tuple[float, str]:
    """Two-sided, and what it was taken over."""
    values: Any = class_values(a.accuracies - b.accuracies, a.questions.classes)
    if values is None:
        return paired_difference(a.accuracies, b.accuracies).p_value, "episodes"
    return paired_difference(values, np.zeros(len(values))).p_value, "classes"


def _note(over: list[str], any_best: bool) -> str:
    if not over:
        return ""
    kinds = "over classes" if set(over) == {"classes"} else "over episodes"
    if len(set(over)) == 2:
        kinds = f"over classes, in {over.count('episodes')} cells with too few of them over episodes"
    test = f"paired test {kinds}, p < {LEVEL:g} after Holm's correction"
    if any_best:
        return f"Bold: better than every other method with the same marks on the same episodes ({test})."
    return (
        f"Nothing is in bold: no method is better than every other with the same marks on the same episodes ({test})."
    )
