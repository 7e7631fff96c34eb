"""Test cells, marks and escapes of the tables."""

from __future__ import annotations

import csv
import io
import re

import pandas as pd
import pytest

import results
from results.exports.exporting import export, write_tables
from results.tables.accuracy import accuracy_table, levels_table, trials_table
from results.tables.cells import (
    ASKED_AS_PUBLISHED,
    DAGGER,
    DOUBLE_DAGGER,
    FOOTNOTE,
    LEAK_FOOTNOTE,
    OVERLAP_FOOTNOTE,
    PARALLEL,
    SECTION,
)
from results.tables.markup import to_csv, to_latex, to_markdown


@pytest.fixture
def load(tmp_path):
    def build(*records):
        for record in records:
            results.write_evaluation(tmp_path / record.run, record)
        return results.load(tmp_path).evaluations

    return build


def test_cells_hold_percent_and_interval(load, evaluation):
    table = accuracy_table(
        load(
            evaluation(),
            evaluation(shot=5, accuracy=0.6489, ci95=0.0104),
            evaluation(method="prototype", accuracy=0.2, ci95=None),
        )
    )
    assert list(table.columns) == ["trained on", "data set", "method", "1-shot", "5-shot"]
    assert table.values.tolist() == [
        ["plain", "plain", "hcl", "47.7 ± 0.9", "64.9 ± 1.0"],
        ["plain", "plain", "prototype", "20.0", "–"],
    ]
    assert table.attrs["footnotes"] == []
    assert "5-way" in table.attrs["caption"] and "700 episodes" in table.attrs["caption"]


def test_shots_are_ordered_as_numbers(load, evaluation):
    table = accuracy_table(load(*(evaluation(shot=shot) for shot in (10, 2, 1))))
    assert list(table.columns[3:]) == ["1-shot", "2-shot", "10-shot"]


def test_episodes_asked_as_published_are_marked_beside_the_others(load, evaluation):
    records = load(evaluation(), evaluation(evaluation_protocol="published", episodes=3000, accuracy=0.55))
    table = accuracy_table(records)
    assert sorted(table[["method", "1-shot"]].values.tolist()) == [
        ["hcl", "47.7 ± 0.9"],
        [f"hcl {DOUBLE_DAGGER}", "55.0 ± 0.9"],
    ]
    assert table.attrs["footnotes"] == [ASKED_AS_PUBLISHED]
    assert r"$^\ddagger$ evaluated as the published" in to_latex(table)


def test_published_protocol_is_marked_in_every_format(load, evaluation, tmp_path):
    table = accuracy_table(load(evaluation(), evaluation(run="peeks", protocol="published", accuracy=0.55)))
    assert sorted(table["method"]) == ["hcl", f"hcl {DAGGER}"]
    assert to_markdown(table).rstrip().endswith(FOOTNOTE)
    assert r"$^\dagger$ published protocol" in to_latex(table)
    assert DAGGER in to_csv(table)


def test_a_matcher_that_saw_the_labels_is_marked_and_told_apart(load, evaluation):
    leaking = evaluation(mode="published", protocol="published", leaks_labels=True, accuracy=0.99, run="leaks")
    table = accuracy_table(load(evaluation(), leaking))
    assert sorted(table["method"]) == ["hcl", f"hcl {DAGGER}{SECTION}"]
    assert table.attrs["footnotes"] == [FOOTNOTE, LEAK_FOOTNOTE]
    [honest] = accuracy_table(load(evaluation())[lambda found: ~found["leaks_labels"]])["method"]
    assert honest == "hcl"
    assert r"$^\S$" in to_latex(table)


def test_overlapping_episodes_are_marked_and_told_apart(load, evaluation):
    table = accuracy_table(load(evaluation(), evaluation(overlapping=True, run="released", mode="published")))
    assert sorted(table["method"]) == ["hcl", f"hcl {PARALLEL}"]
    assert table.attrs["footnotes"] == [OVERLAP_FOOTNOTE] and OVERLAP_FOOTNOTE.startswith(PARALLEL)
    assert r"$^\Vert$" in to_latex(table)


@pytest.mark.parametrize(
    ("change", "column"),
    [({"way": 3}, "way"), ({"partition": "val"}, "partition"), ({"run": "again", "accuracy": 0.5}, "run")],
)
def test_what_would_share_a_cell_gets_a_column(load, evaluation, change, column):
    table = accuracy_table(load(evaluation(), evaluation(**change)))
    assert len(table) == 2 and table[column].nunique() == 2


def test_a_metric_that_goes_with_the_shot_does_not_split_a_row(load, evaluation):
    table = accuracy_table(load(evaluation(metric="cosine"), evaluation(shot=5, metric="euclidean")))
    assert len(table) == 1


def test_no_evaluations_make_an_empty_table(load, evaluation):
    empty = load(evaluation()).iloc[:0]
    assert accuracy_table(empty).empty
    assert to_markdown(accuracy_table(empty)).startswith("No evaluation.")


def test_levels_stand_beside_their_fusion(load, evaluation):
    table = levels_table(load(evaluation(levels={"global": 0.3, "temporal": 0.4}), evaluation(method="prototype")))
    assert table[["method", "shot", "fused", "global", "temporal"]].values.tolist() == [
        ["hcl", 1, "47.7", "30.0", "40.0"]
    ]


