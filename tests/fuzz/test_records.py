"""Test hostile runs, studies and answers in a folder of results from another person."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import results
from orchestration.training.failure import raise_recorded
from orchestration.training.run_files import FAILED
from results.exports.tracked import tracked_runs, tracked_studies
from results.page.report import write_report
from results.records.codec import encode
from results.records.explanations import ExplanationRecord, read_explanations
from results.records.labels import LABELS, Labels
from results.records.outcomes import Outcomes, Questions, read_outcomes, write_outcomes
from results.records.provenance import _packed_state
from results.records.records import (
    EvaluationRecord,
    Provenance,
    SweepRecord,
    TrialRecord,
    read_evaluation,
    read_provenance,
    read_sweep,
    read_trials,
    write_sweep,
)
from results.tables.listing import LISTINGS
from tests.fuzz.hostile import altered, contained, fuzzed, mutated, texts, values

EVALUATION = EvaluationRecord(
    run="one", method="hcl", train_dataset="a", dataset="a", partition="test", way=5, shot=1, queries=3, episodes=2,
    seed=1, accuracy=0.5, ci95=0.1, levels={"global": 0.4}, episodes_digest="d", created="2026-01-01T00:00:00+00:00",
)  # fmt: skip
PROVENANCE = Provenance(
    command="hcl train a", versions={"torch": "2"}, hardware={"cpus": 2, "gpus": ["H100"]}, seeds={"experiment": 1},
    resources={"workers": 1.0}, started="2026-01-01T00:00:00+00:00", data={"train.videos": 3},
    extended=[{"from": 2, "to": 3, "digest": "d", "after": 2, "command": "hcl train a --epochs 3"}],
)  # fmt: skip
SWEEP = SweepRecord(name="s", space={"parameters": {"a": 1}}, objective="val_accuracy", importances={"a": 0.5})
TRIALS = [
    TrialRecord(trial=f"t-{number}", params={"loss.sigma_ce": 0.5, "x": [1, 2]}, value=0.1 * number, epochs=2)
    for number in range(3)
]
QUESTIONS = Questions("d", ("a", "b", "c"), np.array([[0, 1]]), np.array([[[0], [1]]]), np.array([[[2, 3], [4, 5]]]))
ANSWERS = np.array([[[0, 1], [1, 0]]], np.uint8)


def as_json(record: Any) -> bytes:
    return json.dumps(encode(record)).encode()


def show_all(folder: Path) -> bytes:
    """Read a folder of results in every way, and return its page."""
    found = results.load(folder)
    for listing in LISTINGS.values():
        listing(found)
    assert all(one.name for one in [*tracked_runs(found), *tracked_studies(found)])
    return write_report(found, folder.parent / "page" / "index.html").read_bytes()


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("written")
    write_sweep(folder, SWEEP, TRIALS)
    results.append_epoch(folder, {"epoch": 1, "loss": 0.5, "val_accuracy": 0.25})
    return {name: (folder / name).read_bytes() for name in ("trials.parquet", "metrics.parquet")}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("answers")
    write_outcomes(folder / "one.json", Outcomes(QUESTIONS, ANSWERS))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def files(parquet: dict[str, bytes], answers: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files of a complete run that is a study too, by name in its folder."""
    records = {name: as_json(record) for name, record in JSON_FILES.items()}
    text = b"name: one\nloss: {sigma_ce: 0.5}\ndata: {dataset: a}\n"
    return records | parquet | {f"evaluation/{name}": one for name, one in answers.items()} | {"experiment.yaml": text}


def lay(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


JSON_FILES = {
    "evaluation/one.json": EVALUATION,
    "provenance.json": PROVENANCE,
    "sweep.json": SWEEP,
    LABELS: Labels(tags=["a"], note="n"),
}


@fuzzed(6)
@given(
    st.sampled_from(sorted(JSON_FILES)).flatmap(
        lambda name: st.tuples(st.just(name), altered(encode(JSON_FILES[name])))
    )
)
def test_records_with_other_values(tmp_path: Path, files: dict[str, bytes], other: tuple[str, Any]) -> None:
    run = lay(tmp_path / "run", files | {other[0]: json.dumps(other[1]).encode()})
    with contained(tmp_path, reads_only=False):
        show_all(run)


@fuzzed(6)
@given(st.data())
def test_damaged_files_of_a_run(tmp_path: Path, files: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(files)))
    run = lay(tmp_path / "run", files | {name: data.draw(mutated([files[name]]))})
    with contained(tmp_path, reads_only=False):
        show_all(run)


