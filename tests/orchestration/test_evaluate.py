"""Score tables by actors against the same episodes scored one by one in this process."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import results
from hcl import build
from hcl.checkpoint import file_digest, load_checkpoint, load_model
from hcl.clips import ClipDataset
from hcl.config import Experiment
from hcl.episodes import Episodes, sample_episodes
from hcl.errors import CheckpointError, DataError, SplitError
from hcl.frames import FrameStore
from hcl.model import HCL
from hcl.resolve import override
from hcl.scores import Levels, accuracies, fused, score_episode
from hcl.splits import Partition, read_partition
from orchestration import evaluate as evaluating
from orchestration import scoring, tables
from orchestration.evaluate import METHODS, evaluate
from orchestration.runs import BEST, Run
from tests.orchestration.conftest import tiny_experiment, tree


@pytest.fixture(scope="module")
def run_folder(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trained run, because evaluation writes into it."""
    folder = tmp_path_factory.mktemp("evaluated") / "tiny"
    shutil.copytree(trained.folder, folder)
    return folder


@pytest.fixture(scope="module")
def experiment(trained: Run) -> Experiment:
    return override(trained.experiment, {"evaluation.datasets": ["toy", "other"]})


@pytest.fixture(scope="module")
def records(
    run_folder: Path, experiment: Experiment, trained: Run, data_root: Path
) -> Iterator[list[results.EvaluationRecord]]:
    """All methods on two data sets at 1 and 3 shots."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scoring, "n_workers_available", lambda **_: 2)
        yield evaluate(run_folder, experiment, data_root=data_root, runs=trained.runs, methods=tuple(METHODS))


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
    return build.make_dataset(experiment, frames, partition, training=False)


def directly(
    experiment: Experiment, model: HCL, clips: ClipDataset, episodes: Episodes
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Accuracy of each episode, fused and by level; every clip of every episode is encoded again."""
    model.eval()
    defects = build.defects(experiment)
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
                **build.test_matching(experiment),
            )
        )
    levels = Levels(*(np.stack(level) for level in zip(*each, strict=True)))
    n_queries = episodes.query.shape[2]
    by_level = zip(("global", "temporal", "spatial"), levels, strict=True)
    return (
        accuracies(fused(levels, build.sigmas_of_fusion(experiment)), n_queries),
        {name: accuracies(level, n_queries) for name, level in by_level},
    )


def model_of(method: str, experiment: Experiment, checkpoint: Path) -> HCL:
    if method != "hcl":
        return build.make_model(experiment, 2, random_weights=method == "random")
    model = build.make_model(experiment, 4, random_weights=True)
    load_model(model, load_checkpoint(checkpoint)["model"], source="the test")
    return model


def one_of(records: list[results.EvaluationRecord], **wanted: Any) -> results.EvaluationRecord:
    [found] = [one for one in records if all(getattr(one, name) == value for name, value in wanted.items())]
    return found


@pytest.mark.ray
def test_every_cell_has_a_record_with_what_names_it(
    records: list[results.EvaluationRecord], experiment: Experiment, run_folder: Path, data_root: Path
) -> None:
    cells = {(one.method, one.dataset, one.shot) for one in records}
    assert cells == {(method, dataset, shot) for method in METHODS for dataset in ("toy", "other") for shot in (1, 3)}
    assert len(records) == len(cells)
    for one in records:
        partition = read_partition(data_root, one.dataset, "test")
        assert (one.run, one.train_dataset, one.partition) == ("tiny", "toy", "test")
        assert (one.way, one.queries, one.episodes, one.seed) == (2, 2, 30, 0)
        assert (one.n_clips, one.n_classes, one.protocol, one.mode) == (15, 3, "standard", "corrected")
        assert one.experiment_digest == experiment.digest()
        assert one.episodes_digest == episodes_of(experiment, partition, one.shot).digest()
        assert 0 <= one.accuracy <= 1 and one.ci95 > 0 and one.created
        assert one.checkpoint_digest == (file_digest(run_folder / BEST) if one.method == "hcl" else "")
        cosine = one.shot == 1 and one.method != "prototype"
        assert one.metric == ("cosine" if cosine else "euclidean")
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
    partition = read_partition(data_root, dataset, "test")
    model, clips = model_of(method, experiment, run_folder / BEST), frozen_clips(method, dataset)
    for shot in (1, 3):
        each, levels = directly(experiment, model, clips, episodes_of(experiment, partition, shot))
        record = one_of(records, method=method, dataset=dataset, shot=shot)
        mean, ci95 = results.mean_and_ci95(each)
        assert (record.accuracy, record.ci95) == pytest.approx((mean, ci95), abs=1e-9)
        assert record.levels == pytest.approx({name: float(values.mean()) for name, values in levels.items()})


@pytest.fixture(scope="module")
def frozen_clips(trained: Run, experiment: Experiment, data_root: Path) -> Any:
    """The clips of a data set as a frozen backbone's model takes them: the cached half-precision grids."""

    def clips(method: str, dataset: str) -> Any:
        partition = read_partition(data_root, dataset, "test")
        cell = tables.Cell(method, experiment, data_root, partition)
        return scoring.GridDataset(cell.grid_job().store(trained.runs))

    return clips


