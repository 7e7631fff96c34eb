"""A report reads each file of answers once and makes each paired test once, and shows what it would without that."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import results
from results.exports.exporting import all_tables, write_tables
from results.page.leads import leads
from results.page.report import write_report
from results.records.outcomes import read_outcomes
from results.statistics.significance import paired_t_test
from results.tables import comparison
from results.tables.accuracy import accuracy_table
from results.tables.best import best_records
from results.tables.evaluated import Answers, Evaluated
from tests.results.conftest import made

METHODS = {"hcl": 0.9, "otam": 0.7, "prototype": 0.6, "untrained": 0.4}
_opened: Counter[str] | None = None


def _count(event: str, arguments: tuple) -> None:
    if _opened is not None and event == "open" and str(arguments[0]).endswith(".npz"):
        _opened[str(arguments[0])] += 1


sys.addaudithook(_count)


@pytest.fixture
def opened() -> Iterator[Counter[str]]:
    """Counts the archives that are opened, by path."""
    global _opened
    _opened = Counter()
    yield _opened
    _opened = None


@pytest.fixture
def tested(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the differences that were tested."""
    shapes: list[tuple[int, ...]] = []

    def counted(differences, *questions):
        shapes.append(differences.shape)
        return paired_t_test(differences, *questions)

    monkeypatch.setattr(comparison, "paired_t_test", counted)
    return shapes


@pytest.fixture
def records(kept) -> pd.DataFrame:
    """Four methods on two data sets of seven classes, on the same episodes; one of them has printed figures."""
    for dataset in ("plain", "ucf101"):
        for seed, (method, p_right) in enumerate(METHODS.items()):
            found = kept("one", made(p_right, seed=seed), method=method, dataset=dataset)
    return found


def test_a_report_reads_answers_once_and_tests_each_pair_once(records, opened, tested, tmp_path):
    found = results.load(Path(records["path"].iloc[0]).parent.parent)
    evaluated = Evaluated(found.evaluations)
    write_report(found, tmp_path / "page", evaluated=evaluated)
    write_tables(found, tmp_path / "page", evaluated=evaluated)
    answers = {str(Path(path).with_suffix(".npz")) for path in records["path"]}
    assert len(answers) == 8 and opened == dict.fromkeys([*answers, *opened.keys() - answers], 1)
    assert len(opened.keys() - answers) == 1  # the questions, which all of them answered
    assert tested == [(300, 3, 4)] * 2 * (len(METHODS) - 1)  # the best of a data set with each other method


def test_what_is_shared_changes_no_figure(records, tmp_path):
    found = results.load(Path(records["path"].iloc[0]).parent.parent)
    evaluated = Evaluated(found.evaluations)
    assert repr(leads(evaluated)) == repr(
        leads(found.evaluations)
    )  # with NaN where nothing was recorded; asks of the episodes and classes first
    alone, shared = all_tables(found), all_tables(found, evaluated=evaluated)
    assert alone.keys() == shared.keys() >= {"accuracy", "published"}
    for name, table in alone.items():
        pd.testing.assert_frame_equal(table, shared[name])
        assert table.attrs == shared[name].attrs
    assert len(accuracy_table(evaluated).attrs["bold"]) == 2


def test_answers_are_those_beside_the_record(records):
    answers = Answers()
    rows = records[records["dataset"] == "plain"].to_dict("records")
    for row in rows:
        alone = read_outcomes(row["path"], row["episodes_digest"], row["accuracy"])
        assert (answers.of(row).answers == alone.answers).all() and answers.of(row) is answers.of(row)
    first = answers.compare(rows[0], rows[1])
    assert first is answers.compare(rows[0], rows[1]) is not answers.compare(rows[1], rows[0])
    assert first.difference.mean == pytest.approx(-answers.compare(rows[1], rows[0]).difference.mean) != 0
    Path(rows[1]["path"]).with_suffix(".npz").unlink()
    assert answers.of(rows[1]) is not None and Answers().of(rows[1]) is None
    assert Answers().compare(rows[0], rows[1]) is None


def test_the_latest_record_of_a_cell_is_chosen_once(records):
    evaluated = Evaluated(records)
    assert evaluated.latest is evaluated.latest and len(evaluated.series) == len(evaluated.latest) == 8
    some = evaluated.among(records[records["dataset"] == "plain"])
    assert len(some.latest) == 4 and some.answers is evaluated.answers and Evaluated.of(some) is some
    assert best_records(some.latest, some.answers).paths < best_records(evaluated.latest, evaluated.answers).paths
