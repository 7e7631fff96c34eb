"""Compare score tables of actors with the same episodes scored one by one in this process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import results
from hcl.assembly import arguments, inputs, models
from hcl.clips.dataset import ClipDataset
from hcl.clips.episode_files import EpisodeList
from hcl.clips.episodes import Episodes, sample_episodes
from hcl.clips.grids import GridDataset
from hcl.config import Experiment
from hcl.config.resolve import override
from hcl.datasets.splits import Partition
from hcl.evaluation.scores import Levels, accuracies, fused, score_episode
from hcl.frames.store import FrameStore
from hcl.frames.stored_dataset import DataRoot, StoredDataset
from hcl.models.checkpoint import file_digest, load_checkpoint, load_model
from hcl.models.hcl import HCL
from orchestration.evaluation import scorer, scoring, tables
from orchestration.evaluation.evaluate import Answers, evaluate
from orchestration.evaluation.questions import Target, encodings, one_by_one_notes, questions_of
from orchestration.evaluation.work import plan
from orchestration.training.run import Run
from orchestration.training.run_files import BEST, LAST
from results.records.outcomes import read_questions
from tests.orchestration.conftest import tiny_experiment, tree

METHODS = ("hcl", "untrained", "random", "prototype")  # other matchers: test_matchers.py


@pytest.fixture(autouse=True)
def one_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use one actor, because each loads torch in a process of its own; `records` has two."""
    monkeypatch.setattr(scoring, "n_workers_available", lambda *_, **__: 1)
    monkeypatch.setattr("orchestration.training.grids.n_workers_available", lambda *_, **__: 1)


