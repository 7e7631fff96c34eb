"""Calibrate a run: on val, measured on test, kept in a file, and left out where it cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hcl.errors import ConfigError, DataError
from hcl.evaluation.calibration import fit_scale
from hcl.frames.stored_dataset import DataRoot
from orchestration.evaluation.scoring import ensure_tables
from orchestration.prediction import run_calibration
from orchestration.prediction.predict import predict
from orchestration.prediction.rows import record_of
from orchestration.prediction.run_calibration import Calibration, calibrate
from orchestration.training.run_files import BEST
from tests.orchestration.conftest import Command
from tests.orchestration.prediction.conftest import MakeRun
from tests.orchestration.prediction.test_predict import asked, place


@pytest.mark.parametrize("regime", ["hcl", "protonet"])
def test_val_is_fitted_and_test_is_measured(regime: str, inline: None, make_run: MakeRun, video_root: Path) -> None:
    changes = {"train__regime": regime, "train__episode_way": 2, "model__pooled_from": "encoder"}
    folder, experiment = make_run(**(changes if regime != "hcl" else {}))
    found = calibrate(folder, experiment, folder / BEST, data=DataRoot(video_root), runs=folder.parent, shots=(2, 2, 2))
    content = found.content
    assert (content["way"], content["shot"], content["episodes"]) == (2, 2, 30)  # val has three classes: one is absent
    assert content["measured"]["partition"] == "test" and content["measured"]["n"] == 30 * 2 * 2
    assert sum(one["n"] for one in content["measured"]["bins"]) == content["measured"]["n"]
    assert 0 <= content["measured"]["error"] <= 1 and found.scale >= 0
    for errors in (content["val"], content["measured"]["unknown"]):
        assert errors["error"] == pytest.approx((errors["rejected"] + errors["accepted"]) / 2)
    assert len(content["asked"]["tables"]) == 2


def test_it_is_kept_with_weights_and_settings(
    inline: None, make_run: MakeRun, video_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, experiment = make_run()
    where = {"data": DataRoot(video_root), "runs": folder.parent, "shots": (2, 2, 2)}
    first = calibrate(folder, experiment, folder / BEST, **where)
    (file,) = (folder / "predictions").glob("calibration-*.json")
    assert json.loads(file.read_text())["kind"] == "calibration"
    calls: list[object] = []
    monkeypatch.setattr(
        run_calibration, "ensure_tables", lambda *given, **_: (calls.append(given), ensure_tables(*given))[1]
    )
    assert calibrate(folder, experiment, folder / BEST, **where) == first and not calls
    calibrate(folder, experiment, folder / BEST, **{**where, "measured_on": "val"})
    calibrate(folder, make_run(fusion__sigma_global=0.5)[1], folder / BEST, **where)
    assert len(calls) == 2 and len(list((folder / "predictions").glob("calibration-*.json"))) == 3


def test_scores_of_the_episodes_are_those_of_the_fit(inline: None, make_run: MakeRun, video_root: Path) -> None:
    folder, experiment = make_run()
    scored: list[run_calibration.Scored] = []
    original = run_calibration._scored
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_calibration, "_scored", lambda *given: scored.extend(original(*given)) or scored)
        found = calibrate(
            folder, experiment, folder / BEST, data=DataRoot(video_root), runs=folder.parent, shots=(2, 2)
        )
    val, test = scored
    assert val.present.shape == test.present.shape == (120, 2) and val.absent is not None
    assert found.scale == fit_scale(val.present, val.classes)
    rejected = ~found.accepts(val.present)
    assert found.content["val"]["rejected"] == pytest.approx(rejected.mean())
    assert found.content["val"]["accepted"] == pytest.approx(found.accepts(val.absent).mean())


def test_confidences_and_none_of_these_are_in_the_rows(
    inline: None, make_run: MakeRun, video_root: Path, tmp_path: Path
) -> None:
    folder, experiment = make_run()
    support, queries = place(video_root, tmp_path)
    request = asked(folder, experiment, video_root, support, queries, calibrated_on="test")
    found = predict(request)
    record = record_of(request, found)
    assert found.calibration is not None and record.calibration == found.calibration.content
    assert all(1 / 3 <= row["confidence"] <= 1 for row in record.rows)
    strict = Calibration(found.calibration.scale, "score", max(row["score"] for row in record.rows), {})
    rows = record_of(request, found._replace(calibration=strict)).rows
    assert [row["is_none"] for row in rows].count(False) == 1
    assert {row["answer"] for row in rows if row["is_none"]} == {"none of these"}


def test_a_class_named_like_the_answer_keeps_its_name(
    inline: None, make_run: MakeRun, video_root: Path, tmp_path: Path
) -> None:
    folder, experiment = make_run()
    support, queries = place(video_root, tmp_path)
    (support / "hen").rename(support / "none of these")
    request = asked(folder, experiment, video_root, support, queries)
    assert record_of(request, predict(request)).none == "(none of these)"


def test_without_the_data_the_command_says_so_once_and_classifies(
    inline: None, make_run: MakeRun, video_root: Path, tmp_path: Path, hcl: Command
) -> None:
    folder, _ = make_run()
    support, queries = place(video_root, tmp_path)
    words = ["predict", "tiny", "--support", support, "--query", queries, "--runs", folder.parent, "--short-side", 40]
    done = hcl(*words, "--data", tmp_path / "nowhere")
    assert done.code == 0 and done.err.count("no confidence and no `none of these`:") == 1
    with_data = hcl(*words, "--data", video_root)
    assert with_data.code == 0 and "6 queries classified (0 in this call)" in with_data.out
    assert "expected calibration error" in with_data.out and "no confidence" not in with_data.err


def test_a_run_that_saw_val_is_not_calibrated(inline: None, make_run: MakeRun, video_root: Path) -> None:
    folder, experiment = make_run(
        data__protocol="published", data__train_partitions=["train", "val"], data__selection_partition="test"
    )
    with pytest.raises(ConfigError, match="trained on val"):
        calibrate(folder, experiment, folder / BEST, data=DataRoot(video_root), runs=folder.parent, shots=(1, 1))


def test_without_test_it_is_measured_on_val(inline: None, make_run: MakeRun, video_root: Path, tmp_path: Path) -> None:
    folder, experiment = make_run()
    root = tmp_path / "data"
    shutil.copytree(video_root / "splits", root / "splits")
    (root / "images").symlink_to(video_root / "images")
    (root / "splits" / "toy" / "test.list").unlink()
    found = calibrate(folder, experiment, folder / BEST, data=DataRoot(root), runs=folder.parent, shots=(1, 1))
    assert found.content["measured"]["partition"] == "val"
    shutil.rmtree(root / "splits")
    with pytest.raises(DataError):
        calibrate(folder, experiment, folder / BEST, data=DataRoot(root), runs=folder.parent, shots=(1, 1))
