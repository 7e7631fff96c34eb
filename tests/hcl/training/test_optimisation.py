from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from hcl.config import Experiment, Optim
from hcl.errors import TrainingError
from hcl.training.optimisation import (
    depends_on_total,
    learning_rate_factor,
    make_optimizer,
    parameter_groups,
    set_learning_rates,
)

SETTINGS = {"step_size": 3, "milestones": (2, 5), "gamma": 0.5, "warmup_epochs": 0, "epochs": 8}


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(3, 5)
        self.backbone_like_head = nn.Linear(5, 2)


def groups_of(model, **changed):
    return parameter_groups(model, **{"lr": 0.1, "backbone_lr_factor": 0.1, "weight_decay": 0.01, **changed})


def test_groups_go_by_module_not_by_name():
    model = Tiny()
    heads, backbone = groups_of(model)
    assert (heads["name"], backbone["name"]) == ("heads", "backbone")
    assert set(heads["params"]) == set(model.backbone_like_head.parameters())
    assert set(backbone["params"]) == set(model.backbone.parameters())
    assert (heads["lr"], backbone["lr"]) == (0.1, pytest.approx(0.01))
    assert heads["weight_decay"] == backbone["weight_decay"] == 0.01


def test_a_wrapped_model_has_the_same_groups():
    model, wrapper = Tiny(), nn.Module()
    wrapper.module = model  # like DistributedDataParallel
    assert [g["params"] for g in groups_of(wrapper)] == [g["params"] for g in groups_of(model)]


def test_frozen_parameters_are_left_out_and_empty_groups_with_them():
    model = Tiny()
    model.backbone.requires_grad_(False)
    model.backbone_like_head.bias.requires_grad_(False)
    (heads,) = groups_of(model)
    assert [id(p) for p in heads["params"]] == [id(model.backbone_like_head.weight)]


def test_a_model_without_a_backbone_is_all_heads():
    assert [g["name"] for g in groups_of(nn.Linear(2, 3))] == ["heads"]


def test_nothing_to_train_is_an_error_with_a_remedy():
    with pytest.raises(TrainingError, match="Tiny has no parameter to train") as caught:
        groups_of(Tiny().requires_grad_(False))
    assert "model.train_backbone=true" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_each_optimizer_moves_each_group_by_its_own_rate(name, kind):
    torch.manual_seed(0)
    model = Tiny()
    optimizer = make_optimizer(groups_of(model, backbone_lr_factor=0.0, weight_decay=0.0), name=name, momentum=0.8)
    assert type(optimizer) is kind
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.backbone_like_head(model.backbone(torch.ones(1, 3))).sum().backward()
    optimizer.step()
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"backbone_like_head.weight", "backbone_like_head.bias"}
    assert name != "sgd" or optimizer.param_groups[0]["momentum"] == 0.8


def test_every_configured_name_is_known():
    settings = Experiment().optim.model_dump(include=set(SETTINGS)) | {"epochs": 15}
    for schedule in Optim.model_fields["schedule"].annotation.__args__:
        assert 0 < learning_rate_factor(schedule, 3, **settings) <= 1
    for name in Optim.model_fields["optimizer"].annotation.__args__:
        make_optimizer(groups_of(Tiny()), name=name)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("step", [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]),
        ("multi_step", [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]),
        ("constant", [1] * 8),
    ],
)
def test_drops(schedule, expected):
    assert factors(schedule) == pytest.approx(expected)


def test_cosine_falls_from_one_and_is_half_way_in_the_middle():
    found = factors("cosine")
    assert found[0] == 1
    assert found[4] == pytest.approx(0.5)
    assert all(earlier > later > 0 for earlier, later in pairwise(found))


@pytest.mark.parametrize("schedule", ["step", "multi_step", "constant"])
def test_warm_up_rises_linearly_and_leaves_the_rest_alone(schedule):
    plain, warm = factors(schedule), factors(schedule, warmup_epochs=3)
    assert warm[:3] == pytest.approx([plain[0] * 1 / 4, plain[1] * 2 / 4, plain[2] * 3 / 4])
    assert warm[3:] == plain[3:]


def test_cosine_starts_after_the_warm_up():
    warm = factors("cosine", warmup_epochs=2)
    assert warm[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert warm[5] == pytest.approx(0.5)
    assert factors("cosine", warmup_epochs=20) == pytest.approx([(epoch + 1) / 21 for epoch in range(8)])


@pytest.mark.parametrize("schedule", Optim.model_fields["schedule"].annotation.__args__)
def test_a_schedule_is_known_to_depend_on_the_total_or_not(schedule):
    others = [factors(schedule, epochs=epochs, warmup_epochs=1) for epochs in (9, 20)]
    assert depends_on_total(schedule) == any(other != factors(schedule, warmup_epochs=1) for other in others)


def test_unknown_names_are_refused():
    # Runtime type checks raise first.
    with pytest.raises((ValueError, TypeCheckError), match="linear"):
        learning_rate_factor("linear", 0, **SETTINGS)
    with pytest.raises((ValueError, TypeCheckError), match="lamb"):
        make_optimizer(groups_of(Tiny()), name="lamb")


def test_rates_are_set_from_the_initial_ones_also_after_loading_a_state():
    first = make_optimizer(groups_of(Tiny()), name="adamw")
    set_learning_rates(first, 0.5)
    set_learning_rates(first, 0.5)
    assert [g["lr"] for g in first.param_groups] == pytest.approx([0.05, 0.005])
    resumed = make_optimizer(groups_of(Tiny()), name="adamw")
    resumed.load_state_dict(first.state_dict())
    set_learning_rates(resumed, 0.25)
    assert [g["lr"] for g in resumed.param_groups] == pytest.approx([0.025, 0.0025])


def factors(schedule: str, **changed) -> list[float]:
    return [learning_rate_factor(schedule, epoch, **{**SETTINGS, **changed}) for epoch in range(8)]
