"""Test that records go to disk and back; damaged, foreign or half-written ones are named and never accepted."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pickle

import numpy as np
import pytest

import results
from results import RecordError, TrialRecord, read_evaluation, write_evaluation


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_evaluation_comes_back_equal(tmp_path, evaluation):
    record = evaluation(levels={"global": 0.4, "spatial": 0.3}, protocol="published", n_clips=96, checkpoint="best.pt")
    assert read_evaluation(write_evaluation(tmp_path, record)) == record


def test_numpy_values_and_a_single_episode_are_written_plainly(tmp_path, evaluation):
    record = evaluation(accuracy=np.float32(0.5), shot=np.int64(3), ci95=math.nan, accuracy_std=np.float64("nan"))
    back = read_evaluation(write_evaluation(tmp_path, record))
    assert (back.accuracy, back.shot, back.ci95, back.accuracy_std) == (0.5, 3, None, None)
    assert type(back.shot) is int


def test_same_cell_is_replaced_and_others_stay(tmp_path, evaluation):
    first = write_evaluation(tmp_path, evaluation(accuracy=0.1))
    again = write_evaluation(tmp_path, evaluation(accuracy=0.2))
    other = [write_evaluation(tmp_path, evaluation(**change)) for change in (
        {"shot": 5}, {"way": 3}, {"partition": "val"}, {"dataset": "dim"}, {"method": "hcl untrained"},
    )]  # fmt: skip
    assert first == again and read_evaluation(first).accuracy == 0.2
    assert len({first, *other}) == 6


def test_names_that_look_alike_in_a_file_name_do_not_share_a_file(tmp_path, evaluation):
    names = ["a b", "a_b", "a-b", "a/b", "../a b", "a", "", "x" * 300, "x" * 301]
    paths = {write_evaluation(tmp_path, evaluation(method=name)) for name in names}
    assert len(paths) == len(names)
    assert {path.parent for path in paths} == {tmp_path / "evaluation"}
    assert {read_evaluation(path).method for path in paths} == set(names)


def test_unknown_keys_and_an_older_schema_are_read(tmp_path, evaluation):
    path = write_evaluation(tmp_path, evaluation(checkpoint="old.pt"))
    payload = json.loads(path.read_text())
    for newer in ("levels", "protocol", "n_clips", "checkpoint", "schema", "crc32"):
        del payload[newer]
    path.write_text(json.dumps({**payload, "colour": "blue"}))
    assert read_evaluation(path) == evaluation()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "sweep"}, "kind='evaluation'"),
        ({"schema": 99}, "schema 99"),
        ({"schema": "1"}, "schema '1'"),
        ({"accuracy": 47.7}, r"accuracy: expected a value in \[0, 1\], got 47.7"),
        ({"accuracy": None}, "accuracy: expected float, got None"),
        ({"accuracy": True}, "accuracy: expected float, got True"),
        ({"shot": 1.5}, "shot: expected int, got 1.5"),
        ({"ci95": -0.1}, "ci95: expected a value"),
        ({"protocol": "mine"}, "protocol: expected Literal"),
        ({"levels": [1]}, "levels: expected dict"),
        ({"levels": {"global": "high"}}, "levels: expected dict"),
        ({"run": 7}, "run: expected str, got 7"),
    ],
)
def test_wrong_content_is_named(tmp_path, evaluation, change, said):
    path = write_evaluation(tmp_path, evaluation())
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RecordError, match=said) as caught:
        read_evaluation(path)
    assert str(path) in str(caught.value)


def test_a_record_whose_figures_are_not_those_that_were_written_is_named(tmp_path, evaluation):
    path = write_evaluation(tmp_path, evaluation(accuracy=0.319))
    path.write_text(path.read_text().replace("0.319", "0.219"))
    with pytest.raises(RecordError, match="is damaged: its checksum does not match its content") as caught:
        read_evaluation(path)
    assert str(path) in str(caught.value) and "remove `crc32`" in caught.value.remedy
    payload = json.loads(path.read_text())
    del payload["crc32"]
    path.write_text(json.dumps(payload))
    assert read_evaluation(path).accuracy == 0.219


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"kind": "evaluation"}', b"[" * 100_000])
def test_a_file_that_is_no_record_is_named(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"x\.json"):
        read_evaluation(path)


def test_a_record_that_could_not_be_read_is_not_written(tmp_path, evaluation):
    with pytest.raises(RecordError, match="accuracy"):
        write_evaluation(tmp_path, evaluation(accuracy=math.nan))
    assert files_in(tmp_path) == []


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path, evaluation, monkeypatch):
    path = write_evaluation(tmp_path, evaluation(accuracy=0.1))
    before = path.read_bytes()

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(RecordError, match="No space left") as caught:
        write_evaluation(tmp_path, evaluation(accuracy=0.2))
    assert caught.value.remedy
    assert path.read_bytes() == before
    assert files_in(tmp_path) == [path.name]


def test_provenance_comes_back_equal(tmp_path):
    record = results.finished(results.collect_provenance(["hcl", "train", "a b.yaml"], seeds={"experiment": 3}))
    results.write_provenance(tmp_path, record)
    assert results.read_provenance(tmp_path) == record
    assert record.command == "hcl train 'a b.yaml'"


def test_sweep_and_trials_come_back_equal(tmp_path, sweep, trials):
    results.write_sweep(tmp_path, sweep, trials)
    assert results.read_sweep(tmp_path) == sweep
    assert results.read_trials(tmp_path) == trials
    assert files_in(tmp_path) == ["sweep.json", "trials.parquet"]


def test_a_sweep_without_trials_and_trials_without_values_are_kept(tmp_path, sweep):
    results.write_sweep(tmp_path, sweep, [])
    assert results.read_trials(tmp_path) == []
    pending = [TrialRecord(trial="t0", params={}, value=None, state="running")]
    results.write_sweep(tmp_path, sweep, pending)
    assert results.read_trials(tmp_path) == pending


def test_records_are_frozen(evaluation):
    with pytest.raises(dataclasses.FrozenInstanceError):
        evaluation().accuracy = 1.0


def test_error_survives_pickling():
    error = pickle.loads(pickle.dumps(RecordError("is bad", where="f.json", remedy="delete it")))
    assert str(error) == "f.json: is bad\n  -> delete it"
    assert error.exit_code == 1


def test_epochs_append_and_a_resumed_one_replaces_its_row(tmp_path):
    for epoch in range(3):
        results.append_epoch(tmp_path, {"epoch": epoch, "loss.total": 3.0 - epoch})
    results.append_epoch(tmp_path, {"epoch": np.int64(1), "loss.total": 9.5, "val.accuracy": np.float32(0.5)})
    assert results.read_epochs(tmp_path) == [
        {"epoch": 0, "loss.total": 3.0, "val.accuracy": None},
        {"epoch": 1, "loss.total": 9.5, "val.accuracy": 0.5},  # later rows were of other weights
    ]
    assert files_in(tmp_path) == ["metrics.parquet"]


def test_a_diverged_loss_is_kept(tmp_path):
    results.append_epoch(tmp_path, {"epoch": 0, "loss.total": math.nan})
    assert math.isnan(results.read_epochs(tmp_path)[0]["loss.total"])


@pytest.mark.parametrize("row", [{}, {"epoch": "1"}, {"epoch": True}, {"epoch": 1.0}, {"epoch": 1, "loss": [1]}])
def test_a_row_that_cannot_be_kept_is_refused(tmp_path, row):
    with pytest.raises(RecordError, match=r"metrics\.parquet"):
        results.append_epoch(tmp_path, row)
    assert files_in(tmp_path) == []


def test_a_column_of_mixed_kinds_is_refused_and_the_file_stays(tmp_path):
    results.append_epoch(tmp_path, {"epoch": 0, "note": "warm"})
    with pytest.raises(RecordError, match="one kind"):
        results.append_epoch(tmp_path, {"epoch": 1, "note": 2})
    assert results.read_epochs(tmp_path) == [{"epoch": 0, "note": "warm"}]


def test_a_damaged_metrics_file_is_named_and_not_overwritten(tmp_path):
    path = results.append_epoch(tmp_path, {"epoch": 0, "loss": 1.0})
    damaged = path.read_bytes()[:-20]
    path.write_bytes(damaged)
    with pytest.raises(RecordError, match=r"metrics\.parquet"):
        results.append_epoch(tmp_path, {"epoch": 1, "loss": 1.0})
    assert path.read_bytes() == damaged
