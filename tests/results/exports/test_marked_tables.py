"""Test tables of pages that are written from records, and that the pages of this repository agree with theirs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import results
from results.exports.exporting import export
from results.exports.marked_tables import has_tables, written
from results.exports.shipped import NAME, read_shipped
from results.records.outcomes import Outcomes
from results.tables.accuracy import accuracy_table
from results.tables.best import best_records
from tests.conftest import ROOT
from tests.results.conftest import made

PAGES = [page for page in ROOT.rglob("*.md") if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)]

TABLE = """# A page

<!-- results: sample
records: {records}
rows:
  - {{run: one, method: hcl, label: "HCL (`one`)"}}
  - {{method: prototype}}
columns: {columns}
-->
<!-- end -->

And more text.
"""


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_the_tables_of_this_repository_are_those_of_their_records(page):
    if has_tables(page):
        assert written(page)[1] == [], f"hcl results export --readme {page.relative_to(ROOT)}"


@pytest.fixture
def runs(kept, tmp_path) -> Path:
    """Write a run with two methods on two data sets at two shots; the first is surely better on one of them."""
    for dataset, p_right in (("plain", 0.9), ("dim", 0.5)):
        for shot in (1, 5):
            for seed, (method, p) in enumerate((("hcl", p_right), ("prototype", 0.5))):
                outcomes = made(p, seed=10 * shot + seed, digest=f"{dataset}{shot}")
                about = {"revision": "0123456789", "dirty": False, "way": 3, "episodes": 300, "queries": 4}
                kept("one", outcomes, method=method, dataset=dataset, shot=shot, ci95_classes=0.03, **about)
    facts = {"cpus": 2, "cpu": "AMD EPYC"}
    provenance = results.collect_provenance("hcl train", hardware=facts)
    results.write_provenance(tmp_path / "one", provenance)
    return tmp_path


def page_of(folder: Path, records: str, columns: str = "dataset", **replaced: str) -> Path:
    text = TABLE.format(records=records, columns=columns)
    for before, after in replaced.items():
        assert before in text
        text = text.replace(before, after)
    page = folder / "page.md"
    page.write_text(text)
    return page


def test_a_column_for_each_data_set_has_all_shots_in_a_cell(runs):
    text, changed = written(page_of(runs, "one"))
    assert changed == ["sample"] and text.startswith("# A page\n") and text.endswith("<!-- end -->\n\nAnd more text.\n")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[:2] == ["| | dim | plain |", "|---|---:|---:|"]
    better, alike = r"\*\*\d\d\.\d\*\*", r"[45]\d\.\d"
    assert re.fullmatch(rf"\| HCL \(`one`\) \| {alike} / {alike} \| {better} / {better} \|", lines[2])
    assert lines[3].startswith("| `prototype` | ") and "**" not in lines[3]
    flowing = " ".join(text.split())
    assert "3-way, test classes, 4 queries per class, 300 episodes per cell; 1 / 5 shots" in flowing
    assert "± 0.9 over episodes, ± 3.0 over classes" in flowing
    assert "Bold: significantly better than every other method" in flowing
    assert "Measured at commit 0123456 on 2 CPU cores (AMD EPYC)." in flowing
    assert max(map(len, text.splitlines())) <= 120


def test_a_column_for_each_shot_has_intervals(runs):
    page = page_of(runs, "one", "shot", **{"columns: shot": "columns: shot\ndatasets: [plain]\nshots: [5, 1]"})
    lines = [line for line in written(page)[0].splitlines() if line.startswith("|")]
    assert lines[0] == "| | 5 shots | 1 shot |"
    assert re.fullmatch(r"\| HCL \(`one`\) (\| \*\*\d\d\.\d ± 0\.9 \(± 3\.0\)\*\* ){2}\|", lines[2])
    assert "in brackets the one over classes and their videos" in " ".join(written(page)[0].split())


def test_what_is_written_is_current_until_a_record_changes(runs, kept):
    page = page_of(runs, "one")
    page.write_text(written(page)[0])
    assert written(page) == (page.read_text(), [])
    kept("one", made(0.2, seed=7, digest="plain1"), method="hcl", dataset="plain", shot=1, way=3)
    assert written(page)[1] == ["sample"]


def test_a_figure_changed_by_hand_is_found(runs):
    page = page_of(runs, "one")
    text = written(page)[0]
    page.write_text(text.replace("**9", "**8", 1))
    assert written(page) == (text, ["sample"])


def test_shipped_records_make_the_same_table_without_answers(runs):
    from_runs = written(page_of(runs, "one"))[0]
    paths = export(results.load(runs / "one"), runs / "shipped", "records")
    assert [path.name for path in paths] == [NAME, "export.json"]
    for file in (runs / "one").rglob("*.npz"):
        file.unlink()
    page = page_of(runs, "shipped")
    assert written(page)[0] == from_runs.replace("records: one", "records: shipped")
    assert (runs / "shipped" / NAME).stat().st_size < 20_000
    assert "**" not in written(page_of(runs, "one"))[0]  # without answers nothing is tested


def test_shipped_differences_are_those_of_the_answers_in_both_orders(runs):
    loaded = results.load(runs / "one")
    export(loaded, runs / "shipped", "records")
    shipped = read_shipped([runs / "shipped"])
    assert len(shipped.records) == len(loaded.evaluations) == 8
    numbers = {path: str(index) for index, path in enumerate(loaded.evaluations["path"])}
    best = best_records(loaded.evaluations)
    assert best_records(shipped.records, shipped).paths == {numbers[path] for path in best.paths}
    assert best_records(shipped.records, shipped).note == best.note and len(best.paths) == 2
    rows = shipped.records.to_dict("records")
    pairs = [(a, b) for a in rows for b in rows if a is not b and a["episodes_digest"] == b["episodes_digest"]]
    assert len(pairs) == 8
    for a, b in pairs:
        mean = shipped.compare(a, b).difference.mean
        assert mean == -shipped.compare(b, a).difference.mean == pytest.approx(a["accuracy"] - b["accuracy"])
    assert shipped.compare(rows[0], {**rows[0], "path": "99"}) is None
    assert accuracy_table(shipped.records)["method"].nunique() == 2


def test_records_changed_by_hand_are_refused(runs):
    export(results.load(runs / "one"), runs / "shipped", "records")
    file = runs / "shipped" / NAME
    file.write_text(file.read_text().replace('"mean": 0.', '"mean": 0.1', 1))
    with pytest.raises(results.RecordError, match="checksum does not match"):
        read_shipped([runs / "shipped"])
    file.write_text(json.dumps({"kind": "evaluation"}))
    with pytest.raises(results.RecordError, match="holds no shipped records"):
        read_shipped([file])
    file.write_text(json.dumps({"kind": "shipped", "schema": 1, "records": []}))
    with pytest.raises(results.RecordError, match="lacks a field"):
        read_shipped([file])


def test_videos_stand_in_for_classes(kept, tmp_path):
    for seed, (method, p_right) in enumerate((("hcl", 0.9), ("prototype", 0.3))):
        outcomes = made(p_right, seed=seed)
        questions = results.Questions("all", ("a", "b", "c"), np.tile([0, 1, 2], (300, 1)), *_clips())
        kept("one", Outcomes(questions, outcomes.answers), method=method, way=3, ci95_videos=0.05)
    text = " ".join(written(page_of(tmp_path, "one", "shot"))[0].split())
    assert "(± 5.0 v)**" in text and "paired t-test over videos, as none over classes exists" in text


def _clips():
    clips = np.argsort(np.random.default_rng(0).random((300, 3, 8)), axis=2) + np.array([0, 8, 16])[None, :, None]
    return clips[..., :2], clips[..., 2:6]


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("method: prototype", "method: protoype", "no record of protoype"),
        ("columns: dataset", "column: dataset", "has wrong options"),
        ("columns: dataset", "columns: data", "unknown columns"),
        ("columns: dataset", "columns: shot", "several data sets"),
        ("records: one", "records: nowhere", "does not exist"),
        ("<!-- end -->", "", "does not close"),
        ("rows:", "rows: 1 #", "has wrong options"),
    ],
)
def test_mistakes_in_a_page_are_named(runs, before, after, problem):
    page = page_of(runs, "one", **{before: after})
    with pytest.raises(results.RecordError, match=problem):
        written(page)


def test_a_method_of_two_runs_needs_a_run(runs, kept):
    kept("two", made(0.5, digest="plain1"), method="prototype", dataset="plain", shot=1, way=3)
    with pytest.raises(results.RecordError, match="records of prototype differ in run"):
        written(page_of(runs, "[one, two]"))
    kept("two", made(0.5, digest="plain1"), method="hcl", dataset="plain", shot=5, way=5)
    with pytest.raises(results.RecordError, match="several ways"):
        written(page_of(runs, "[one, two]"))
