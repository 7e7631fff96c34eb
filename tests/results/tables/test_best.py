"""Test which cells are bold, against what chance alone would make bold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import results
from results.page.report import write_report
from results.statistics.episodes import holm
from results.tables.accuracy import accuracy_table
from results.tables.best import told_apart
from results.tables.markup import to_csv, to_latex, to_markdown
from tests.results.conftest import made


def test_holm_against_its_definition():
    rng = np.random.default_rng(3)
    for n in (1, 2, 7):
        p_values = rng.random(n) ** 4
        order = np.argsort(p_values)
        expected = np.empty(n)
        for rank, index in enumerate(order):
            steps = [(n - step) * p_values[order[step]] for step in range(rank + 1)]
            expected[index] = min(1, max(steps))
        assert holm(list(p_values)) == pytest.approx(expected.tolist())
    assert holm([]) == []


def test_the_best_is_bold_where_it_is_better_than_every_other(kept):
    for method, p_right in (("hcl", 0.9), ("otam", 0.6), ("prototype", 0.5)):
        evaluations = kept("one", made(p_right, seed=len(method)), method=method)
    table = accuracy_table(evaluations)
    [[row, column]] = table.attrs["bold"]
    assert (table["method"][row], column) == ("hcl", "1-shot")
    assert "over classes, p < 0.05 after Holm's correction" in table.attrs["caption"]
    value = table["1-shot"][row]
    assert f"**{value}**" in to_markdown(table) and to_markdown(table).count("**") == 2
    assert r"\textbf{" + value.replace("±", r"$\pm$") + "}" in to_latex(table)
    assert "*" not in to_csv(table)


def test_the_best_by_chance_is_not_bold(kept):
    for seed, method in enumerate(("hcl", "otam", "prototype")):
        evaluations = kept("one", made(0.7, seed=seed), method=method)
    table = accuracy_table(evaluations)
    assert table.attrs["bold"] == [] and "**" not in to_markdown(table)
    assert "No bold" in table.attrs["caption"]


@pytest.mark.parametrize(("p_right", "n_bold"), [((0.9, 0.5), 1), ((0.7, 0.7), 0)])
def test_the_page_prints_in_bold_what_the_table_does(kept, tmp_path, p_right, n_bold):
    for seed, (method, p) in enumerate(zip(("hcl", "prototype"), p_right, strict=True)):
        evaluations = kept("one", made(p, seed=seed), method=method)
    folder = Path(evaluations["path"].iloc[0]).parent.parent
    html = write_report(results.load(folder), tmp_path / "page").read_text()
    assert html.count('<td class="number best">') == len(accuracy_table(evaluations).attrs["bold"]) == n_bold


def test_one_equal_rival_is_enough(kept):
    """The best is significantly better than one rival but not than the other, so the cell has no bold."""
    kept("one", made(0.8, seed=1), method="hcl")
    kept("one", made(0.8, seed=2), method="otam")
    evaluations = kept("one", made(0.3), method="prototype")
    assert told_apart(evaluations).paths == frozenset()


def test_other_episodes_or_missing_answers_are_not_tested(kept, evaluation, tmp_path):
    kept("one", made(0.9), method="hcl")
    kept("one", made(0.4, digest="e2"), method="otam", shot=1)
    assert told_apart(results.load(tmp_path).evaluations) == (frozenset(), "")
    evaluations = kept("one", made(0.4), method="otam")
    assert len(told_apart(evaluations).paths) == 1
    results.write_evaluation(tmp_path / "old", evaluation(run="old", method="prototype"))
    assert told_apart(results.load(tmp_path).evaluations) == (frozenset(), "")


def test_what_peeked_at_test_is_not_compared_with_what_did_not(kept, tmp_path):
    kept("clean", made(0.5), method="hcl")
    kept("peeks", made(0.9, seed=1), method="hcl", protocol="published")
    assert told_apart(results.load(tmp_path).evaluations).paths == frozenset()
    kept("clean", made(0.2), method="prototype")
    [best] = told_apart(results.load(tmp_path).evaluations).paths
    assert "clean" in best and "hcl" in best


def test_too_few_classes_are_tested_over_episodes_and_said_so(kept, monkeypatch):
    monkeypatch.setattr("results.tables.comparison.class_values", lambda *_: None)
    kept("one", made(0.9), method="hcl")
    best = told_apart(kept("one", made(0.5), method="otam"))
    assert len(best.paths) == 1 and "over episodes" in best.note


def test_bold_cells_are_of_their_column_only():
    frame = pd.DataFrame({"a": ["1", "2"], "b": ["1", "2"]})
    frame.attrs["bold"] = [[1, "a"]]
    assert to_markdown(frame).splitlines()[-1].split() == ["|", "**2**", "|", "2", "|"]