def test_trials_are_ranked_with_the_parameters_that_vary(tmp_path, sweep, trials):
    results.write_sweep(tmp_path / "s", sweep, trials)
    table = trials_table(results.load(tmp_path).trials, n=4)
    assert list(table["trial"]) == ["t1", "t2", "t0", "t3"]
    assert list(table["val.accuracy"]) == ["0.47", "0.4", "0.31", "–"]
    assert list(table["loss.sigma_ce"]) == ["0.25", "1", "0.5", "2"]
    assert "matching.metric" in table and "train.val_shot" not in table
    assert len(trials_table(results.load(tmp_path).trials, n=2)) == 2


def test_smaller_is_better_where_the_study_says_so(tmp_path, trials):
    sweep = results.SweepRecord(name="s", space={}, objective="loss", mode="min")
    results.write_sweep(tmp_path / "s", sweep, trials)
    assert list(trials_table(results.load(tmp_path).trials)["trial"]) == ["t0", "t2", "t1", "t3"]


def test_markdown_escapes_what_would_end_a_cell():
    frame = pd.DataFrame(
        {"na|me": ["a|b\nc", "<script>x</script>", "\u202eabc", "`*[x]*`"], "n": ["1.5", "2", "–", "47.7 ± 0.9"]}
    )
    lines = to_markdown(frame).splitlines()
    assert len(lines) == 6 and len({len(line) for line in lines}) == 1
    assert lines[0].startswith(r"| na\|me ") and lines[1].endswith("-: |")
    assert r"a\|b c" in lines[2] and "&lt;script&gt;x&lt;/script&gt;" in lines[3] and r"\u202eabc" in lines[4]
    assert r"\`\*\[x\]\*\`" in lines[5]


def test_latex_escapes_and_uses_booktabs():
    text = to_latex(pd.DataFrame({"a_b": [r"50% & $x$ {y} #1 ~ ^ \z"], "v": ["1.0 ± 0.1"]}))
    assert r"a\_b & v \\" in text
    assert r"50\% \& \$x\$ \{y\} \#1 \textasciitilde{} \textasciicircum{} \textbackslash{}z & 1.0 $\pm$ 0.1 \\" in text
    assert r"\begin{tabular}{lr}" in text and text.index(r"\toprule") < text.index(r"\midrule") < text.index(
        r"\bottomrule"
    )


def test_csv_reads_back(hostile_results):
    table = accuracy_table(hostile_results.evaluations)
    rows = list(csv.reader(io.StringIO(to_csv(table), newline="")))
    assert rows[0] == list(table.columns)
    assert rows[1:] == [[str(value) for value in row] for row in table.values.tolist()]


FORMULAS = ("=1+1", "+1+1", "-1+1", "@SUM(A1)", "=cmd|' /C calc'!A1", "\t=1", "\r=1", "\n=1", "'=1", "''@x", "＝1")
NUMBERS = (
    "-0.35",
    "+1.20",
    "-3",
    "-1.2 (p 0.030)",
    "+0.1 (p 0.500, v)",
    "-2.1 (p < 0.001)",
    "47.7 ± 0.9 (± 3.1 v)",
    "47.7 ± 0.9 (± 3.1)",
    "–",
    "-1e-05",
    "'quoted'",
)


def read_back(cell: str) -> str:
    """Return the text that `to_csv` was given, by the rule in its description."""
    return cell[1:] if re.match(r"'+[=+\-@\t\n＝＋－＠]", cell) else cell


def test_no_cell_of_a_csv_file_is_a_formula():
    frame = pd.DataFrame({"=heading": [*FORMULAS, *NUMBERS], "of many": pd.Categorical([*FORMULAS, *NUMBERS])})
    frame["number"], frame["nested"] = -1.5, [["=1"], None, -2, True, *["=1"] * (len(frame) - 4)]
    heading, *rows = csv.reader(io.StringIO(to_csv(frame), newline=""))
    assert heading == ["'=heading", "of many", "number", "nested"] and len(rows) == len(frame)
    assert not any(re.match(r"[=@\t\r\n＝＋－＠]|[+-](?![\d.])|[+-]\d+[+-]", cell) for row in rows for cell in row)
    for name, column in (("=heading", 0), ("of many", 1)):
        assert [read_back(row[column]) for row in rows] == [text.replace("\r", "\n") for text in frame[name]]
    assert [row[0] for row in rows][len(FORMULAS) :] == list(NUMBERS)
    assert {row[2] for row in rows} == {"-1.5"} and [row[3] for row in rows[:5]] == ["['=1']", "", "-2", "True", "'=1"]


def test_names_from_data_are_no_formulas_in_any_file(tmp_path, evaluation):
    results.write_evaluation(tmp_path / "=run", evaluation(run="=run", method="@m", dataset="+d", command="-c"))
    loaded = results.load(tmp_path)
    paths = [*write_tables(loaded, tmp_path / "page"), *export(loaded, tmp_path / "out", "csv")]
    files = [path for path in paths if path.suffix == ".csv"]
    cells = [cell for file in files for row in csv.reader(file.open(newline="")) for cell in row]
    assert {"'=run", "'@m", "'+d", "'-c"} <= set(cells) and len(files) > 4
    assert not any(cell.startswith(("=", "@", "+", "-")) for cell in cells)


def test_write_tables_writes_four_whole_files(hostile_results, tmp_path):
    paths = write_tables(hostile_results, tmp_path / "tables")
    assert sorted(path.name for path in paths) == ["evaluations.csv", "results.csv", "results.md", "results.tex"]
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == sorted(path.name for path in paths)
    numbers = pd.read_csv(tmp_path / "tables" / "evaluations.csv")
    assert numbers["accuracy"].tolist() == hostile_results.evaluations["accuracy"].tolist()
    assert "<script" not in (tmp_path / "tables" / "results.md").read_text()
