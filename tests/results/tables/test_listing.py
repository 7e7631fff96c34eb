"""Test settings that are read from text, and the rows of the lists."""

from __future__ import annotations

import pytest

import results
from results.records.settings import differing, settings_of
from results.tables.cells import DAGGER
from results.tables.listing import evaluations_listing, runs_listing, studies_listing


def test_settings_by_dotted_path():
    text = "name: x\nloss: {sigma_ce: 1.0, terms: [a, b]}\nempty: {}\n"
    assert settings_of(text) == {"name": "x", "loss.sigma_ce": 1.0, "loss.terms": ("a", "b"), "empty": {}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [1", "not YAML"), ("- 1", "holds a list"), ("a: &x [1]\nb: *x", "alias"),
        ("a: !!python/name:os x", "YAML"),
        ("", "NoneType"), ("[" * 3000, "YAML"),
    ],
)  # fmt: skip
def test_what_is_no_settings_is_said(text, reason):
    with pytest.raises(results.RecordError, match=reason):
        settings_of(text)


def test_what_differs_keeps_its_order_and_counts_what_is_absent():
    assert differing([{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5}, {"a": 1, "b": 2, "d": 3}]) == ["b", "c", "d"]
    assert differing([{"a": 1}, {"a": 1.0}]) == ["a"]  # a whole number became a fraction: not the same setting
    assert differing([]) == []


@pytest.fixture
def found(tmp_path, evaluation, sweep, trials):
    run = tmp_path / "one"
    text = "seed: 3\ndata: {dataset: plain}\nmodel: {backbone: resnet18}\ntrain: {regime: hcl, epochs: 4}\n"
    results.write_evaluation(run, evaluation(ci95_classes=0.05))
    results.write_evaluation(run, evaluation(method="otam", protocol="published"))
    (run / "experiment.yaml").write_text(text)
    for epoch, accuracy in ((1, 0.5), (2, 0.4)):
        results.append_epoch(run, {"epoch": epoch, "val_accuracy": accuracy})
    results.write_provenance(run, results.collect_provenance("hcl train"))
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "experiment.yaml").write_text("[1")
    results.write_sweep(tmp_path / "study", sweep, trials)
    return results.load(tmp_path)


def test_a_run_is_a_row_even_where_its_settings_are_damaged(found):
    table = runs_listing(found)
    assert table["run"].tolist() == ["one", "two"]
    row = table.iloc[0]
    assert (row["data set"], row["backbone"], row["epochs"], row["of"]) == ("plain", "resnet18", 2, 4)
    assert (row["val %"], row["evaluations"], row["seed"]) == (50.0, 2, 3)
    assert table.iloc[1]["evaluations"] == 0 and table.iloc[1][["data set", "started"]].isna().all()


def test_a_study_tells_its_trials(found):
    [row] = studies_listing(found).to_dict("records")
    assert (row["study"], row["aim"], row["ended"], row["failed"], row["trial"]) == ("study", "largest", 4, 1, "t1")


def test_evaluations_carry_their_marks(found):
    table = evaluations_listing(found)
    assert table["method"].tolist() == ["hcl", f"otam {DAGGER}"] and len(table.attrs["footnotes"]) == 1
    assert table["accuracy %"].tolist() == pytest.approx([47.73, 47.73])
    assert table["± classes"].iloc[0] == pytest.approx(5)


def test_lists_of_nothing_are_empty(tmp_path):
    (tmp_path / "evaluation").mkdir()
    loaded = results.load(tmp_path)
    assert len(runs_listing(loaded)) == 1 and studies_listing(loaded).empty and evaluations_listing(loaded).empty