@fuzzed(50)
@given(mutated([as_json(EVALUATION), as_json(PROVENANCE), as_json(SWEEP)]))
@example(as_json(EVALUATION).replace(b'"seed": 1', b'"seed": 1' + b"0" * 400))
@example(as_json(EVALUATION).replace(b'"accuracy": 0.5', b'"accuracy": 1' + b"0" * 400))
def test_record_files(tmp_path: Path, content: bytes) -> None:
    for name in ("provenance.json", "sweep.json", "one.json"):
        (tmp_path / name).write_bytes(content)
    for read, path in ((read_provenance, ""), (read_sweep, ""), (read_evaluation, "one.json")):
        with contained(tmp_path):
            encode(read(tmp_path / path))


@fuzzed(30)
@given(st.data())
def test_tables_of_epochs_and_trials(tmp_path: Path, parquet: dict[str, bytes], data: st.DataObject) -> None:
    for name in parquet:
        (tmp_path / name).write_bytes(data.draw(mutated([parquet[name]])))
    for read in (read_trials, results.read_epochs):
        with contained(tmp_path):
            read(tmp_path)


@fuzzed(15)
@given(altered({"trial": ["a"], "params": ["{}"], "value": [0.5], "kind": ["trial"], "schema": [1], "epoch": [1]}))
def test_tables_with_other_columns(tmp_path: Path, columns: Any) -> None:
    try:
        table = pa.table({str(name): pa.array(values) for name, values in columns.items()})
        pq.write_table(table, tmp_path / "trials.parquet")
    except (pa.ArrowException, OverflowError, UnicodeError, TypeError, AttributeError, ValueError):
        return  # it cannot be written as a table
    (tmp_path / "metrics.parquet").write_bytes((tmp_path / "trials.parquet").read_bytes())
    for read in (read_trials, results.read_epochs, show_all):
        with contained(tmp_path.parent, reads_only=False):
            read(tmp_path)


def test_text_that_is_none_in_a_table(tmp_path: Path) -> None:
    """Write invalid UTF-8, which Arrow checks only when the text is read."""
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe"))
    pq.write_table(pa.table({"epoch": [1], "note": broken}), tmp_path / "metrics.parquet")
    with pytest.raises(results.RecordError, match="not a parquet file"):
        results.read_epochs(tmp_path)


@fuzzed(30)
@given(st.data())
def test_answers(tmp_path: Path, answers: dict[str, bytes], data: st.DataObject) -> None:
    for name in answers:
        (tmp_path / name).write_bytes(data.draw(mutated([answers[name]])))
    with contained(tmp_path):
        outcomes = read_outcomes(
            tmp_path / "one.json", data.draw(st.sampled_from(["d", "d", "d", "\0", "../d", "e" * 300])), 0.5
        )
        assert outcomes is None or (outcomes.confusion() >= 0).all()


