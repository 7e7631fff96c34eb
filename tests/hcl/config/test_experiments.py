"""Test that shipped experiments hold the settings of the published run (METHOD "Training terms", last paragraph)."""

from __future__ import annotations

from typing import Any

import pytest

from hcl.assembly import models
from hcl.config import PUBLISHED, Experiment
from hcl.config.resolve import resolve, rows, shipped_experiments

BENCHMARKS = ("hmdb51", "kinetics100", "ssv2_100", "ssv2_100_otam", "ucf101")
PUBLISHED_RUNS = {name: "published" if name == "ssv2_100_otam" else f"published_{name}" for name in BENCHMARKS}

PUBLISHED_RUN: dict[str, Any] = {
    "clips.n_frames": 8,
    "clips.size": 224,
    "clips.crop_scale": (0.2, 1.0),
    "clips.jitter": 0.8,
    "clips.grey": 0.2,
    "model.backbone": "resnet50",
    "model.weights": "imagenet",
    "model.train_backbone": True,
    "model.frozen_stages": 0,
    "model.d_model": 1152,
    "model.n_layers": 1,
    "model.n_heads": 8,
    "model.dropout": 0.1,
    "model.pre_norm": False,
    "matching.top_tuples": 10,
    "matching.top_patches": 40,
    "matching.zoom_ranks_train": 1,
    "matching.zoom_ranks_test": 5,
    "matching.metric": "auto",
    "loss.sigma_ce": 1.0,
    "loss.sigma_global": 1.0,
    "loss.sigma_temporal": 0.5,
    "loss.sigma_temporal_cycle": 0.25,
    "loss.sigma_spatial": 0.5,
    "loss.temperature": 0.07,
    "fusion.sigma_global": 1.0,
    "fusion.sigma_temporal": 0.5,
    "fusion.sigma_spatial": 0.5,
    "optim.optimizer": "adamw",
    "optim.lr": 1e-4,
    "optim.backbone_lr_factor": 0.1,
    "optim.weight_decay": 1e-4,
    "optim.schedule": "step",
    "optim.step_size": 10,
    "optim.gamma": 0.1,
    "optim.warmup_epochs": 0,
    "optim.clip_norm": 0.1,
    "train.regime": "hcl",
    "train.epochs": 15,
    "train.batches_per_epoch": 1000,
    "train.classes_per_batch": 24,
    "evaluation.way": 5,
    "evaluation.shots": (1, 2, 3, 4, 5),
}


def experiment_of(name: str) -> Experiment:
    return resolve(name).experiment


def values_of(name: str) -> dict[str, Any]:
    return {row.path: row.value for row in rows(resolve(name))}


@pytest.mark.parametrize("name", [*BENCHMARKS, *PUBLISHED_RUNS.values()])
def test_every_benchmark_has_the_published_settings(name: str) -> None:
    values = values_of(name)
    assert {path: values[path] for path in PUBLISHED_RUN} == PUBLISHED_RUN


@pytest.mark.parametrize("name", [*BENCHMARKS, *PUBLISHED_RUNS.values()])
def test_the_heads_learn_at_1e_4_for_ten_epochs_and_then_at_a_tenth(name: str) -> None:
    experiment = experiment_of(name)
    rates = [experiment.optim.lr * models.rate_factor(experiment, epoch) for epoch in range(15)]
    assert rates == pytest.approx([1e-4] * 10 + [1e-5] * 5)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_learns_on_train_and_chooses_on_val(name: str) -> None:
    experiment = experiment_of(name)
    assert (experiment.mode, experiment.data.dataset, experiment.data.protocol) == ("corrected", name, "standard")
    assert (experiment.data.train_partitions, experiment.data.selection_partition) == (("train",), "val")
    assert experiment.clips.flip == (not name.startswith("ssv2"))  # there left and right are different classes


@pytest.mark.parametrize("name", BENCHMARKS)
def test_its_published_twin_has_every_deviation_and_marks_itself(name: str) -> None:
    run = PUBLISHED_RUNS[name]
    values, experiment = values_of(run), experiment_of(run)
    assert {path: values[path] for path in PUBLISHED} == PUBLISHED
    assert (experiment.mode, experiment.data.dataset, experiment.data.protocol) == ("published", name, "published")
    assert (experiment.data.train_partitions, experiment.data.selection_partition) == (("train", "val"), "test")


def test_a_change_of_a_default_cannot_change_the_published_run() -> None:
    """Check that each value of the published run is in its file or in the mode's preset."""
    origins = resolve("published").origins
    assert [path for path in PUBLISHED_RUN if origins[path] == "default"] == []


def test_every_shipped_experiment_resolves_under_its_own_name() -> None:
    for name in shipped_experiments():
        assert experiment_of(name).name == name


def test_the_baseline_shares_all_but_the_regime_with_the_run_that_it_is_compared_with() -> None:
    ours, other = values_of("metaworld_protonet"), values_of("metaworld_cpu")
    differing = {path for path in ours if ours[path] != other[path]}
    assert differing == {
        "name",
        "train.regime",
        "train.episodes_per_step",
        "train.batches_per_epoch",
    }
