"""Compare predictions of unlisted files with the scores that an evaluation gives to the same episode."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hcl.clips.episodes import Episodes
from hcl.config import Experiment
from hcl.errors import ConfigError, DataError
from hcl.evaluation.scores import LEVELS
from hcl.frames.loose_clips import find_clips, find_support
from hcl.frames.stored_dataset import DataRoot
from orchestration.evaluation.scoring import Mixed, ensure_tables
from orchestration.evaluation.tables import Cell
from orchestration.prediction import predictor
from orchestration.prediction.predict import Found, predict
from orchestration.prediction.request import Asked
from orchestration.training.grids import ensure_grids
from orchestration.training.run_files import BEST
from results.records.predictions import read_predictions
from tests.orchestration.conftest import CLASSES, Command
from tests.orchestration.prediction.conftest import N_VIDEOS, MakeRun

TEST = CLASSES["test"]


def place(root: Path, to: Path, shots: int | dict[str, int] = 2, *, frames: bool = False) -> tuple[Path, Path]:
    """Copy test clips under other names: the first as support, the others as queries in one folder."""
    for name in TEST:
        for index in range(N_VIDEOS):
            n_shots = shots if isinstance(shots, int) else shots[name]
            is_support = index < n_shots
            target = to / "support" / name / f"s{index}" if is_support else to / "queries" / f"{name}-{index}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if frames:
                shutil.copytree(root / "images" / "toy" / name / f"{name}_{index}", target)
            else:
                shutil.copy(root / "videos" / "toy" / name / f"{name}_{index}.avi", target.with_suffix(".avi"))
    return to / "support", to / "queries"


def asked(folder: Path, experiment: Experiment, root: Path, support: Path, queries: Path, **others: Any) -> Asked:
    return Asked(
        folder,
        experiment,
        folder / BEST,
        DataRoot(root),
        folder.parent,
        find_support(support),
        find_clips(queries),
        **{"calibrated_on": None, "n_pictures": 0, **others},
    )


def evaluated(folder: Path, experiment: Experiment, root: Path, shot: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the scores (query, way) of the episode whose support are the first clips of each test class."""
    stored = DataRoot(root).dataset("toy")
    cell = Cell(experiment.train.regime, experiment, stored, stored.effective("test"), folder / BEST)
    clips = np.arange(len(TEST) * N_VIDEOS).reshape(len(TEST), N_VIDEOS)
    episode = Episodes(np.arange(len(TEST))[None], clips[None, :, :shot], clips[None, :, shot:])
    ensure_grids([job for job in [cell.grid_job()] if job], folder.parent)
    if cell.how.reason(shot):
        (scores,) = ensure_tables([], folder.parent, mixed=[Mixed(cell, episode)]).mixed
    else:
        ensure_tables([cell], folder.parent)
        scores = cell.pairwise.look_up(cell.table(folder.parent).read(), episode)
    return cell.how.fuse(scores)[0], {name: values[0] for name, values in scores.items()}


def scores_of(found: Found) -> np.ndarray:
    return np.array([outcome["scores"] for outcome in found.outcomes])


@pytest.mark.parametrize(
    ("changes", "frames", "shot"),
    [
        ({}, False, 2),
        ({"model__train_backbone": True}, False, 2),
        ({"clips__reduced_decoding": True, "clips__size": 32, "clips__resize": "crop"}, False, 1),
        ({"matching__tuple_sizes": [2, 3], "fusion__triples": 0.3, "fusion__over_shots": "max"}, False, 2),
        ({"evaluation__precision": "bfloat16", "fusion__sigma_spatial": 2.0}, False, 3),
        ({}, True, 2),
        ({"train__regime": "protonet", "train__episode_way": 2, "model__pooled_from": "encoder"}, False, 2),
        ({"train__regime": "matching", "train__episode_way": 2, "model__train_backbone": True}, False, 1),
    ],
    ids=str,
)
def test_unlisted_files_get_the_scores_of_an_evaluation(
    changes: dict[str, Any], frames: bool, shot: int, inline: None, make_run: MakeRun, video_root: Path, tmp_path: Path
) -> None:
    folder, experiment = make_run(**changes)
    support, queries = place(video_root, tmp_path, shot, frames=frames)
    found = predict(asked(folder, experiment, video_root, support, queries))
    scores, levels = evaluated(folder, experiment, video_root, shot)
    assert found.n_new == len(scores) == len(TEST) * (N_VIDEOS - shot)
    np.testing.assert_allclose(scores_of(found), scores, rtol=1e-4, atol=1e-5)
    assert scores_of(found).argmax(axis=1).tolist() == scores.argmax(axis=1).tolist()
    for name in found.outcomes[0]["levels"]:
        of_level = [outcome["levels"][name] for outcome in found.outcomes]
        np.testing.assert_allclose(of_level, levels[name], rtol=1e-4, atol=1e-5)
    assert len(np.unique(scores.round(6))) > len(scores)


