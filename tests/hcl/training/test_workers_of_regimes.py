"""Test that several workers compute the same as one in every regime, with dropout, and for any omitted loss term.

Four processes are started once, as in test_workers: a group of four, and then a group of two of them.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hcl.assembly import models
from hcl.clips.batches import sampled_batches
from hcl.clips.episodes import sample_episodes
from hcl.config import REGIMES, Experiment
from hcl.training.epoch import train_step
from hcl.training.process_group import ProcessGroup, SingleProcess
from tests.hcl.training.process_groups import computed
from tests.hcl.training.test_regimes import CLASSES, LABELS, Spots, experiment_of, tiny_backbone, train

WORLDS = (4, 2)
SIGMAS = ("ce", "global", "temporal", "temporal_cycle", "spatial", "spatial_cycle")


class Ablation(NamedTuple):
    """Select HCL without one term of the loss, or without both spatial ones."""

    left_out: tuple[str, ...]
    global_pooling: str
    with_more: bool  # with two tuple sizes and class names

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "loss.sigma_spatial_cycle": 0.25,
            **{f"loss.sigma_{name}": 0.0 for name in self.left_out},
            "matching.global_pooling": self.global_pooling,
            "matching.tuple_sizes": [2, 3] if self.with_more else [2],
            "matching.semantic": self.with_more,
            "model.embedding_dim": 16,
        }


ABLATIONS = [
    Ablation(*one)
    for one in product(
        [*[(name,) for name in SIGMAS], ("spatial", "spatial_cycle")],
        ["mean", "frames", "patches"],
        [False, True],
    )
]
NAMES = torch.randn(CLASSES, 16, generator=torch.Generator().manual_seed(1))  # embeddings of the classes' names


def prepared(experiment: Experiment) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Prepare a model and its optimiser like a training worker, on a backbone of one layer."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(models, "backbone_of", tiny_backbone)
        model = models.make_model(experiment, CLASSES)
    optimizer = models.optimizer_of(experiment, model)
    models.prepare_training(experiment, model)
    return model, optimizer


def wrapped(model: nn.Module, group: ProcessGroup) -> nn.Module:
    return model if isinstance(group, SingleProcess) else DistributedDataParallel(model)


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


# --- computations of each group -------------------------------------------------------------------------------------


def three_steps(name: str, features: str, group: ProcessGroup) -> dict[str, Any]:
    """Return the values of the steps, the last gradients, the weights and the validation, in float64 with dropout."""
    changes = {"model__pooled_from": features, "model__dropout": 0.1, "train__episodes_per_step": 4}
    experiment = experiment_of(name, **changes)
    regime = models.make_regime(experiment)
    model, _ = prepared(experiment)
    model = model.double()
    whole = wrapped(model, group)
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.05, momentum=0.9)
    values = train(regime, whole, optimizer, steps=3, group=group)
    gradients = gradients_of(model)
    group.broadcast_buffers(model)
    episodes = sample_episodes(LABELS, way=3, shot=2, queries=2, episodes=6, seed=1)
    accuracy = regime.validate(model.float(), Spots(), [episodes], group=group).accuracies[0].tolist()
    weights = {key: value.detach().clone() for key, value in model.named_parameters()}
    return {"values": values, "gradients": gradients, "weights": weights, "accuracy": accuracy}


def two_steps(ablation: Ablation, group: ProcessGroup) -> dict[str, Any]:
    """Values and gradients of the second step, which data parallelism refuses after a gradient that did not come."""
    experiment = experiment_of("hcl", **ablation.settings, model__dropout=0.1)
    regime = models.make_regime(experiment, class_embeddings=NAMES if ablation.with_more else None)
    model, optimizer = prepared(experiment)
    whole = wrapped(model, group).train()
    loss = regime.loss(whole, group=group, device="cpu", precision="float32")
    where = {"rank": group.rank, "world_size": group.world_size}
    batches = sampled_batches(regime.sampler, Spots(), LABELS, steps=2, epoch=0, **where)
    settings: dict[str, Any] = {"loss": loss, "clip_norm": 1.0, "group": group}
    values = [train_step(whole, optimizer, [batch], **settings) for batch in batches]
    return {"values": values, "gradients": gradients_of(model), "waits_for": waited_for(model)}


def waited_for(model: nn.Module) -> list[str]:
    """Return the parameters that require gradients and have none."""
    return [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]


RIVALS = ("otam", "trx", "hyrsm", "hyrsm++", "molo", "probe")
REGIMES_AND_FEATURES = [
    ("hcl", "encoder"),
    *product((name for name in REGIMES if name not in ("hcl", *RIVALS)), ["encoder", "backbone"]),
    *((name, "backbone") for name in RIVALS),  # an encoder's dropout and gradients are covered by the others
]


def everything(group: ProcessGroup) -> dict[str, Any]:
    return {
        "regimes": {(name, features): three_steps(name, features, group) for name, features in REGIMES_AND_FEATURES},
        "ablations": [two_steps(one, group) for one in ABLATIONS] if group.world_size < 4 else [],
    }


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """Return the results of each rank by the number of workers."""
    return computed(everything, WORLDS, tmp_path_factory.mktemp("group"))


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return everything(SingleProcess())


# --- comparisons ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "features"), REGIMES_AND_FEATURES)
@pytest.mark.parametrize("world", WORLDS)
def test_workers_give_the_losses_gradients_and_weights_of_one(
    name: str, features: str, world: int, workers: dict[int, list[dict[str, Any]]], alone: dict[str, Any]
) -> None:
    expected = alone["regimes"][name, features]
    for rank in range(world):
        ours = workers[world][rank]["regimes"][name, features]
        for step, one in zip(ours["values"], expected["values"], strict=True):
            assert step == pytest.approx(one, rel=1e-5)
        for kind in ("gradients", "weights"):
            assert ours[kind].keys() == expected[kind].keys()
            whole = float(torch.cat([value.flatten() for value in expected[kind].values()]).norm())
            for key, value in expected[kind].items():
                assert float((ours[kind][key] - value).norm()) <= 1e-5 * max(float(value.norm()), 1e-2 * whole), key
        if name != "relation":  # its batch norm keeps the running statistics of rank 0's episodes
            assert ours["accuracy"] == expected["accuracy"]
        assert ours["accuracy"] == workers[world][0]["regimes"][name, features]["accuracy"]


@pytest.mark.parametrize("number", range(len(ABLATIONS)), ids=[str(tuple(one)) for one in ABLATIONS])
def test_two_workers_learn_without_a_term_what_one_learns(
    number: int, workers: dict[int, list[dict[str, Any]]], alone: dict[str, Any]
) -> None:
    expected = alone["ablations"][number]
    assert expected["waits_for"] == []
    for rank in range(2):
        ours = workers[2][rank]["ablations"][number]
        for step, one in zip(ours["values"], expected["values"], strict=True):
            assert step == pytest.approx(one, rel=1e-4)
        assert ours["gradients"].keys() == expected["gradients"].keys()
        together = [torch.cat([value.flatten() for value in one["gradients"].values()]) for one in (ours, expected)]
        assert float((together[0] - together[1]).norm()) <= 1e-4 * float(together[1].norm())
