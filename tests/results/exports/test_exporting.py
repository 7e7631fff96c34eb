"""Test ablations, published figures, and exports to files."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import results
from results.exports.exporting import FRAMES, all_tables, export, write_tables
from results.tables.ablation import ablations
from results.tables.cells import ASKED_AS_PUBLISHED, FOOTNOTE
from results.tables.published import PILCROW, SOURCES, UNKNOWN, published_table, read_published
from tests.architecture.pages import ROOT, read_page
from tests.results.conftest import made


@pytest.fixture
def terms(kept, tmp_path):
    """Write three runs that differ in the loss's weights, and one that differs in more."""

    def build(**of_all):
        for run, weights, p_right, lr in (
            ("all", "{sigma_global: 1.0, sigma_spatial: 0.5}", 0.8, 0.1),
            ("no-global", "{sigma_global: 0.0, sigma_spatial: 0.5}", 0.5, 0.1),
            ("no-spatial", "{sigma_global: 1.0, sigma_spatial: 0.0}", 0.79, 0.1),
            ("other", "{sigma_global: 1.0, sigma_spatial: 0.0}", 0.2, 0.5),
        ):
            kept(run, made(p_right, seed=len(run)), **of_all)
            kept(run, made(0.4), method="prototype", **of_all)
            text = f"name: {run}\nloss: {weights}\noptim: {{lr: {lr}}}\ntrain: {{regime: hcl, workers: {len(run)}}}\n"
            (tmp_path / run / "experiment.yaml").write_text(text)
        return results.load(tmp_path)

    return build


def test_runs_that_differ_in_the_terms_alone_stand_side_by_side(terms):
    [table] = ablations(terms(), ignored=("name", "train.workers"))
    assert table["run"].tolist() == ["all", "no-spatial", "no-global"]
    assert table[["sigma_global", "sigma_spatial"]].values.tolist() == [[1.0, 0.5], [1.0, 0.0], [0.0, 0.5]]
    assert table["Δ 1-shot"][0] == "" and table["Δ 1-shot"][2].startswith("-3")
    assert table["Δ 1-shot"][2].endswith("(p < 0.001)")
    assert float(table["Δ 1-shot"][1].partition("p ")[2].rstrip(")")) > 0.05
    assert "after Holm's correction for the runs of a column" in table.attrs["caption"]
    assert "plain, test classes, 5-way" in table.attrs["caption"]


def test_settings_that_are_not_ignored_keep_runs_apart(terms):
    assert ablations(terms()) == []  # their numbers of workers differ
    [table] = ablations(terms(), over="optim.", ignored=("name", "train.workers"))
    assert table["run"].tolist() == ["other", "no-spatial"] and "lr" in table


def test_runs_without_evaluations_are_rows(tmp_path):
    for run, sigma in (("a", 1), ("b", 0)):
        (tmp_path / run).mkdir()
        (tmp_path / run / "experiment.yaml").write_text(f"loss: {{sigma_global: {sigma}}}\n")
    [table] = ablations(results.load(tmp_path))
    assert table.values.tolist() == [["a", 1], ["b", 0]] and "None of these" in table.attrs["caption"]


def test_printed_figures_are_facts_of_a_known_shape():
    printed = read_published()
    assert not printed.duplicated(["method", "dataset", "way", "shot", "source"]).any()
    assert printed["accuracy"].between(20, 100).all() and set(printed["source"]) == set(SOURCES)
    assert set(printed["training"]) | set(printed["episodes"]) == {"published", "unknown"}


def test_printed_figures_stand_below_ours_with_source_and_marks(terms):
    table = published_table(terms(dataset="ssv2_100_otam", train_dataset="ssv2_100_otam").evaluations)
    printed = table[table["source"] != "here"]
    assert printed["source"].tolist()[:5] == ["[1]", "[2]", "[2]", "[2]", "[3]"] and table["source"][0] == "here"
    assert f"Trokens, DINOv2 ViT-B/14 {PILCROW}" in set(printed["method"])
    assert printed["method"].tolist()[:4] == [
        "HCL (released checkpoint) †‡", f"OTAM {PILCROW}", f"TRX {PILCROW}", f"STRM {PILCROW}"
    ]  # fmt: skip
    assert printed[["1-shot", "5-shot"]].values.tolist()[:2] == [["47.7", "64.9"], ["–", "52.3"]]
    notes = table.attrs["footnotes"]
    assert {FOOTNOTE, ASKED_AS_PUBLISHED, UNKNOWN} < set(notes) and any("zhengsipeng" in one for one in notes)
    for row, column in table.attrs["bold"]:
        assert table["source"][row] == "here" and column.endswith("-shot")


