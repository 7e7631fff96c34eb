"""Find the method of a cell that is significantly better than all others, which a table prints in bold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import pandas as pd

from results.statistics.significance import RULE, Difference, Verdict, judged
from results.tables.cells import CELL, MARKED
from results.tables.evaluated import Answers


class HasDifference(Protocol):
    """Describe a comparison of two records."""

    @property
    def difference(self) -> Difference:
        """The difference of the first and the second."""


class Comparer(Protocol):
    """Describe what compares two records, such as `results.tables.evaluated.Answers`."""

    def compare(self, a: Mapping[Any, Any], b: Mapping[Any, Any]) -> HasDifference | None:
        """Return the comparison; None if there is none, as the two answered different episodes."""


class Best(NamedTuple):
    """Hold the records that are better than every other in their cell.

    Attributes:
        paths: paths of these records.
        note: description of the test; empty if there was none.
    """

    paths: frozenset[str]
    note: str


def best_records(records: pd.DataFrame, answers: Comparer | None = None) -> Best:
    """Return the best record of each cell where it is significantly better than each other one.

    Only records of one cell with the same marks are compared, without stale ones.

    Args:
        records: one for each method and cell, with their `path`.
    """
    answers = answers or Answers()
    paths: set[str] = set()
    over: list[Counter[str | None]] = []
    for _, cell in records.groupby(list(dict.fromkeys([*CELL, *MARKED])), dropna=False):
        best, verdicts = judged_cell(cell.to_dict("records"), answers)
        if any(verdict.p_value is not None for verdict in verdicts.values()):
            over.append(Counter(verdict.difference.over for verdict in verdicts.values()))
        if verdicts and all(verdict.is_significant for verdict in verdicts.values()):
            paths.add(best["path"])
    return Best(frozenset(paths), best_note(over, bool(paths)))


def judged_cell(
    records: Sequence[Mapping[Any, Any]], answers: Comparer
) -> tuple[Mapping[Any, Any], dict[str, Verdict]]:
    """Return the most accurate record of a cell, and by path the verdict on its lead over each other one.

    Stale records, and answers to other episodes than those of the best, have no test.

    Args:
        records: one or more of the same cell, with the same marks.
    """
    best = max(records, key=lambda record: record["accuracy"])
    others = [record for record in records if record["path"] != best["path"]]
    differences = []
    for other in others:
        is_stale = bool(best["stale"]) or bool(other["stale"])
        compared = None if is_stale else answers.compare(best, other)
        differences.append(
            Difference(best["accuracy"] - other["accuracy"]) if compared is None else compared.difference
        )
    paths = [other["path"] for other in others]
    return best, dict(zip(paths, judged(differences), strict=True))


def best_note(over: Sequence[Counter[str | None]], any_best: bool) -> str:
    """Return the sentences of a caption that say what bold means, or why nothing is bold; empty without any test.

    Args:
        over: for each cell with tests, the numbers of tests by what they are over; None counts comparisons without one.
    """
    if not over:
        return ""
    n_videos, n_untested = (sum(bool(cell[kind]) for cell in over) for kind in ("videos", None))
    test = "paired t-test over classes"
    if n_videos:
        test = f"{test}, in {_cells(n_videos)} over videos, where none over classes exists"
        test = "paired t-test over videos, as none over classes exists" if n_videos == len(over) else test
    means = "significantly better than every other method with the same marks on the same episodes"
    note = f"Bold: {means} ({test}; {RULE})."
    if not any_best:
        note = f"No bold: no method is {means} ({test}; {RULE})."
    if n_untested:
        note += (
            f" In {_cells(n_untested)} a method could not be tested, because it answered other episodes or kept none."
        )
    return note


def _cells(n: int) -> str:
    return "1 cell" if n == 1 else f"{n} cells"
