"""Which method of a cell is the best beyond chance: what a table may print in bold."""

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
    """Records that are better than every other of their cell.

    Attributes:
        paths: of the records.
        note: what was tested, and how; empty where nothing could be.
    """

    paths: frozenset[str]
    note: str


def told_apart(records: pd.DataFrame, answers: Answers | None = None) -> Best:
    """Return the best record of each cell, where it differs from each other one on the very same episodes.

    Compared are records of one cell with the same marks, stale ones left out. The test is paired: over classes, so
    that it speaks of other actions, or over episodes where the classes are too few; p-values of a cell are corrected by
    Holm's method. A cell of one method, of other episodes or without answers has no best.

    Args:
        records: one a method and cell, with their `path`.
        answers: of the report; default: they are read.
    """
    answers = answers or Answers()
    paths: set[str] = set()
    over: list[str] = []
    present = records[~records["stale"].astype(bool)]  # weights that a run no longer has are not what is compared
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
    """Return the name of what is better than every other beyond chance, or None, and what the tests were taken over.

    Args:
        accuracies: (episode,) by name, of two names or more on the same episodes.
        classes: (episode, way), of the episodes.
    """
    return _best_of(accuracies, lambda one, other: Comparison(accuracies[one], accuracies[other], classes))


def _best_of(
    accuracies: Mapping[str, Floats], compare: Callable[[str, str], Comparison]
) -> tuple[str | None, set[str]]:
    """As `best_of`, with what compares two names."""
    best = max(accuracies, key=lambda name: accuracies[name].mean())
    tests = [compare(best, name).test for name in accuracies if name != best]
    is_apart = max(holm([p for p, _ in tests])) < LEVEL
    return best if is_apart else None, {kind for _, kind in tests}


def _compared(rows: Mapping[str, Mapping[Any, Any]], answers: Answers, one: str, other: str) -> Comparison:
    found = answers.compare(rows[one], rows[other])
    assert found is not None  # all of `rows` have answered the same episodes
    return found


def _answered(rows: Mapping[str, Mapping[Any, Any]], answers: Answers) -> dict[str, Outcomes] | None:
    """Return the answers of some records by path; None where some are missing or answer other episodes."""
    digests = {record["episodes_digest"] for record in rows.values()}
    if len(digests) != 1 or digests == {""}:
        return None
    found = {}
    for path, record in rows.items():
        outcomes = answers.of(record)
        if outcomes is None:
            return None
        found[path] = outcomes
    return found


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
