"""Which method of a cell is the best beyond chance: what a table may print in bold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from results.errors import RecordError
from results.records.outcomes import Outcomes, read_outcomes
from results.statistics.episodes import holm, paired_difference
from results.statistics.resampling import Floats, Ints, class_values
from results.tables.cells import CELL, MARKED

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

    Compared are records of one cell with the same marks, stale ones left out. The test is paired: over classes, so
    that it speaks of other actions, or over episodes where the classes are too few; p-values of a cell are corrected by
    Holm's method. A cell of one method, of other episodes or without answers has no best.

    Args:
        records: one a method and cell, with their `path`.
    """
    paths: set[str] = set()
    over: list[str] = []
    present = records[~records["stale"].astype(bool)]  # weights that a run no longer has are not what is compared
    for _, cell in present.groupby(list(dict.fromkeys([*CELL, *MARKED])), dropna=False):
        answered = _answers(cell) if len(cell) > 1 else None
        if answered is None:
            continue
        classes = next(iter(answered.values())).questions.classes
        best, kinds = best_of({path: outcomes.accuracies for path, outcomes in answered.items()}, classes)
        over += kinds
        paths |= {best} if best else set()
    return Best(frozenset(paths), _note(over, bool(paths)))


def best_of(accuracies: Mapping[str, Floats], classes: Ints) -> tuple[str | None, set[str]]:
    """Return the name of what is better than every other beyond chance, or None, and what the tests were taken over.

    Args:
        accuracies: (episode,) by name, of two names or more on the same episodes.
        classes: (episode, way), of the episodes.
    """
    best = max(accuracies, key=lambda name: accuracies[name].mean())
    tests = [_p_value(accuracies[best] - other, classes) for name, other in accuracies.items() if name != best]
    is_apart = max(holm([p for p, _ in tests])) < LEVEL
    return best if is_apart else None, {kind for _, kind in tests}


def compare_records(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> tuple[float, float, str] | None:
    """The difference a - b of two records' accuracies, its p-value, and what that was taken over: classes or episodes.

    None where they have no answers, or answered other episodes.
    """
    if a["episodes_digest"] != b["episodes_digest"]:
        return None
    first, second = _outcomes(a), _outcomes(b)
    if first is None or second is None:
        return None
    difference = first.accuracies - second.accuracies
    return (float(difference.mean()), *_p_value(difference, first.questions.classes))


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


def _p_value(difference: Floats, classes: Ints) -> tuple[float, str]:
    """Return the two-sided p-value of a difference by episode, and what it was taken over."""
    values = class_values(difference, classes)
    kind = "episodes" if values is None else "classes"
    tested = difference if values is None else values
    return paired_difference(tested, np.zeros(len(tested))).p_value, kind


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