@fuzzed(30)
@given(
    st.sampled_from(["answers", "digest", "classes", "support", "query", "class_names"]),
    st.sampled_from([np.array("x"), np.array(-1), np.array([[[-1.0]]]), np.array([[["a"]]]), np.zeros((0, 2, 2)),
                     np.full((1, 2, 2), 2**63, np.uint64), np.array([[[1 + 2j]]]), np.full((1, 2, 2), -1),
                     np.array([b"a"]),
                     np.array([["2026-01-01"]], "datetime64[D]"), np.full((1, 2), 7), np.array(["a\ud800"])]),
)  # fmt: skip
def test_answers_of_other_kinds(tmp_path: Path, name: str, array: np.ndarray) -> None:
    questions = {part: getattr(QUESTIONS, part) for part in ("classes", "support", "query")}
    files = {
        "episodes-d.npz": {**questions, "class_names": np.array(["a", "b", "c"])},
        "one.npz": {"answers": ANSWERS, "digest": np.array("d")},
    }
    for file, arrays in files.items():
        buffer = io.BytesIO()
        np.savez(buffer, **{one: array if one == name else old for one, old in arrays.items()})
        (tmp_path / file).write_bytes(buffer.getvalue())
    with contained(tmp_path):
        outcomes = read_outcomes(tmp_path / "one.json", "d", 0.5)
        assert outcomes is None or (outcomes.confusion().sum() == 4 and outcomes.by_class().shape == (3,))


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("evaluation/one.json", "command", "half a character: \ud800"),
        ("evaluation/one.json", "versions", {"\udfff": "\ud800"}),
        ("evaluation/one.json", "episodes_digest", "a\0b"),
        ("sweep.json", "space", {"parameters": {"a": 1}}),
        ("sweep.json", "space", {"parameters": [1], "trade_offs": 2}),
        ("provenance.json", "hardware", {"gpus": [["\ud800"]]}),
    ],
)
def test_values_that_once_stopped_a_page(
    tmp_path: Path, files: dict[str, bytes], name: str, field: str, value: object
) -> None:
    content = json.dumps(encode(JSON_FILES[name]) | {field: value}).encode()
    assert b"HCL" in show_all(lay(tmp_path / "run", files | {name: content}))


def test_a_column_of_epochs_does_not_rename_its_run(tmp_path: Path) -> None:
    results.append_epoch(tmp_path / "mine", {"epoch": 1, "run": "another"})
    assert list(results.load(tmp_path / "mine").epochs["run"]) == ["mine"]


@fuzzed(30)
@given(mutated([as_json(ExplanationRecord(query="a/b", scores={"a": 1.0}))]), mutated([b"RIFF....WEBP"]))
def test_explanations(tmp_path: Path, record: bytes, picture: bytes) -> None:
    (tmp_path / "explanations").mkdir(exist_ok=True)
    (tmp_path / "explanations" / "one.json").write_bytes(record)
    (tmp_path / "explanations" / "one.webp").write_bytes(picture)
    with contained(tmp_path):
        read_explanations(tmp_path)


@fuzzed(30)
@given(mutated([b'{"revision": "abc", "dirty": true}']))
@example(b"[" * 100_000)
def test_the_note_of_packed_code(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "revision.json").write_bytes(content)
    with contained(tmp_path):
        _packed_state(tmp_path / "revision.json", "no checkout")


@fuzzed(40)
@given(altered({"kind": "DataError", "problem": "p", "where": "w", "remedy": None}) | values)
@example({"kind": "NonFiniteLossError", "problem": "p", "where": "w", "remedy": "r"})
@example({"kind": "annotations", "problem": "p", "where": "w", "remedy": "r"})
@example({"kind": "Sequence", "problem": "p", "where": "w", "remedy": "r"})
def test_errors_that_a_worker_left_behind(tmp_path: Path, content: Any) -> None:
    (tmp_path / FAILED).write_text(json.dumps(content))
    with contained(tmp_path):
        raise_recorded(tmp_path)


@fuzzed(6)
@given(texts, texts, texts)
def test_texts_on_a_page_stay_texts(tmp_path: Path, one: str, two: str, three: str) -> None:
    """Check that no text of a record becomes a tag of the page or prevents writing it."""
    folder = tmp_path / "run"
    (folder / "evaluation").mkdir(parents=True, exist_ok=True)
    record = {**encode(EVALUATION), "method": one + "<i>", "dataset": two + "<i>", "command": three + '"><i>'}
    (folder / "evaluation" / "one.json").write_text(json.dumps(record))
    (folder / "provenance.json").write_text(json.dumps({**encode(PROVENANCE), "command": three + "</script><i>"}))
    with contained(tmp_path, reads_only=False):
        assert b"<i>" not in show_all(folder)
