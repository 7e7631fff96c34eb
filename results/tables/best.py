"""Find the method of a cell that is significantly better than all others, which a table prints in bold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from results.records.outcomes import Outcomes
from results.statistics.episodes import holm
from results.statistics.resampling import Floats, Ints
from results.tables.cells import CELL, MARKED
from results.tables.comparison import Comparison
from results.tables.evaluated import Answers

LEVEL = 0.05


class Best(NamedTuple):
    """Hold the records that are better than every other in their cell.

    Attributes:
        paths: paths of these records.
        note: description of the test; empty if there was none.
    """

    paths: frozenset[str]
    note: str


def told_apart(records: pd.DataFrame, answers: Answers | None = None) -> Best:
    """Return the best record of each cell, where it differs from each other one on the very same episodes.

    Only records of one cell with the same marks are compared, without stale ones. The test is paired: over classes, so
    that it applies to other actions, or over episodes if there are too few classes. The p-values of a cell are
    corrected by Holm's method. A cell with one method, different episodes or missing answers has no best record.

    Args:
        records: one for each method and cell, with their `path`.
    """
    answers = answers or Answers()
    paths: set[str] = set()
    over: list[str] = []
    present = records[~records["stale"].astype(bool)]  # without results of weights that a run no longer has
    for _, cell in present.groupby(list(dict.fromkeys([*CELL, *MARKED])), dropna=False):
        rows = {record["path"]: record for record in cell.to_dict("records")} if len(cell) > 1 else {}
        answered = _answered(rows, answers)
        if answered is None:
            continue
        accuracies = {path: outcomes.accuracies for path, outcomes in answered.items()}
        best, kinds = _best_of(accuracies, partial(_compared, rows, answers))
        over += kinds
        paths |= {best} if best else set()
    return Best(frozenset(paths), _note(over, bool(paths)))


def best_of(accuracies: Mapping[str, Floats], classes: Ints) -> tuple[str | None, set[str]]:
    """Return the name with significantly better accuracies than every other, or None, and the kinds of the tests.

    Args:
        accuracies: (episode,) by name, for two or more names on the same episodes.
        classes: (episode, way), classes of the episodes.
    """
    return _best_of(accuracies, lambda one, other: Comparison(accuracies[one], accuracies[other], classes))


def _best_of(
    accuracies: Mapping[str, Floats], compare: Callable[[str, str], Comparison]
) -> tuple[str | None, set[str]]:
    """As `best_of`, with what compares two names."""
    best = max(accuracies, key=lambda name: accuracies[name].mean())
    tests = [compare(best, name).test for name in accuracies if name != best]
    is_significant = max(holm([p for p, _ in tests])) < LEVEL
    return best if is_significant else None, {kind for _, kind in tests}


def _compared(rows: Mapping[str, Mapping[Any, Any]], answers: Answers, one: str, other: str) -> Comparison:
    found = answers.compare(rows[one], rows[other])
    assert found is not None  # all of `rows` have answered the same episodes
    return found


def _answered(rows: Mapping[str, Mapping[Any, Any]], answers: Answers) -> dict[str, Outcomes] | None:
    """Return the answers of some records by path; None where some are missing or answer other episodes."""
    digests = {record["episodes_digest"] for record in rows.values()}
    if len(digests) != 1 or digests == {""}:
        return None
    by_path = {}
    for path, record in rows.items():
        outcomes = answers.of(record)
        if outcomes is None:
            return None
        by_path[path] = outcomes
    return by_path


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