def test_classes_may_have_different_numbers_of_clips(
    inline: None, make_run: MakeRun, video_root: Path, tmp_path: Path
) -> None:
    """The scores of a class are those in an episode with its number of clips, by one metric for all."""
    folder, experiment = make_run()
    support, queries = place(video_root, tmp_path, dict(zip(TEST, (1, 3, 2), strict=True)))
    found = predict(asked(folder, experiment, video_root, support, queries))
    euclidean, _ = make_run(matching__metric="euclidean"), None
    for way, shot in enumerate((1, 3, 2)):
        scores, _ = evaluated(folder, euclidean[1], video_root, shot)
        last = scores.reshape(len(TEST), N_VIDEOS - shot, -1)[:, -1, way]  # the last video is a query at every shot
        ends = np.cumsum([N_VIDEOS - other for other in (1, 3, 2)]) - 1
        np.testing.assert_allclose(scores_of(found)[ends, way], last, rtol=1e-4, atol=1e-5)


def test_a_pooled_head_needs_equal_numbers(inline: None, make_run: MakeRun, video_root: Path, tmp_path: Path) -> None:
    folder, experiment = make_run(train__regime="protonet", train__episode_way=2, model__pooled_from="encoder")
    support, queries = place(video_root, tmp_path, dict(zip(TEST, (1, 3, 2), strict=True)))
    with pytest.raises(ConfigError, match="same number of clips of each class: hen 1, ibis 3, jay 2"):
        predict(asked(folder, experiment, video_root, support, queries))


def test_a_mode_that_mixes_the_clips_of_an_episode_is_refused(
    inline: None, make_run: MakeRun, video_root: Path, tmp_path: Path
) -> None:
    folder, experiment = make_run(matching__swap_shot_axes=True)
    support, queries = place(video_root, tmp_path, 2)
    with pytest.raises(ConfigError, match="deviation 5"):
        predict(asked(folder, experiment, video_root, support, queries))


def test_views_are_averaged(inline: None, make_run: MakeRun, video_root: Path, tmp_path: Path) -> None:
    """Random views differ from an evaluation's, which numbers the clips of a partition, but not between calls."""
    folder, experiment = make_run(evaluation__views=2)
    support, queries = place(video_root, tmp_path, 2)
    request = asked(folder, experiment, video_root, support, queries)
    first = scores_of(predict(request))
    shutil.rmtree(folder.parent / "cache")
    np.testing.assert_allclose(scores_of(predict(request)), first, rtol=1e-6)


