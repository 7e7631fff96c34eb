"""Test the shipped spaces by the experiment's schema: every path exists, and every bound is allowed."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest
from pydantic import BaseModel

from hcl.config import Experiment
from search_spaces import Fixed, load_space, shipped_spaces

# `auto`, the default, equals one of these at any given shot; a cycle without a temperature is one at 1 (deviation 24).
PUBLISHED_AT_ONE_SHOT = {"matching.metric": "cosine", "loss.cycle_temperature": 1.0}


class UnknownPathError(Exception):
    problem = "no such setting"


def check(path: str) -> None:
    section: Any = Experiment
    for part in path.split("."):
        if not (isinstance(section, type) and issubclass(section, BaseModel)) or part not in section.model_fields:
            raise UnknownPathError(path)
        section = section.model_fields[part].annotation


def default_of(path: str) -> Any:
    return plain(reduce(getattr, path.split("."), Experiment()))


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def with_overrides(overrides: dict[str, Any]) -> Experiment:
    content = Experiment().model_dump()
    for path, value in overrides.items():
        *sections, field = path.split(".")
        reduce(dict.__getitem__, sections, content)[field] = value
    return Experiment.model_validate(content)


@pytest.mark.parametrize("name", shipped_spaces())
def test_every_path_and_bound_is_an_experiments(name):
    space = load_space(name)
    assert space.name == name
    space.validate_paths(check)
    for overrides in [*space.probes(), *(space.sample(seed) for seed in range(20))]:
        experiment = with_overrides(overrides)
        for path, value in overrides.items():
            assert plain(reduce(getattr, path.split("."), experiment)) == value


def test_the_check_of_paths_can_fail():
    with pytest.raises(UnknownPathError):
        check("loss.sigma_temporel")
    with pytest.raises(UnknownPathError):
        check("loss.sigma_temporal.more")


HOW_TO_JUDGE = {"train.val_shot", "train.val_fusions"}  # fixed by the needs of the space's objective


@pytest.mark.parametrize("name", shipped_spaces())
def test_the_first_point_is_the_published_setting(name):
    space = load_space(name)
    first = space.first_points[0]
    assert set(first) == set(space.searched)
    for path, value in first.items():
        assert value in (default_of(path), PUBLISHED_AT_ONE_SHOT.get(path)), path
    for path, parameter in space.parameters.items():
        if isinstance(parameter, Fixed) and path not in HOW_TO_JUDGE:
            assert parameter.value == default_of(path)


def test_what_each_space_searches():
    sigmas = [
        f"{part}.{field}" for part in ("loss", "fusion") for field in default_of(part).model_dump() if "sigma" in field
    ]
    assert set(load_space("sigma").parameters) == set(sigmas)
    of_fusion = {path for path in sigmas if path.startswith("fusion.")}
    assert set(load_space("fusion").parameters) == of_fusion | {
        "fusion.triples",
        "fusion.over_shots",
        "matching.metric",
    }
    assert set(load_space("d_model").parameters) == {"model.d_model"}
    assert load_space("d_model").broken_constraint({"model.d_model": 96}, {"model.n_heads": 7}.get)
    assert all(path.startswith(("optim.", "model.dropout")) for path in load_space("optimisation").parameters)
    assert {"matching.tuple_sizes", "loss.temperature"} < set(load_space("matching").parameters)
    more = {"model.d_model", "optim.lr", "loss.temperature", "matching.top_tuples", "matching.top_patches"}
    assert set(load_space("full").parameters) == set(sigmas) | more
    heads = Experiment().model.n_heads
    assert all(width % heads == 0 for width in load_space("d_model").parameters["model.d_model"].values)


def test_the_shot_is_an_axis_that_can_be_set():
    shots = load_space("shots")
    assert "train.val_shot" not in shots.searched
    five = shots.pin({"train.val_shot": 5})
    assert {five.sample(seed)["train.val_shot"] for seed in range(5)} == {5}
    assert five.searched == shots.searched


def test_two_stages_leave_the_fusion_to_validation():
    space = load_space("two_stage")
    assert space.objective.metric == "val_fused_accuracy" and space.sample(0)["train.val_fusions"] > 0
    assert set(space.searched) == {path for path in load_space("sigma").searched if path.startswith("loss.")}


def test_small_data_searches_loss_width_matching_augmentation_and_rates():
    space = load_space("small_data")
    assert space.objective.metric == "val_fused_accuracy"
    sections = {path.split(".")[0] for path in space.searched}
    assert sections == {"loss", "model", "matching", "clips", "optim"}
    assert space.sample(0)["train.val_shot"] == [1, 5]
