"""Folders of runs and sweeps become frames; what cannot be read is named and left out."""

from __future__ import annotations

import pytest

import results


@pytest.fixture
def runs(tmp_path, evaluation, sweep, trials):
    for name, accuracy in (("first", 0.3), ("second", 0.6)):
        run = tmp_path / name
        results.write_provenance(
            run, results.collect_provenance("hcl train", packages=["numpy"], seeds={"experiment": 5})
        )
        results.append_epoch(run, {"epoch": 0, "loss.total": 2.0})
        results.append_epoch(run, {"epoch": 1, "loss.total": 1.0, "val.accuracy": accuracy})
        for shot in (1, 5):
            results.write_evaluation(run, evaluation(shot=shot, accuracy=accuracy, levels={"global": 0.2}))
    results.write_sweep(tmp_path / "sigma", sweep, trials)
    return tmp_path


def test_frames_hold_every_record(runs):
    found = results.load(str(runs / "*"))
    assert found.skipped == ()
    assert list(found.runs["run"]) == ["first", "second"]
    assert set(found.runs["seeds.experiment"]) == {5} and found.runs["versions.numpy"].notna().all()
    assert found.evaluations[["run", "shot", "accuracy", "levels.global"]].values.tolist() == [
        ["first", 1, 0.3, 0.2], ["first", 5, 0.3, 0.2], ["second", 1, 0.6, 0.2], ["second", 5, 0.6, 0.2],
    ]  # fmt: skip
    assert found.epochs.groupby("run")["loss.total"].sum().to_dict() == {"first": 3.0, "second": 3.0}
    assert list(found.trials["trial"]) == ["t0", "t1", "t2", "t3"]
    assert list(found.trials["params.loss.sigma_ce"]) == [0.5, 0.25, 1.0, 2.0]
    assert set(found.trials["objective"]) == {"val.accuracy"} and set(found.trials["mode"]) == {"max"}
    assert found.sweeps["best_trial"].tolist() == ["t1"]


def test_a_folder_of_runs_a_glob_and_a_list_find_the_same(runs):
    by_folder = results.load(runs)
    by_list = results.load([runs / "first", str(runs / "second"), runs / "sigma", runs / "first"])
    assert by_folder.evaluations.equals(results.load(f"{runs}/*").evaluations)
    assert by_folder.evaluations.equals(by_list.evaluations)


def test_damaged_and_foreign_files_are_named_and_the_rest_is_read(runs):
    evaluation_dir = runs / "first" / "evaluation"
    damaged = [
        evaluation_dir / "broken.json", evaluation_dir / "foreign.json", runs / "first" / "metrics.parquet",
        runs / "second" / "provenance.json", runs / "sigma" / "trials.parquet",
    ]  # fmt: skip
    damaged[0].write_text('{"kind": "eval')
    damaged[1].write_text('{"name": "package.json of something else"}')
    damaged[2].write_bytes(damaged[2].read_bytes()[:50])
    damaged[3].write_text("[]")
    damaged[4].write_bytes((runs / "second" / "metrics.parquet").read_bytes())
    (evaluation_dir / ".half.tmp").write_text("{")
    found = results.load(runs)
    assert {entry.file for entry in found.skipped} == {str(path) for path in damaged}
    assert all(entry.reason for entry in found.skipped)
    assert len(found.evaluations) == 4 and set(found.epochs["run"]) == {"second"} and found.trials.empty
    assert list(found.runs["run"]) == ["first", "second"]


def test_reason_names_the_field(runs):
    path = next((runs / "first" / "evaluation").glob("*.json"))
    path.write_text(path.read_text().replace('"accuracy": 0.3', '"accuracy": 30'))
    (skipped,) = results.load(runs).skipped
    assert skipped == (str(path), "accuracy: expected a value in [0, 1], got 30")


def test_a_folder_without_records_is_named(runs):
    (runs / "notes").mkdir()
    found = results.load(f"{runs}/*")
    assert [(entry.file, entry.reason) for entry in found.skipped] == [
        (str(runs / "notes"), "neither a run nor a sweep")
    ]


def test_runs_of_one_name_in_two_folders_stay_apart(runs, evaluation):
    results.write_evaluation(runs / "elsewhere" / "first", evaluation(accuracy=0.9))
    found = results.load([runs / "first", runs / "elsewhere" / "first"])
    assert found.runs["run"].tolist() == ["first", str(runs / "elsewhere" / "first")]
    assert found.evaluations.groupby("run")["accuracy"].max().tolist() == [0.9, 0.3]


def test_folder_names_that_look_like_patterns_or_partitions(tmp_path, evaluation):
    run = tmp_path / "lr=[1e-3]*: a"
    results.append_epoch(run, {"epoch": 0, "loss": 1.0})
    (run / "evaluation").mkdir()
    (run / "evaluation" / "bad.json").write_text("")
    found = results.load(run)
    assert list(found.epochs.columns) == ["run", "epoch", "loss"]
    assert found.skipped[0].file == str(run / "evaluation" / "bad.json")


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(results.RecordError, match="matches nothing"):
        results.load(str(tmp_path / "none*"))


def test_an_empty_run_has_empty_frames_with_their_columns(tmp_path):
    (tmp_path / "evaluation").mkdir()
    found = results.load(tmp_path)
    assert found.evaluations.empty and {"shot", "accuracy", "ci95", "protocol"} <= set(found.evaluations.columns)
    assert found.trials.empty and {"sweep", "value", "state"} <= set(found.trials.columns)
