"""Test results of weights that a run no longer has: found without reading a checkpoint twice, and marked everywhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import results
from results.exports.exporting import export, write_tables
from results.exports.tracked import tracked_runs
from results.page.leads import leads
from results.page.report import write_report
from results.records import weights
from results.records.outcomes import write_outcomes
from results.records.weights import Weights, read_digest
from results.tables.accuracy import accuracy_table
from results.tables.best import best_records
from results.tables.cells import LOZENGE, STALE_FOOTNOTE
from results.tables.details import runs_table
from results.tables.listing import evaluations_listing
from results.tables.markup import to_latex, to_markdown
from tests.results.conftest import made


@pytest.fixture
def run(tmp_path, evaluation):
    """Write a run with weights, and records of two methods made from them; `run(content)` trains it again."""
    folder = tmp_path / "runs" / "one"

    def train(content: bytes) -> Path:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints" / "best.pt").write_bytes(content)
        return folder

    digest = read_digest(train(b"first") / "checkpoints" / "best.pt")
    for method, p_right in (("hcl", 0.9), ("prototype", 0.4)):
        answers = made(p_right, seed=len(method))
        checkpoint_fields = {"checkpoint": "/elsewhere/runs/one/checkpoints/best.pt", "checkpoint_digest": digest}
        record = evaluation(
            run="one",
            method=method,
            accuracy=float(answers.accuracies.mean()),
            **(checkpoint_fields if method == "hcl" else {}),
        )
        write_outcomes(results.evaluation_file(folder, record), answers)
        results.write_evaluation(folder, record)
    return train


def test_a_record_is_stale_once_its_run_has_other_weights(run):
    evaluations = results.load(run(b"first")).evaluations
    assert evaluations["stale"].tolist() == [False, False] and len(best_records(evaluations).paths) == 1
    evaluations = results.load(run(b"other")).evaluations.set_index("method")
    assert evaluations["stale"].to_dict() == {"hcl": True, "prototype": False}  # which reads no checkpoint
    assert not results.load(run(b"first")).evaluations["stale"].any()


def test_it_is_marked_wherever_it_is_shown_and_never_bold(run, tmp_path):
    loaded = results.load(run(b"other"))
    table = accuracy_table(loaded.evaluations)
    assert f"hcl {LOZENGE}" in table["method"].tolist() and "prototype" in table["method"].tolist()
    assert table.attrs["bold"] == [] and STALE_FOOTNOTE in table.attrs["footnotes"]
    assert STALE_FOOTNOTE.replace("`", r"\`") in to_markdown(table) or STALE_FOOTNOTE in to_markdown(table)
    assert r"hcl $^\diamond$" in to_latex(table)
    listing = evaluations_listing(loaded)
    assert f"hcl {LOZENGE}" in listing["method"].tolist() and STALE_FOOTNOTE in listing.attrs["footnotes"]
    page = write_report(loaded, tmp_path / "page").read_text()
    assert f"hcl {LOZENGE}" in page and "the run no longer has" in page
    write_tables(loaded, tmp_path / "page")
    export(loaded, tmp_path / "out", "csv")
    for file in ("page/results.csv", "page/results.md", "page/results.tex", "out/table-accuracy.csv"):
        text = (tmp_path / file).read_text()
        assert LOZENGE in text or r"\diamond" in text, file
    for file in ("page/evaluations.csv", "out/evaluations.csv"):
        assert ",True," in (tmp_path / file).read_text(), file
    [tracked] = tracked_runs(loaded)
    assert any(metric.name.startswith("plain/test/5way/1shot/hcl/stale/") for metric in tracked.metrics)
    [lead] = leads(loaded.evaluations)
    assert lead.name == "prototype"


def test_runs_are_averaged_with_their_like_only(run, tmp_path):
    shutil.copytree(run(b"first"), tmp_path / "runs" / "two")
    assert runs_table(results.load(tmp_path / "runs").evaluations)["runs"].tolist() == [2, 2]
    run(b"other")
    table = runs_table(results.load(tmp_path / "runs").evaluations)
    assert table["method"].tolist() == ["prototype"]


def test_evaluating_again_takes_the_mark_away(run):
    folder = run(b"other")
    file = next(path for path in (folder / "evaluation").glob("hcl*.json"))
    old = results.read_evaluation(file)
    new = results.EvaluationRecord(
        **{**vars(old), "checkpoint_digest": read_digest(folder / "checkpoints" / "best.pt")}
    )
    results.write_evaluation(folder, new)
    evaluations = results.load(folder).evaluations
    assert len(evaluations) == 2 and not evaluations["stale"].any()


def test_what_cannot_be_told_is_not_marked(run):
    folder = run(b"other")
    shutil.rmtree(folder / "checkpoints")  # checkpoints may be left out of a copy, or deleted to save space
    assert not results.load(folder).evaluations["stale"].any()
    (folder / "checkpoints").mkdir()
    assert not results.load(folder).evaluations["stale"].any()
    (folder / "checkpoints" / "last.pt").write_bytes(b"x")  # trained again, no epoch of it is the best yet
    assert results.load(folder).evaluations["stale"].sum() == 1
    assert not Weights().is_stale(folder, "best.pt", "") and not Weights().is_stale(folder, "", "d")


def test_a_checkpoint_is_read_once(run, monkeypatch):
    folder = run(b"first")
    file = folder / "checkpoints" / "best.pt"
    os.utime(file, ns=(1, 1))
    reads = []
    monkeypatch.setattr(weights, "read_digest", lambda path: reads.append(path) or read_digest(path))
    for _ in range(3):
        assert not results.load(folder).evaluations["stale"].any()
    assert reads == [file]
    run(b"FIRST")  # as long as before
    assert results.load(folder).evaluations["stale"].any() and len(reads) == 2
    file.with_name(".best.pt.digest").write_text("[not ours")
    assert results.load(folder).evaluations["stale"].any() and len(reads) == 3


def test_a_folder_of_somebody_else_is_read_all_the_same(run):
    folder = run(b"other")
    (folder / "checkpoints" / ".best.pt.digest").unlink()
    (folder / "checkpoints" / ".best.pt.digest").mkdir()  # nothing can be kept there
    assert results.load(folder).evaluations["stale"].any()


def test_stale_results_are_not_compared_among_themselves(run):
    folder = run(b"other")
    for file in (folder / "evaluation").glob("*.json"):
        record = results.read_evaluation(file)
        checkpoint_fields = {"checkpoint": "checkpoints/best.pt", "checkpoint_digest": "of the first"}
        results.write_evaluation(folder, results.EvaluationRecord(**{**vars(record), **checkpoint_fields}))
    evaluations = results.load(folder).evaluations
    assert evaluations["stale"].tolist() == [True, True] and best_records(evaluations) == (frozenset(), "")
