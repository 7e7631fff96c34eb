"""Compare learning rates and optimiser groups with the released code's: stage 8 of the recorded cases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from hcl.assembly import models
from hcl.config.resolve import resolve
from hcl.training.optimisation import make_optimizer, parameter_groups, set_learning_rates

GOLDEN = Path(__file__).parents[1] / "golden"
RATES = json.loads((GOLDEN / "s8_lr_schedules.json").read_text())
GROUPS = json.loads((GOLDEN / "s8_param_groups.json").read_text())
SCHEDULES = {  # the release's `default` and `lr_drop` are both StepLR with different options
    "default": {"schedule": "step", "step_size": 4, "gamma": 0.5},
    "multi_step": {"schedule": "multi_step", "milestones": [5, 8, 11, 13, 15], "gamma": 0.5},
    "lr_drop": {"schedule": "step", "step_size": 5, "gamma": 0.5},
    "train_sh": {"schedule": "step", "step_size": 10, "gamma": 0.1},
    "default_3_0p7": {"schedule": "step", "step_size": 3, "gamma": 0.7},
}


def test_every_recorded_schedule_is_compared():
    assert set(SCHEDULES) == set(RATES)


@pytest.mark.parametrize("case", SCHEDULES)
def test_learning_rate_of_each_epoch_as_configured(case):
    settings = {f"optim.{name}": value for name, value in SCHEDULES[case].items()}
    experiment = resolve("published", settings | {"train.epochs": 20}).experiment
    optimizer = models.optimizer_of(experiment, StandIn())
    for epoch, recorded in enumerate(RATES[case]["lr_per_epoch"]):
        set_learning_rates(optimizer, models.rate_factor(experiment, epoch))
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(recorded, rel=1e-12, abs=0)


def test_adamw_groups_by_module():
    """Check the release's intended groups, which it gets only with several GPUs."""
    model = StandIn()
    optimizer = make_optimizer(parameter_groups(model, **rates()), name="adamw")
    assert len(optimizer.param_groups) == len(GROUPS["adamw_num_gpus4"]) == 2
    for group, recorded in zip(optimizer.param_groups, GROUPS["adamw_num_gpus4"], strict=True):
        assert set(model.released_names(group)) == set(plain(recorded["params"]))
        assert len(group["params"]) == len(recorded["params"])
        assert hyper_parameters(group) == hyper_parameters(recorded)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_sgd_and_adam_differ_from_the_release_by_the_backbone_group_only(name):
    (recorded,) = GROUPS[f"{name}_num_gpus4"]
    model = StandIn()
    settings = rates(weight_decay=float(recorded["weight_decay"]), backbone_lr_factor=1.0)
    optimizer = make_optimizer(parameter_groups(model, **settings), name=name, momentum=0.9)
    ours = [released for group in optimizer.param_groups for released in model.released_names(group)]
    assert sorted(ours) == sorted(plain(recorded["params"]))
    for group in optimizer.param_groups:
        assert hyper_parameters(group) == hyper_parameters(recorded)


class StandIn(nn.Module):
    """Provide the released model's parameter names, with a ResNet-18 and one number for each other parameter."""

    def __init__(self):
        super().__init__()
        with torch.device("meta"):
            self.backbone = nn.Sequential(*list(torchvision.models.resnet18().children())[:-2])
        heads = [name for name in GROUPS["adamw_num_gpus1"][0]["params"] if not name.startswith("encoder.")]
        self.heads = nn.ParameterList([nn.Parameter(torch.zeros(1)) for _ in heads])
        self._head_names = heads

    def released_names(self, group) -> list[str]:
        names = {id(p): f"encoder.{name}" for name, p in self.backbone.named_parameters()}
        names |= {id(p): name for name, p in zip(self._head_names, self.heads, strict=True)}
        return [names[id(parameter)] for parameter in group["params"]]


def rates(**changed: float) -> dict[str, float]:
    return {"lr": 1e-4, "backbone_lr_factor": 0.1, "weight_decay": 1e-4, **changed}


def plain(names: list[str]) -> list[str]:
    return [name.replace("encoder.module.", "encoder.") for name in names]


def hyper_parameters(group) -> dict:
    found = {key: value for key, value in group.items() if key not in ("params", "name", "initial_lr")}
    found["lr"] = pytest.approx(found["lr"], rel=1e-12)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}