@pytest.mark.ray
def test_prototype_is_the_nearest_mean_of_frame_features(
    records: list[results.EvaluationRecord], experiment: Experiment, data_root: Path, frozen_clips: Any
) -> None:
    partition, grids = read_partition(data_root, "toy", "test"), frozen_clips("prototype", "toy")
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
    """Nor do other sigmas, another metric or other episodes score a pair again."""
    monkeypatch.setattr(scoring, "map_actors", lambda *_, **__: pytest.fail("an actor was started"))
    monkeypatch.setattr("orchestration.grids.map_actors", lambda *_, **__: pytest.fail("an actor was started"))
    options: dict[str, Any] = {"data_root": data_root, "runs": trained.runs, "methods": tuple(METHODS)}
    again = evaluate(run_folder, experiment, **options)
    assert [one.accuracy for one in again] == [one.accuracy for one in records]
    changes = {
        "fusion.sigma_spatial": 3.0,
        "matching.metric": "euclidean",
        "evaluation.seed": 5,
        "evaluation.shots": [2],
    }
    other = evaluate(run_folder, override(experiment, changes), **options)
    assert {one.shot for one in other} == {2} and {one.metric for one in other} == {"euclidean"}


class Mortal(scoring.Scorer):
    """A scorer whose process dies once, in the middle of the work."""

    def work(self, kind: str, item: tuple) -> Any:
        mark = self.runs / "killed"
        if kind == "score pairs" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().work(kind, item)


@pytest.mark.ray
def test_neither_a_killed_actor_nor_their_number_changes_a_byte(
    records: list[results.EvaluationRecord],
    experiment: Experiment,
    run_folder: Path,
    trained: Run,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "n_workers_available", lambda **_: 1)
    monkeypatch.setattr(scoring, "Scorer", Mortal)
    monkeypatch.setattr(tables, "PAIRS", 60)  # several blocks of rows
    shutil.copytree(trained.runs / "cache" / "grids", tmp_path / "cache" / "grids")
    found = evaluate(run_folder, experiment, data_root=data_root, runs=tmp_path)
    assert (tmp_path / "killed").exists()
    for one in found:
        expected = one_of(records, method="hcl", dataset=one.dataset, shot=one.shot)
        assert (one.accuracy, one.levels) == (expected.accuracy, expected.levels)
    made = tree(tmp_path / "cache" / "scores")
    assert made and all(name.endswith(".npz") for name in made)  # neither blocks nor tokens are left
    for name in made:
        ours, theirs = (np.load(folder / "cache" / "scores" / name) for folder in (tmp_path, trained.runs))
        for key in theirs.files:
            np.testing.assert_array_equal(ours[key], theirs[key])


@pytest.mark.ray
@pytest.mark.parametrize(
    ("changes", "shots", "reason"),
    [
        ({"matching__swap_shot_axes": True}, [1, 2], "tuples are chosen across the supports"),
        ({"matching__multi_scale": True, "matching__mix_scales": True, "matching__tuple_sizes": [2, 3]}, [2], "scale"),
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
    assert reason in build.defects(experiment).reason(2)
    (tmp_path / "tiny").mkdir()
    found = evaluate(tmp_path / "tiny", experiment, data_root=data_root, runs=tmp_path / "runs", methods=("untrained",))
    partition = read_partition(data_root, "toy", "test")
    model, clips = model_of("untrained", experiment, tmp_path), clips_of(experiment, data_root, partition)
    for record in found:
        episodes = episodes_of(experiment, partition, record.shot)
        each, levels = directly(experiment, model, clips, episodes)
        assert record.accuracy == pytest.approx(each.mean(), abs=1e-9)
        assert record.levels == pytest.approx({name: float(values.mean()) for name, values in levels.items()})


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"evaluation.datasets": ["toy", "tyo"]}, SplitError, "splits/tyo/test_class.txt: cannot be read"),
        ({"evaluation.datasets": ["../toy"]}, SplitError, "'../toy' cannot be a folder"),
        ({"evaluation.shots": [1, 4]}, DataError, "class 'hen' has 5 clips, an episode needs 6"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_ray(
    changes: dict[str, Any],
    kind: type[Exception],
    message: str,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluating, "connect", lambda *_: pytest.fail("Ray must not be started"))
    experiment = override(tiny_experiment(), changes)
    options: dict[str, Any] = {"data_root": data_root, "runs": tmp_path / "runs", "methods": ("untrained",)}
    with pytest.raises(kind, match=message):
        evaluate(tmp_path / "tiny", experiment, **options)
    assert tree(tmp_path) == {}


def test_a_run_without_a_checkpoint_is_refused_before_ray(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluating, "connect", lambda *_: pytest.fail("Ray must not be started"))
    with pytest.raises(CheckpointError, match="best.pt: no such file") as caught:
        evaluate(tmp_path / "tiny", tiny_experiment(), data_root=data_root, runs=tmp_path / "runs")
    assert "hcl train" in caught.value.remedy
