"""Evaluation records with what several tables and charts of a report need of them, each made once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from results.errors import RecordError
from results.records.outcomes import Outcomes, Questions, read_outcomes, read_questions
from results.tables.cells import MARKED, latest_cells, marked, row_keys
from results.tables.comparison import Comparison


class Answers:
    """The answers behind evaluation records: each file is read once, and each pair of records compared once."""

    def __init__(self) -> None:
        self._outcomes: dict[tuple[Any, ...], Outcomes | None] = {}
        self._questions: dict[tuple[Path, str], Questions] = {}
        self._comparisons: dict[tuple[Any, ...], Comparison] = {}

    def of(self, record: Mapping[Any, Any]) -> Outcomes | None:
        """Return the answers of a record; None where none are kept, or they cannot be read."""
        key = _key(record)
        if key not in self._outcomes:
            self._outcomes[key] = self._read(record)
        return self._outcomes[key]

    def compare(self, a: Mapping[Any, Any], b: Mapping[Any, Any]) -> Comparison | None:
        """Return the comparison of two records; None where one has no answers, or they answered other episodes."""
        ours, theirs = self.of(a), self.of(b)
        if ours is None or theirs is None or ours.questions.digest != theirs.questions.digest:
            return None
        key = (_key(a), _key(b))
        if key not in self._comparisons:
            self._comparisons[key] = Comparison(ours, theirs)
        return self._comparisons[key]

    def _read(self, record: Mapping[Any, Any]) -> Outcomes | None:
        path, digest = Path(record["path"]), record["episodes_digest"]
        try:
            asked = (path.parent, digest)
            if path.with_suffix(".npz").exists() and asked not in self._questions:
                self._questions[asked] = read_questions(*asked)
            return read_outcomes(path, digest, record["accuracy"], self._questions.get(asked))
        except RecordError:  # the accuracies stand without them
            return None


class Evaluated:
    """Evaluation records, as `results.load` gives them, with their latest cells, lines, answers and comparisons.

    Args:
        answers: those of other records of the same report.
    """

    def __init__(self, records: pd.DataFrame, answers: Answers | None = None):
        self.records, self.answers = records, answers or Answers()

    @classmethod
    def of(cls, records: pd.DataFrame | Evaluated) -> Evaluated:
        """Return records that may be evaluated already."""
        return records if isinstance(records, Evaluated) else cls(records)

    def among(self, records: pd.DataFrame) -> Evaluated:
        """Return some of the records, with the answers and comparisons of all."""
        return Evaluated(records, self.answers)

    @cached_property
    def keys(self) -> list[str]:
        """The columns that tell the rows of a table apart."""
        return row_keys(self.records)

    @cached_property
    def latest(self) -> pd.DataFrame:
        """One record a cell of the table."""
        return latest_cells(self.records, self.keys)

    @cached_property
    def series(self) -> pd.Series:
        """The name of the line that each of `latest` belongs to: the method with its signs, and what else differs."""
        own = [key for key in self.keys if key not in ("dataset", "partition", "method", *MARKED)]
        own = [key for key in own if self.latest[key].nunique(dropna=False) > 1]
        rows = self.latest.to_dict("records")
        names = [" · ".join([marked(row), *(str(row[key]) for key in own)]) for row in rows]
        return pd.Series(names, index=self.latest.index, dtype=object)


def _key(record: Mapping[Any, Any]) -> tuple[Any, ...]:
    return record["path"], record["episodes_digest"], record["accuracy"]