def test_a_repeated_command_classifies_what_is_missing(
    inline: None, make_run: MakeRun, video_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, experiment = make_run()
    support, queries = place(video_root, tmp_path)
    request = asked(folder, experiment, video_root, support, queries)
    whole = predict(request)
    assert whole.n_new == 6
    (lines,) = folder.parent.glob("cache/predictions/*/answers.jsonl")
    content = lines.read_bytes().splitlines(keepends=True)
    lines.write_bytes(
        b"".join([*content[:2], content[2].replace(b"1", b"2", 3), content[3], content[4], content[5][:9]])
    )
    again = predict(request)
    assert again.n_new == 2 and again.outcomes == whole.outcomes
    done: list[Any] = []
    monkeypatch.setattr(predictor.Predictor, "work", lambda self, job: done.append(job))
    renamed = queries.rename(tmp_path / "renamed")
    assert predict(asked(folder, experiment, video_root, support, renamed)).outcomes == whole.outcomes and not done


@pytest.mark.parametrize("changed", ["weights", "support", "class", "setting"])
def test_answers_depend_on_all_but_the_query(
    changed: str, inline: None, make_run: MakeRun, video_root: Path, tmp_path: Path
) -> None:
    folder, experiment = make_run()
    support, queries = place(video_root, tmp_path)
    predict(asked(folder, experiment, video_root, support, queries))
    if changed == "weights":
        make_run(seed=5)
    elif changed == "support":
        (support / "hen" / "s0.avi").unlink()
    elif changed == "class":
        (support / "hen").rename(support / "hens")
    else:
        _, experiment = make_run(fusion__sigma_spatial=0.0)
    assert predict(asked(folder, experiment, video_root, support, queries)).n_new == 6


def test_a_damaged_feature_file_is_made_again(
    inline: None, make_run: MakeRun, video_root: Path, tmp_path: Path
) -> None:
    folder, experiment = make_run()
    support, queries = place(video_root, tmp_path)
    whole = predict(asked(folder, experiment, video_root, support, queries))
    (lines,) = folder.parent.glob("cache/predictions/*/answers.jsonl")
    lines.unlink()
    damaged = sorted(folder.parent.glob("cache/predictions/support/*.npz"))[0]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert predict(asked(folder, experiment, video_root, support, queries)).outcomes == whole.outcomes


def test_a_query_that_cannot_be_read_costs_a_row(
    inline: None, make_run: MakeRun, video_root: Path, tmp_path: Path
) -> None:
    folder, experiment = make_run()
    support, queries = place(video_root, tmp_path)
    (queries / "a.mp4").write_bytes(b"no video")
    (queries / "b.mp4").write_bytes(b"")
    (queries / "c").mkdir()
    (queries / "c" / "1.jpg").write_bytes(b"no image")
    shutil.copy(support / "hen" / "s1.avi", queries / "d.avi")
    found = predict(asked(folder, experiment, video_root, support, queries))
    assert [bool(outcome.get("reason")) for outcome in found.outcomes] == [True] * 3 + [False] * 7
    assert found.outcomes[1]["reason"] == "the file is empty" and found.n_new == 7
    assert found.outcomes[3]["note"].endswith("support/hen/s1.avi") and np.argmax(found.outcomes[3]["scores"]) == 0


def test_a_support_clip_that_cannot_be_read_is_named(
    inline: None, make_run: MakeRun, video_root: Path, tmp_path: Path
) -> None:
    folder, experiment = make_run()
    support, queries = place(video_root, tmp_path)
    (support / "jay" / "s9.avi").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"1 clip\(s\) of the support cannot be read: .*support"):
        predict(asked(folder, experiment, video_root, support, queries))
    shutil.copy(support / "hen" / "s0.avi", support / "jay" / "s9.avi")
    with pytest.raises(DataError, match=r"s9.avi: has the content of .*s0.avi, but it is labelled 'jay'"):
        predict(asked(folder, experiment, video_root, support, queries))
    (support / "jay" / "s9.avi").unlink()
    assert predict(asked(folder, experiment, video_root, support, queries)).n_new == 6


def test_the_command_writes_a_row_a_query(
    inline: None, make_run: MakeRun, video_root: Path, tmp_path: Path, hcl: Command
) -> None:
    folder, _ = make_run()
    support, queries = place(video_root, tmp_path)
    shutil.copy(queries / "hen-2.avi", tmp_path / "=1+1.avi")
    (tmp_path / "empty.avi").write_bytes(b"")
    places = ["--support", support, "--data", video_root, "--runs", folder.parent, "--no-calibration"]
    done = hcl("predict", "tiny", *places, "--query", "=1+1.avi", queries / "hen-3.avi", "empty.avi", "--to", "results")
    assert done.code == 0, done.err
    assert "2 queries classified (2 in this call), 1 of 3 could not be read" in done.out
    record = read_predictions(tmp_path / "results")
    assert [row["query"] for row in record.rows] == ["=1+1.avi", str(queries / "hen-3.avi"), "empty.avi"]
    first = record.rows[0]
    assert first["score"] == max(first["scores"].values()) == first["scores"][first["answer"]]
    assert first["margin"] >= 0 and first["confidence"] is None and set(first["levels"]) == set(LEVELS)
    lines = (tmp_path / "results" / "predictions.csv").read_text().splitlines()
    assert len(lines) == 4 and lines[1].startswith("'=1+1.avi,ok,") and lines[3].endswith("the file is empty")
    nothing = hcl("predict", "tiny", *places, "--query", "empty.avi")
    assert nothing.code == 1 and "no query could be read" in nothing.err
    assert hcl("predict", "tiny", *places).code == 2


@pytest.mark.ray
def test_actors_give_the_answers_of_this_process(
    local_ray: ModuleType, make_run: MakeRun, video_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, experiment = make_run()
    support, queries = place(video_root, tmp_path)
    monkeypatch.setattr("orchestration.prediction.predict.n_workers_available", lambda *_, **__: 2)
    found = predict(asked(folder, experiment, video_root, support, queries))
    scores, _ = evaluated(folder, experiment, video_root, 2)
    np.testing.assert_allclose(scores_of(found), scores, rtol=1e-4, atol=1e-5)