@pytest.mark.parametrize("other", [{"dataset": "plain"}, {"partition": "val"}, {"way": 7}])
def test_printed_figures_stand_beside_their_own_question_only(kept, other):
    assert published_table(kept("one", made(0.5), **{"dataset": "hmdb51", **other})).empty


@pytest.mark.parametrize("form", ["csv", "parquet", "json"])
def test_every_frame_reads_back(hostile_results, form, tmp_path):
    paths = export(hostile_results, tmp_path / "out", form)
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "json": pd.read_json}[form]
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert {path.name for path in paths} == {*about["rows"], "export.json"}
    for name in FRAMES:
        frame = getattr(hostile_results, name)
        assert about["rows"][f"{name}.{form}"] == len(frame)
        if len(frame):
            back = read(tmp_path / "out" / f"{name}.{form}")
            assert len(back) == len(frame) and set(back.columns) == set(map(str, frame.columns))
    back = read(tmp_path / "out" / f"evaluations.{form}")
    assert back["accuracy"].tolist() == pytest.approx(hostile_results.evaluations["accuracy"].tolist())
    assert about["schema"] == 1 and "<u>broken.json" in about["skipped"][0]["file"]


def test_values_of_several_kinds_become_json_texts(hostile_results, tmp_path):
    export(hostile_results, tmp_path, "parquet")
    [column] = [name for name in hostile_results.trials.columns if name.startswith("params.<script>")]
    assert pd.read_parquet(tmp_path / "trials.parquet")[column].tolist() == hostile_results.trials[column].tolist()
    assert json.loads(pd.read_parquet(tmp_path / "sweeps.parquet")["space"][0]) == {}


@pytest.mark.parametrize(("form", "ending"), [("latex", "tex"), ("markdown", "md")])
def test_formats_for_people_hold_the_tables(terms, form, ending, tmp_path):
    paths = export(terms(dataset="hmdb51"), tmp_path / "out", form, ignored=("name", "train.workers"))
    names = ["table-accuracy", "table-published", "table-ablation-1"]
    assert [path.name for path in paths] == [*(f"{name}.{ending}" for name in names), "export.json"]
    assert all(path.stat().st_size for path in paths)


def test_a_table_as_json_says_all_that_it_shows(terms, tmp_path):
    export(terms(), tmp_path / "out", "json")
    table = json.loads((tmp_path / "out" / "table-accuracy.json").read_text())
    assert len(table["columns"]) == len(table["rows"][0]) and table["caption"].startswith("Accuracy")


def test_all_tables_stand_in_one_file_beside_the_page(terms, tmp_path, sweep, trials):
    results.write_sweep(tmp_path / "study", sweep, trials)
    loaded = terms(dataset="hmdb51")
    assert list(all_tables(loaded, ("name", "train.workers"))) == ["accuracy", "published", "ablation-1", "trials"]
    write_tables(loaded, tmp_path / "tables", ("name", "train.workers"))
    assert (tmp_path / "tables" / "results.md").read_text().count("\n| ---") == 4
    assert (tmp_path / "tables" / "results.tex").read_text().count(r"\begin{table}") == 4


def test_files_that_no_export_has_written_are_not_replaced(terms, tmp_path):
    loaded, folder = terms(), tmp_path / "out"
    folder.mkdir()
    (folder / "runs.csv").write_text("mine")
    with pytest.raises(results.RecordError, match=r"holds runs\.csv, which no export has written"):
        export(loaded, folder, "csv")
    assert [path.name for path in folder.iterdir()] == ["runs.csv"] and (folder / "runs.csv").read_text() == "mine"
    (folder / "runs.csv").unlink()
    for form in ("csv", "parquet", "csv", "markdown"):
        export(loaded, folder, form)
    (folder / "export.json").write_text("{}")
    with pytest.raises(results.RecordError, match="which no export has written"):
        export(loaded, folder, "csv")


def test_the_example_of_the_readme_runs(full, tmp_path, monkeypatch):
    (example,) = read_page(ROOT / "results" / "README.md").python
    monkeypatch.chdir(tmp_path)
    values = {}
    exec(example, values)
    assert len(values["found"].evaluations) == len(full.evaluations)
    assert (tmp_path / "tables" / "results.md").exists() and (tmp_path / "report.html").stat().st_size > 10_000
