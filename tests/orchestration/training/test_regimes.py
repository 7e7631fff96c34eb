"""Test runs of every regime and runs with class names: trained here, evaluated by actors with the run's matcher."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import results
from hcl.assembly import arguments, inputs, models
from hcl.clips.episodes import sample_episodes
from hcl.config import REGIMES, Experiment
from hcl.errors import ConfigError, DataError
from hcl.evaluation.matcher import mixed_levels, pooled_scores
from hcl.evaluation.scores import accuracies, fused
from hcl.frames.store import FrameStore
from hcl.frames.stored_dataset import DataRoot, StoredDataset
from hcl.models.checkpoint import file_digest, load_checkpoint
from hcl.models.encoding import encode
from orchestration.evaluation.evaluate import evaluate
from orchestration.evaluation.questions import Target, plan, questions_of
from orchestration.training.checkpointing import Keeper
from orchestration.training.run import Run
from orchestration.training.run_files import BEST, LAST
from orchestration.training.worker import run_epochs
from tests.orchestration.conftest import CLASSES, prepare, tiny_experiment

QUICK: dict[str, Any] = {
    "model__cached_views": 0,  # a frozen backbone without a cache: no actors before training
    "model__pooled_from": "encoder",
    "train__epochs": 1,
    "train__batches_per_epoch": 3,
    "train__checkpoint_every": 1,
    "train__episodes_per_step": 2,
    "train__episode_way": 3,
    "train__episode_queries": 2,
}


def experiment_of(regime: str, **changes: Any) -> Experiment:
    size: dict[str, Any] = {"clips__size": 128} if regime == "relation" else {}
    if regime == "molo":
        size = {"regime__reconstruction": 0}  # the frames are not read where grids are cached
    return tiny_experiment(**QUICK | size | {"name": regime.replace("+", "_"), "train__regime": regime} | changes)


def trained(experiment: Experiment, data_root: Path, runs: Path) -> Run:
    run = prepare(experiment, data_root=data_root, runs=runs)
    run_epochs(run)
    return run


@pytest.mark.ray
@pytest.mark.parametrize(
    "regime",
    [pytest.param(one, marks=[] if one == "protonet" else [pytest.mark.long]) for one in REGIMES if one != "hcl"],
)
def test_a_run_is_evaluated_by_the_matcher_of_its_regime(
    regime: str, data_root: Path, tmp_path: Path, local_ray: ModuleType
) -> None:
    experiment = experiment_of(regime)
    run = trained(experiment, data_root, tmp_path)
    [row] = results.read_epochs(run.folder)
    assert np.isfinite(row["loss_total"]) and 0 <= row["val_accuracy"] <= 1
    questions = questions_of([Target(run.folder, experiment)], DataRoot(data_root))
    records = evaluate(questions, runs=tmp_path).records
    assert len(plan(questions, tmp_path)) == 1
    assert [(record.method, record.shot, record.levels, record.metric) for record in records] == [
        (regime, 1, {}, ""),
        (regime, 3, {}, ""),
    ]
    partition = StoredDataset(data_root, "toy").partition("test")
    clips = inputs.make_dataset(experiment, FrameStore(data_root / "images/toy"), partition, training=False)
    model = models.trained_model(experiment, run.folder / BEST)
    pooled, _ = encode(model, clips, range(len(partition.videos)))
    for record in records:
        episodes = sample_episodes(partition.labels, way=2, shot=record.shot, queries=2, episodes=30, seed=0)
        each = accuracies(pooled_scores(model, lambda clips: pooled[clips], episodes), 2)
        assert record.accuracy == pytest.approx(each.mean())
        assert record.checkpoint_digest == file_digest(run.folder / BEST)


def test_a_method_of_another_regime_is_refused(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'hcl' does not exist for this run, which was trained as protonet"):
        questions_of([Target(tmp_path, experiment_of("protonet"), methods=("hcl",))], DataRoot(data_root))


class Killed(Exception):
    pass


@pytest.mark.parametrize("regime", ["protonet", "classification"])
def test_a_run_that_was_killed_in_its_epoch_ends_as_one_that_was_not(
    regime: str, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = experiment_of(regime)
    whole = trained(experiment, data_root, tmp_path / "whole")
    run = prepare(experiment, data_root=data_root, runs=tmp_path / "killed")
    with monkeypatch.context() as patched:
        after_step = Keeper.after_step

        def die_after_two(self: Keeper, position: Any, values: Any) -> None:
            after_step(self, position, values)
            if position.sums.steps == 2:
                raise Killed

        patched.setattr(Keeper, "after_step", die_after_two)
        with pytest.raises(Killed):
            run_epochs(run)
    assert load_checkpoint(run.folder / LAST)["step"] == 2
    run_epochs(run)
    ours, expected = (load_checkpoint(either.folder / LAST)["model"] for either in (run, whole))
    assert all(torch.equal(ours[key], value) for key, value in expected.items())


def test_episodes_that_the_partition_cannot_give_are_refused_before_anything_runs(
    data_root: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="a training episode of 5 classes cannot be drawn from 4 classes"):
        prepare(experiment_of("cosine", train__episode_way=5), data_root=data_root, runs=tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- class names ----------------------------------------------------------------------------------------------------

NAMED: dict[str, Any] = {
    "matching__semantic": True,
    "model__embedding_dim": 6,
    "loss__sigma_spatial_cycle": 0.25,
    "evaluation__shots": [2],
    "train__val_shot": 2,
}


def write_embeddings(folder: Path, classes: tuple[str, ...]) -> Path:
    folder.mkdir(exist_ok=True)
    vectors = np.random.default_rng(0).normal(size=(len(classes), 6)).astype(np.float32)
    np.savez(folder / "toy.npz", classes=np.array(classes), vectors=vectors, model=np.array("made up"))
    return folder / "toy.npz"


@pytest.fixture
def named(tmp_path: Path) -> str:
    """Return data.embeddings: an absolute path stays the same under any data root."""
    every = tuple(name for classes in CLASSES.values() for name in classes)
    return str(write_embeddings(tmp_path / "names", every).parent / "{dataset}.npz")


@pytest.mark.ray
@pytest.mark.parametrize("mode", ["corrected", "published"])
def test_a_run_with_class_names_is_scored_with_them(
    mode: str, named: str, data_root: Path, tmp_path: Path, local_ray: ModuleType
) -> None:
    """In published mode the queries' classes leak, which every record marks."""
    experiment = experiment_of("hcl", mode=mode, data__embeddings=named, **NAMED)
    run = trained(experiment, data_root, tmp_path / "runs")
    weight = load_checkpoint(run.folder / BEST)["model"]["heads.semantic_linear.weight"]
    assert not torch.equal(weight, models.make_model(experiment, 4).heads.semantic_linear.weight)
    [record] = evaluate(
        questions_of([Target(run.folder, experiment)], DataRoot(data_root)), runs=tmp_path / "runs"
    ).records
    assert record.leaks_labels == (mode == "published")
    partition = StoredDataset(data_root, "toy").partition("test")
    clips = inputs.make_dataset(experiment, FrameStore(data_root / "images/toy"), partition, training=False)
    model = models.trained_model(experiment, run.folder / BEST)
    tokens, rows = encode(model, clips, range(len(partition.videos)))
    settings = experiment.evaluation
    episodes = sample_episodes(
        partition.labels, way=2, shot=2, queries=2, episodes=30, seed=0, overlapping=settings.overlapping
    )
    names = inputs.clip_embeddings(experiment, StoredDataset(data_root, "toy"), partition)
    levels = mixed_levels(model.heads, tokens, rows, episodes, arguments.test_matcher(experiment), embeddings=names)
    assert record.accuracy == pytest.approx(accuracies(fused(levels, arguments.sigmas_of_fusion(experiment)), 2).mean())
    assert record.levels["spatial"] == pytest.approx(accuracies(levels.spatial, 2).mean())


def test_missing_names_are_told_before_anything_runs(data_root: Path, tmp_path: Path) -> None:
    path = write_embeddings(tmp_path / "names", CLASSES["train"])
    experiment = experiment_of("hcl", data__embeddings=str(path.parent / "{dataset}.npz"), **NAMED)
    with pytest.raises(DataError, match="toy.npz: has no embedding of class 'eel'") as caught:
        prepare(experiment, data_root=data_root, runs=tmp_path / "runs")
    assert "hcl data embed toy" in caught.value.remedy
    assert not (tmp_path / "runs").exists()