@pytest.fixture(scope="module")
def run_folder(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the trained run, because evaluation writes into it."""
    folder = tmp_path_factory.mktemp("evaluated") / "tiny"
    shutil.copytree(trained.folder, folder)
    return folder


@pytest.fixture(scope="module")
def experiment(trained: Run) -> Experiment:
    return override(trained.experiment, {"evaluation.datasets": ["toy", "other"]})


def answers_of(
    folder: Path, experiment: Experiment, data_root: Path, runs: Path, methods: tuple[str, ...] = ("hcl",)
) -> Answers:
    return evaluate(questions_of([Target(folder, experiment, methods=methods)], DataRoot(data_root)), runs=runs)


@pytest.fixture(scope="module")
def records(
    run_folder: Path, experiment: Experiment, trained: Run, data_root: Path
) -> Iterator[list[results.EvaluationRecord]]:
    """Evaluate all methods on two data sets at 1 and 3 shots."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scoring, "n_workers_available", lambda *_, **__: 2)
        answers = answers_of(run_folder, experiment, data_root, trained.runs, tuple(METHODS))
        assert answers.n_encoded == 2 * 4 * 15
        yield answers.records


def episodes_of(experiment: Experiment, partition: Partition, shot: int) -> Episodes:
    evaluation = experiment.evaluation
    return sample_episodes(
        partition.labels,
        way=evaluation.way,
        shot=shot,
        queries=evaluation.queries,
        episodes=evaluation.episodes,
        seed=evaluation.seed,
        overlapping=evaluation.overlapping,
    )


def clips_of(experiment: Experiment, data_root: Path, partition: Partition) -> ClipDataset:
    frames = FrameStore(data_root / "images" / partition.dataset)
    return inputs.make_dataset(experiment, frames, partition, training=False)


def directly(
    experiment: Experiment, model: HCL, clips: Any, episodes: Episodes
) -> tuple[np.ndarray, dict[str, np.ndarray], Levels]:
    """Return each episode's accuracy, fused and by level, and its levels; each episode encodes all its clips again."""
    model.eval()
    defects = arguments.defects(experiment)
    each = []
    for support, query in zip(episodes.support, episodes.query, strict=True):
        batch = torch.stack([clips[int(index)] for index in [*support.ravel(), *query.ravel()]])
        with torch.no_grad():
            hidden, rows = model.tokens(batch)
            features = model.heads(hidden, rows, project=experiment.matching.project_at_test)
        each.append(
            score_episode(
                features,
                way=episodes.way,
                shot=episodes.shot,
                metric=experiment.matching.metric,
                swap_axes=defects.swap_shot_axes,
                **arguments.test_matching(experiment),
            )
        )
    levels = Levels(*(np.stack(level) for level in zip(*each, strict=True)))
    n_queries = episodes.query.shape[2]
    by_level = zip(("global", "temporal", "spatial"), levels, strict=True)
    return (
        accuracies(fused(levels, arguments.sigmas_of_fusion(experiment)), n_queries),
        {name: accuracies(level, n_queries) for name, level in by_level},
        levels,
    )


def model_of(method: str, experiment: Experiment, checkpoint: Path) -> HCL:
    if method != "hcl":
        return models.make_model(experiment, 2, random_weights=method == "random")
    model = models.make_model(experiment, 4, random_weights=True)
    load_model(model, load_checkpoint(checkpoint)["model"], source="the test")
    return model


def one_of(records: list[results.EvaluationRecord], **wanted: Any) -> results.EvaluationRecord:
    [match] = [record for record in records if all(getattr(record, name) == value for name, value in wanted.items())]
    return match


@pytest.mark.ray
def test_every_cell_has_a_record_with_what_names_it(
    records: list[results.EvaluationRecord], experiment: Experiment, run_folder: Path, data_root: Path
) -> None:
    cells = {(record.method, record.dataset, record.shot) for record in records}
    assert cells == {(method, dataset, shot) for method in METHODS for dataset in ("toy", "other") for shot in (1, 3)}
    assert len(records) == len(cells)
    for record in records:
        partition = StoredDataset(data_root, record.dataset).partition("test")
        assert (record.run, record.train_dataset, record.partition) == ("tiny", "toy", "test")
        assert (record.way, record.queries, record.episodes, record.seed) == (2, 2, 30, 0)
        assert (record.n_clips, record.n_classes, record.protocol, record.mode) == (15, 3, "standard", "corrected")
        assert record.experiment_digest == experiment.digest()
        episode_list = EpisodeList.of(partition, episodes_of(experiment, partition, record.shot), seed=0)
        assert record.episodes_digest == episode_list.digest()
        questions = read_questions(run_folder / "evaluation", record.episodes_digest)
        assert questions.class_names == partition.classes
        assert 0 <= record.accuracy <= 1 and record.ci95 > 0 and record.created and record.seconds > 0
        assert record.checkpoint_digest == (file_digest(run_folder / BEST) if record.method == "hcl" else "")
        cosine = record.shot == 1 and record.method != "prototype"
        assert record.metric == ("cosine" if cosine else "euclidean")
        assert record.settings == ['evaluation.datasets=["toy", "other"]'] and "torch" in record.versions
    on_disk = [results.read_evaluation(path) for path in (run_folder / "evaluation").glob("*.json")]
    assert sorted(map(repr, on_disk)) == sorted(map(repr, records))


@pytest.mark.ray
@pytest.mark.parametrize("method", ["hcl", "untrained", "random"])
@pytest.mark.parametrize("dataset", ["toy", "other"])
def test_accuracies_are_those_of_episodes_scored_one_by_one(
    method: str,
    dataset: str,
    records: list[results.EvaluationRecord],
    experiment: Experiment,
    run_folder: Path,
    data_root: Path,
    frozen_clips: Any,
) -> None:
    partition = StoredDataset(data_root, dataset).partition("test")
    model, clips = model_of(method, experiment, run_folder / BEST), frozen_clips(method, dataset)
    for shot in (1, 3):
        each, levels, _ = directly(experiment, model, clips, episodes_of(experiment, partition, shot))
        record = one_of(records, method=method, dataset=dataset, shot=shot)
        mean, ci95 = results.mean_and_ci95(each)
        assert (record.accuracy, record.ci95) == pytest.approx((mean, ci95), abs=1e-9)
        assert record.levels == pytest.approx({name: float(values.mean()) for name, values in levels.items()})


@pytest.fixture(scope="module")
def frozen_clips(trained: Run, experiment: Experiment, data_root: Path) -> Any:
    """Return the clips of a data set as a frozen backbone's model gets them: cached half-precision grids."""

    def clips(method: str, dataset: str) -> Any:
        partition = StoredDataset(data_root, dataset).partition("test")
        cell = tables.Cell(method, experiment, StoredDataset(data_root, dataset), partition)
        return GridDataset(cell.grid_job().store(trained.runs))

    return clips


@pytest.mark.ray
def test_prototype_is_the_nearest_mean_of_frame_features(
    records: list[results.EvaluationRecord], experiment: Experiment, data_root: Path, frozen_clips: Any
) -> None:
    partition, grids = StoredDataset(data_root, "toy").partition("test"), frozen_clips("prototype", "toy")
    vectors = torch.stack([grids[index].float().mean(dim=(-1, -2)).flatten() for index in range(len(grids))])
    vectors = torch.nn.functional.normalize(vectors, dim=-1)
    for shot in (1, 3):
        episodes = episodes_of(experiment, partition, shot)
        right = []
        for support, query in zip(episodes.support, episodes.query, strict=True):
            means = torch.stack([vectors[clips].mean(dim=0) for clips in support])
            nearest = torch.cdist(vectors[query.ravel()].double(), means.double()).argmin(dim=1).reshape(query.shape)
            right.append((nearest == torch.arange(2)[:, None]).float().mean().item())
        record = one_of(records, method="prototype", dataset="toy", shot=shot)
        assert record.accuracy == pytest.approx(np.mean(right), abs=0.02)  # a near tie may fall the other way
        assert record.levels == {}


@pytest.mark.ray
def test_the_same_command_again_reads_the_tables(
    records: list[results.EvaluationRecord],
    experiment: Experiment,
    run_folder: Path,
    trained: Run,
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other sigmas, another metric or other episodes do not score a pair again either."""
    monkeypatch.setattr(scoring, "map_actors", lambda *_, **__: pytest.fail("an actor was started"))
    monkeypatch.setattr("orchestration.training.grids.map_actors", lambda *_, **__: pytest.fail("an actor was started"))
    again = answers_of(run_folder, experiment, data_root, trained.runs, tuple(METHODS))
    assert [record.accuracy for record in again.records] == [
        record.accuracy for record in records
    ] and again.n_encoded == 0
    changes = {
        "fusion.sigma_spatial": 3.0,
        "matching.metric": "euclidean",
        "evaluation.seed": 5,
        "evaluation.shots": [2],
    }
    other = answers_of(run_folder, override(experiment, changes), data_root, trained.runs, tuple(METHODS)).records
    assert {record.shot for record in other} == {2} and {record.metric for record in other} == {"euclidean"}


@pytest.mark.ray
def test_other_numbers_of_kept_tuples_score_again_without_encoding(
    records: list[results.EvaluationRecord], experiment: Experiment, run_folder: Path, trained: Run, data_root: Path
) -> None:
    fewer = override(experiment, {"matching.top_patches": 2, "evaluation.datasets": ["toy"], "evaluation.shots": [1]})
    questions = questions_of([Target(run_folder, fewer)], DataRoot(data_root))
    [work] = plan(questions, trained.runs)
    assert (work.views_to_encode, work.pairs_to_score) == (0, 225)
    assert "0 to encode" in work.text() and "225 pairs to score" in work.text()
    answers = evaluate(questions, runs=trained.runs)
    assert answers.n_encoded == 0
    summary = encodings(questions, answers.n_encoded)
    assert summary == "encoded 0 of 15 clips, an evaluation episode by episode would encode 180"  # 30 x 2 x (1 + 2)


class Mortal(scorer.Scorer):
    """Score with a process that dies once during the work, and note the scored tiles."""

    def score(self, cell: tables.Cell, tile: tables.Tile) -> None:
        mark = self.runs / "killed"
        with (self.runs / "scored").open("a") as file:
            file.write(f"{tile}\n")
        if tile.row > 0:
            with suppress(FileExistsError):  # of two actors at the same place one dies
                mark.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        super().score(cell, tile)


@pytest.mark.ray
def test_one_of_two_actors_is_killed_and_costs_its_tile_alone_and_changes_no_byte(
    records: list[results.EvaluationRecord],
    experiment: Experiment,
    run_folder: Path,
    trained: Run,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "Scorer", Mortal)
    monkeypatch.setattr(scoring, "n_workers_available", lambda *_, **__: 2)
    shutil.copytree(trained.runs / "cache" / "grids", tmp_path / "cache" / "grids")
    new_records = answers_of(run_folder, experiment, data_root, tmp_path).records
    assert (tmp_path / "killed").exists()
    scored = (tmp_path / "scored").read_text().splitlines()
    # Two data sets; the running tile is scored again, and the one before it if its answer died with the actor.
    assert len(set(scored)) == 16 and len(scored) - 2 * 16 in (1, 2)
    for record in new_records:
        expected = one_of(records, method="hcl", dataset=record.dataset, shot=record.shot)
        assert (record.accuracy, record.levels) == (expected.accuracy, expected.levels)
    made = tree(tmp_path / "cache" / "scores")
    assert made and all(name.endswith(".npz") for name in made)  # no tile is left
    for name in made:
        ours, theirs = (np.load(folder / "cache" / "scores" / name) for folder in (tmp_path, trained.runs))
        for key in theirs.files:
            np.testing.assert_array_equal(ours[key], theirs[key])


@pytest.mark.ray
def test_a_killed_driver_goes_on_with_what_is_on_disk(
    local_ray: ModuleType, experiment: Experiment, run_folder: Path, data_root: Path, trained: Run, tmp_path: Path
) -> None:
    """The driver is another process on the same Ray; it dies when the first tiles exist."""
    runs = tmp_path / "runs"
    shutil.copytree(trained.runs / "cache" / "grids", runs / "cache" / "grids")
    shutil.copytree(run_folder, runs / "tiny", ignore=shutil.ignore_patterns("evaluation"))
    address = local_ray.get_runtime_context().gcs_address
    words = ["evaluate", "tiny", "--data", data_root, "--runs", runs, "--method", "untrained", "--address", address]
    program = [sys.executable, "-c", "from orchestration.cli import main; main()", *map(str, words)]
    driver = subprocess.Popen(program, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while not (kept := tiles_in(runs)) and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        driver.kill()
        driver.wait()
    assert kept, "the driver ended before a tile was there to be kept"
    wanted = override(experiment, {"evaluation.datasets": ["toy"]})
    before = {path: path.stat().st_mtime_ns for path in (runs / "cache" / "features").rglob("*.npy")}
    questions = questions_of([Target(runs / "tiny", wanted, methods=("untrained",))], DataRoot(data_root))
    answers = evaluate(questions, runs=runs)
    assert answers.n_encoded == 0 and before == {path: path.stat().st_mtime_ns for path in before}
    again = questions_of([Target(run_folder, wanted, methods=("untrained",))], DataRoot(data_root))
    expected = evaluate(again, runs=trained.runs)
    assert [record.accuracy for record in answers.records] == [record.accuracy for record in expected.records]


def tiles_in(runs: Path) -> list[Path]:
    return list((runs / "cache" / "scores").glob("*/pairs-*.npz"))


@pytest.mark.ray
def test_views_are_averaged(local_ray: ModuleType, data_root: Path, tmp_path: Path) -> None:
    """For three random views of each clip, the levels of an episode are the mean of those of each view."""
    experiment = tiny_experiment(
        evaluation__views=3, evaluation__shots=[2], evaluation__episodes=6, model__train_backbone=True
    )
    answers = answers_of(tmp_path / "tiny", experiment, data_root, tmp_path, ("untrained",))
    assert answers.n_encoded == 45
    partition = StoredDataset(data_root, "toy").partition("test")
    frames = FrameStore(data_root / "images" / "toy")
    clips = inputs.make_dataset(experiment, frames, partition, training=False, random_views=True)
    model, episodes = model_of("untrained", experiment, tmp_path), episodes_of(experiment, partition, 2)
    each = []
    for view in range(3):
        read = [clips[inputs.test_draws(clip, 3)[view]] for clip in range(len(clips))]
        each.append(directly(experiment, model, read, episodes)[2])
    assert not np.allclose(each[0].global_, each[1].global_)
    mean = Levels(*(np.mean(level, axis=0) for level in zip(*each, strict=True)))
    expected = accuracies(fused(mean, arguments.sigmas_of_fusion(experiment)), 2)
    assert answers.records[0].accuracy == pytest.approx(expected.mean(), abs=1e-9)


@pytest.mark.ray
def test_half_precision_is_kept_in_half_the_bytes_and_answers_nearly_alike(
    records: list[results.EvaluationRecord], experiment: Experiment, run_folder: Path, trained: Run, data_root: Path
) -> None:
    half = override(experiment, {"evaluation.precision": "bfloat16", "evaluation.datasets": ["toy"]})
    questions = questions_of([Target(run_folder, half)], DataRoot(data_root))
    found = evaluate(questions, runs=trained.runs).records
    [cell] = dict.fromkeys(question.cell for question in questions)
    full = tables.Cell("hcl", experiment, cell.stored, cell.partition, cell.checkpoint)
    sizes = [
        {path.name: path.stat().st_size for path in one.features(trained.runs).folder.rglob("clips-0/*.npy")}
        for one in (cell, full)
    ]
    assert sizes[0]["patches-0.npy"] - 128 == (sizes[1]["patches-0.npy"] - 128) / 2
    on_disk = sum(values for values in sizes[1].values()) - 128 * len(sizes[1])
    assert on_disk == full.feature_bytes()  # the clips are one block
    for one in found:
        levels = one_of(records, method="hcl", dataset="toy", shot=one.shot).levels
        assert {name: one.levels[name] for name in ("global", "temporal")} == {
            name: levels[name] for name in ("global", "temporal")
        }
    ours, theirs = (one.table(trained.runs).read()["spatial_cosine_2"] for one in (cell, full))
    # Patches of tiny frames nearly tie, and products of unit vectors are rounded to 2**-8: pairs choose others that are
    # as good within a few of these. How seldom that changes an answer at full size is measured in tests/bench.
    assert np.median(np.abs(ours - theirs)) < 5 * 2**-8


@pytest.mark.ray
def test_a_named_checkpoint_is_another_method_and_features_go_where_asked(
    local_ray: ModuleType, experiment: Experiment, trained: Run, data_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained.folder, tmp_path / "tiny")
    shutil.copytree(trained.runs / "cache" / "grids", tmp_path / "cache" / "grids")
    brief = override(
        experiment, {"evaluation.datasets": ["other"], "evaluation.shots": [1], "evaluation.keep_features": False}
    )
    targets = [Target(tmp_path / "tiny", brief, checkpoint) for checkpoint in (None, tmp_path / "tiny" / LAST)]
    answers = evaluate(questions_of(targets, DataRoot(data_root)), runs=tmp_path)
    assert [record.method for record in answers.records] == ["hcl", "hcl last"]
    assert {path.name for path in (tmp_path / "tiny" / "evaluation").glob("*.json")} == {
        "hcl-other-test-2way-1shot.json",
        next(path.name for path in (tmp_path / "tiny" / "evaluation").glob("hcl_last*.json")),
    }
    assert not list((tmp_path / "cache" / "features").glob("*"))


@pytest.mark.ray
@pytest.mark.parametrize(
    ("changes", "shots", "reason"),
    [
        ({"matching__swap_shot_axes": True}, [1, 2], "tuples are chosen across the supports"),
        (
            {
                "matching__multi_scale": True,
                "matching__mix_scales": True,
                "matching__tuple_sizes": [2, 3],
                "train__workers": 2,
            },
            [2],
            "scale",
        ),
    ],
    ids=["swapped axes", "mixed scales"],
)
def test_defects_that_mix_clips_go_episode_by_episode(
    changes: dict[str, Any],
    shots: list[int],
    reason: str,
    local_ray: ModuleType,
    data_root: Path,
    tmp_path: Path,
) -> None:
    experiment = tiny_experiment(
        **changes, model__train_backbone=True, evaluation__shots=shots, evaluation__episodes=12, matching__top_tuples=2
    )
    assert reason in arguments.defects(experiment).reason(2)
    (tmp_path / "tiny").mkdir()
    questions = questions_of([Target(tmp_path / "tiny", experiment, methods=("untrained",))], DataRoot(data_root))
    notes = one_by_one_notes(questions)
    assert notes and all("untrained on toy, 2-shot is scored episode by episode" in note for note in notes)
    answers = evaluate(questions, runs=tmp_path / "runs")
    assert answers.n_encoded == 15
    partition = StoredDataset(data_root, "toy").partition("test")
    model, clips = model_of("untrained", experiment, tmp_path), clips_of(experiment, data_root, partition)
    for record in answers.records:
        episodes = episodes_of(experiment, partition, record.shot)
        each, levels, _ = directly(experiment, model, clips, episodes)
        assert record.accuracy == pytest.approx(each.mean(), abs=1e-9)
        assert record.levels == pytest.approx({name: float(values.mean()) for name, values in levels.items()})
