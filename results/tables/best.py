"""Find the method of a cell that is significantly better than all others, which a table prints in bold."""

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
    """Hold the records that are better than every other in their cell.

    Attributes:
        paths: paths of these records.
        note: description of the test; empty if there was none.
    """

    paths: frozenset[str]
    note: str


def told_apart(records: pd.DataFrame) -> Best:
    """Return the best record of each cell, if it differs significantly from each other one on the same episodes.

    Only records of one cell with the same marks are compared, without stale ones. The test is paired: over classes, so
    that it applies to other actions, or over episodes if there are too few classes. The p-values of a cell are
    corrected by Holm's method. A cell with one method, different episodes or missing answers has no best record.

    Args:
        records: one for each method and cell, with their `path`.
    """
    paths: set[str] = set()
    over: list[str] = []
    present = records[~records["stale"].astype(bool)]  # without results of weights that a run no longer has
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
    """Return the name with significantly better accuracies than every other, or None, and the kinds of the tests.

    Args:
        accuracies: (episode,) by name, for two or more names on the same episodes.
        classes: (episode, way), classes of the episodes.
    """
    best = max(accuracies, key=lambda name: accuracies[name].mean())
    tests = [_p_value(accuracies[best] - other, classes) for name, other in accuracies.items() if name != best]
    is_significant = max(holm([p for p, _ in tests])) < LEVEL
    return best if is_significant else None, {kind for _, kind in tests}


def compare_records(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> tuple[float, float, str] | None:
    """Return the difference a - b of two records' accuracies, its p-value, and the kind of test.

    The test is over classes or, if there are too few, over episodes. The result is None if they have no answers, or
    answered other episodes.
    """
    if a["episodes_digest"] != b["episodes_digest"]:
        return None
    first, second = _outcomes(a), _outcomes(b)
    if first is None or second is None:
        return None
    difference = first.accuracies - second.accuracies
    return (float(difference.mean()), *_p_value(difference, first.questions.classes))


def _answers(cell: pd.DataFrame) -> dict[str, Outcomes] | None:
    """Return answers by path; None if some are missing or answer other episodes."""
    digests = set(cell["episodes_digest"])
    if len(digests) > 1 or digests == {""}:
        return None
    by_path = {}
    for record in cell.to_dict("records"):
        outcomes = _outcomes(record)
        if outcomes is None:
            return None
        by_path[record["path"]] = outcomes
    return by_path


def _outcomes(record: Mapping[Any, Any]) -> Outcomes | None:
    try:
        return read_outcomes(Path(record["path"]), record["episodes_digest"], record["accuracy"])
    except RecordError:  # accuracies do not need the answers
        return None


def _p_value(difference: Floats, classes: Ints) -> tuple[float, str]:
    """Return the two-sided p-value of a difference by episode, and the kind of test: over classes or episodes."""
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
        return f"Bold: significantly better than every other method with the same marks on the same episodes ({test})."
    return (
        f"No bold: no method is significantly better than every other with the same marks on the same episodes "
        f"({test})."
    )
