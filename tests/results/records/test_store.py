"""Test that folders of runs and studies become frames; unreadable files are named and left out."""

from __future__ import annotations

import pytest

import results
from tests.results.conftest import made


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
    loaded = results.load(str(runs / "*"))
    assert loaded.skipped == ()
    assert list(loaded.runs["run"]) == ["first", "second"]
    assert set(loaded.runs["seeds.experiment"]) == {5} and loaded.runs["versions.numpy"].notna().all()
    assert loaded.evaluations[["run", "shot", "accuracy", "levels.global"]].values.tolist() == [
        ["first", 1, 0.3, 0.2], ["first", 5, 0.3, 0.2], ["second", 1, 0.6, 0.2], ["second", 5, 0.6, 0.2],
    ]  # fmt: skip
    assert loaded.epochs.groupby("run")["loss.total"].sum().to_dict() == {"first": 3.0, "second": 3.0}
    assert list(loaded.trials["trial"]) == ["t0", "t1", "t2", "t3"]
    assert list(loaded.trials["params.loss.sigma_ce"]) == [0.5, 0.25, 1.0, 2.0]
    assert set(loaded.trials["objective"]) == {"val.accuracy"} and set(loaded.trials["mode"]) == {"max"}
    assert loaded.sweeps["best_trial"].tolist() == ["t1"]


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
    loaded = results.load(runs)
    assert {entry.file for entry in loaded.skipped} == {str(path) for path in damaged}
    assert all(entry.reason for entry in loaded.skipped)
    assert len(loaded.evaluations) == 4 and set(loaded.epochs["run"]) == {"second"} and loaded.trials.empty
    assert list(loaded.runs["run"]) == ["first", "second"]


def test_reason_names_the_field(runs):
    path = next((runs / "first" / "evaluation").glob("*.json"))
    path.write_text(path.read_text().replace('"accuracy": 0.3', '"accuracy": 30'))
    (skipped,) = results.load(runs).skipped
    assert skipped == (str(path), "accuracy: expected a value in [0, 1], got 30")


def test_a_folder_without_records_is_named(runs):
    (runs / "notes").mkdir()
    loaded = results.load(f"{runs}/*")
    assert [(entry.file, entry.reason) for entry in loaded.skipped] == [
        (str(runs / "notes"), "neither a run nor a sweep")
    ]


def test_runs_of_one_name_in_two_folders_stay_apart(runs, evaluation):
    results.write_evaluation(runs / "elsewhere" / "first", evaluation(accuracy=0.9))
    loaded = results.load([runs / "first", runs / "elsewhere" / "first"])
    assert loaded.runs["run"].tolist() == ["first", str(runs / "elsewhere" / "first")]
    assert loaded.evaluations.groupby("run")["accuracy"].max().tolist() == [0.9, 0.3]


def test_folder_names_that_look_like_patterns_or_partitions(tmp_path, evaluation):
    run = tmp_path / "lr=[1e-3]*: a"
    results.append_epoch(run, {"epoch": 0, "loss": 1.0})
    (run / "evaluation").mkdir()
    (run / "evaluation" / "bad.json").write_text("")
    loaded = results.load(run)
    assert list(loaded.epochs.columns) == ["run", "epoch", "loss"]
    assert loaded.skipped[0].file == str(run / "evaluation" / "bad.json")


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(results.RecordError, match="matches nothing"):
        results.load(str(tmp_path / "none*"))


def test_an_empty_run_has_empty_frames_with_their_columns(tmp_path):
    (tmp_path / "evaluation").mkdir()
    loaded = results.load(tmp_path)
    assert loaded.evaluations.empty and {"shot", "accuracy", "ci95", "protocol"} <= set(loaded.evaluations.columns)
    assert loaded.trials.empty and {"sweep", "value", "state"} <= set(loaded.trials.columns)


def test_episodes_are_read_when_asked_for(kept, evaluation, tmp_path):
    outcomes = made(0.7)
    kept("one", outcomes)
    kept("one", made(0.5, seed=1), method="prototype")
    results.write_evaluation(tmp_path / "old", evaluation(run="old", method="without answers"))
    loaded = results.load(tmp_path)
    assert "episodes" not in vars(loaded)
    frame = loaded.episodes
    assert len(frame) == 600 and set(frame["method"]) == {"hcl", "prototype"}
    of_hcl = frame[frame["method"] == "hcl"]
    assert of_hcl["accuracy"].tolist() == outcomes.accuracies.tolist()
    assert of_hcl["episode"].tolist() == list(range(300))
    means = frame.groupby("method", observed=True)["accuracy"].mean()
    for record in loaded.evaluations[loaded.evaluations["run"] == "one"].to_dict("records"):
        assert means[record["method"]] == pytest.approx(record["accuracy"])
    assert loaded.episodes is frame and frame.attrs["skipped"] == []


def test_damaged_answers_are_named_and_the_others_are_rows(kept, tmp_path):
    kept("one", made(0.7))
    kept("two", made(0.5))
    damaged = next((tmp_path / "one" / "evaluation").glob("hcl*.npz"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    frame = results.load(tmp_path).episodes
    assert set(frame["run"]) == {"two"}
    [skipped] = frame.attrs["skipped"]
    assert skipped.file == str(damaged) and "holds no outcomes" in skipped.reason


def test_episodes_of_nothing_are_an_empty_frame(tmp_path):
    (tmp_path / "evaluation").mkdir()
    frame = results.load(tmp_path).episodes
    assert frame.empty and {"run", "method", "episode", "accuracy"} <= set(frame.columns)


@pytest.mark.parametrize("uri", ["s3://bucket/runs/*", "gs://bucket/runs", "file:///tmp"])
def test_a_uri_is_told_apart_from_a_missing_folder(uri):
    with pytest.raises(results.RecordError, match="is a URI(.|\n)*copy the runs"):
        results.load(uri)


def test_what_lies_beside_runs_is_not_foreign(runs):
    (runs / "cache" / "scores").mkdir(parents=True)
    assert results.load(f"{runs}/*").skipped == ()


def test_settings_of_an_evaluation_are_one_text(tmp_path, evaluation):
    made_so = ["evaluation.shots=[1, 5]", "fusion.sigma_global=2"]
    path = results.write_evaluation(tmp_path, evaluation(settings=made_so, versions={"torch": "2"}))
    assert results.read_evaluation(path).settings == made_so
    [row] = results.load(tmp_path).evaluations.to_dict("records")
    assert row["settings"] == "evaluation.shots=[1, 5] fusion.sigma_global=2" and row["versions.torch"] == "2"
