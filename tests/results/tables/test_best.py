"""Test which cells are bold, against what chance alone would make bold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import results
from results.page.report import write_report
from results.records.outcomes import Outcomes, Questions
from results.tables.accuracy import accuracy_table
from results.tables.best import best_records, judged_cell
from results.tables.evaluated import Answers
from results.tables.markup import to_csv, to_latex, to_markdown
from tests.results.conftest import made


def test_the_best_is_bold_where_it_is_better_than_every_other(kept):
    for method, p_right in (("hcl", 0.9), ("otam", 0.6), ("prototype", 0.5)):
        evaluations = kept("one", made(p_right, seed=len(method)), method=method)
    table = accuracy_table(evaluations)
    [[row, column]] = table.attrs["bold"]
    assert (table["method"][row], column) == ("hcl", "1-shot")
    assert "(paired t-test over classes; p < 0.05 after Holm's correction)" in table.attrs["caption"]
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
    assert best_records(evaluations).paths == frozenset()


def test_other_episodes_or_missing_answers_are_not_tested(kept, evaluation, tmp_path):
    kept("one", made(0.9), method="hcl")
    kept("one", made(0.4, digest="e2"), method="otam", shot=1)
    assert best_records(results.load(tmp_path).evaluations) == (frozenset(), "")
    evaluations = kept("one", made(0.4), method="otam")
    assert len(best_records(evaluations).paths) == 1
    results.write_evaluation(tmp_path / "old", evaluation(run="old", method="prototype"))
    best = best_records(results.load(tmp_path).evaluations)
    assert best.paths == frozenset() and "In 1 cell a method could not be tested" in best.note
    _, verdicts = judged_cell(results.load(tmp_path).evaluations.to_dict("records"), Answers())
    assert [verdict.is_significant for verdict in verdicts.values()].count(None) == 1


def test_what_peeked_at_test_is_not_compared_with_what_did_not(kept, tmp_path):
    kept("clean", made(0.5), method="hcl")
    kept("peeks", made(0.9, seed=1), method="hcl", protocol="published")
    assert best_records(results.load(tmp_path).evaluations).paths == frozenset()
    kept("clean", made(0.2), method="prototype")
    [best] = best_records(results.load(tmp_path).evaluations).paths
    assert "clean" in best and "hcl" in best


def of_all_classes(p_right: float, seed: int, *, n_videos: int = 9) -> Outcomes:
    """Return answers to 3-way episodes of three classes, right with a probability that differs by query video."""
    rng = np.random.default_rng(8)
    classes = np.argsort(rng.random((300, 3)), axis=1)
    clips = classes[..., None] * n_videos + np.argsort(rng.random((300, 3, n_videos)), axis=2)
    drawn = np.random.default_rng(seed)
    by_video = p_right + drawn.uniform(-0.2, 0.2, 3 * n_videos)
    is_right = drawn.random((300, 3, 4)) < by_video[clips[..., 2:6]]
    way = np.arange(3)[None, :, None]
    answers = np.where(is_right, way, (way + 1) % 3).astype(np.uint8)
    return Outcomes(Questions("all", ("a", "b", "c"), classes, clips[..., :2], clips[..., 2:6]), answers)


@pytest.mark.parametrize(("p_right", "n_bold"), [(0.3, 1), (0.65, 0)])
def test_episodes_of_all_classes_are_tested_over_videos_and_said_so(kept, p_right, n_bold):
    kept("one", of_all_classes(0.7, 1), method="hcl", way=3, ci95_videos=0.1)
    evaluations = kept("one", of_all_classes(p_right, 2), method="otam", way=3, ci95_videos=0.1)
    table = accuracy_table(evaluations)
    assert len(table.attrs["bold"]) == n_bold
    assert "paired t-test over videos, as none over classes exists" in table.attrs["caption"]
    assert "in brackets, with a v, the one over the videos of these classes" in table.attrs["caption"]
    assert all(value.endswith("± 0.9 (± 10.0 v)") for value in table["1-shot"])
    assert to_latex(table).count("v)") == 2 and r"\begin{tabular}{lllr}" in to_latex(table)


def test_a_caption_says_in_how_many_cells_videos_were_tested(kept):
    for method, p_right in (("hcl", 0.8), ("otam", 0.3)):
        kept("one", of_all_classes(p_right, 3), method=method, way=3)
        evaluations = kept("one", made(p_right), method=method, shot=5)
    note = best_records(evaluations).note
    assert "(paired t-test over classes, in 1 cell over videos, where none over classes exists;" in note


def test_bold_cells_are_of_their_column_only():
    frame = pd.DataFrame({"a": ["1", "2"], "b": ["1", "2"]})
    frame.attrs["bold"] = [[1, "a"]]
    assert to_markdown(frame).splitlines()[-1].split() == ["|", "**2**", "|", "2", "|"]
