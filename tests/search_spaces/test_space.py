"""Test spaces with trials: draws, first points, conditions, and values from a trial's configuration."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import RandomTrial, Space, SpaceError, combinations, grid_points
from search_spaces.constraints import holds, paths_in
from search_spaces.trials import NearTrial

PARAMETERS = {
    "optim.schedule": {"type": "choice", "values": ["step", "cosine", "constant"]},
    "optim.step_size": {"type": "int", "low": 2, "high": 10, "step": 2, "when": {"optim.schedule": "step"}},
    "optim.gamma": {"type": "choice", "values": [0.1, 0.5], "when": {"optim.step_size": 4}},
    "optim.lr": {"type": "float", "low": 1e-5, "high": 1e-3, "log": True},
    "train.batches_per_epoch": {"type": "int", "low": 1, "high": 1000, "log": True},
    "fusion.sigma_spatial": {"type": "float", "low": 0, "high": 1, "step": 0.25},
    "matching.tuple_sizes": {"type": "choice", "values": [[2], [3], [2, 3]]},
    "matching.multi_scale": {"type": "choice", "values": [True, False, None]},
    "train.epochs": {"type": "fixed", "value": 15},
    "optim.milestones": {"type": "fixed", "value": [2, 4], "when": {"optim.schedule": "constant"}},
}
POINT = {
    "optim.schedule": "step",
    "optim.step_size": 4,
    "optim.lr": 1e-4,
    "matching.tuple_sizes": [2, 3],
    "train.epochs": 15,
}


def make(parameters=PARAMETERS, first_points=(POINT,), **other) -> Space:
    content = {"name": "made", "about": "x", "parameters": parameters, "first_points": first_points, **other}
    return Space.model_validate(content)


def assert_within(space: Space, values: dict) -> None:
    for path, value in values.items():
        assert space.parameters[path].problem_with(value) is None
    for path, parameter in space.parameters.items():
        active = all(other in values and values[other] == wanted for other, wanted in parameter.when.items())
        assert (path in values) == active


@given(seed=st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_random_draws_lie_within_the_space(seed):
    space = make()
    assert_within(space, space.sample(seed))
    assert space.sample(seed) == space.sample(seed)


def test_random_draws_reach_everything():
    draws = [make().sample(seed) for seed in range(300)]
    assert {draw["fusion.sigma_spatial"] for draw in draws} == {0, 0.25, 0.5, 0.75, 1}
    assert {draw.get("optim.step_size") for draw in draws} == {None, 2, 4, 6, 8, 10}
    assert {json.dumps(draw["matching.tuple_sizes"]) for draw in draws} == {"[2]", "[3]", "[2, 3]"}
    assert {draw.get("optim.gamma") for draw in draws} == {None, 0.1, 0.5}
    # Half of the draws are below the geometric mean, because the scale is logarithmic.
    for path, low, high in [("optim.lr", 1e-5, 1e-3), ("train.batches_per_epoch", 1, 1000)]:
        below = sum(draw[path] < math.sqrt(low * high) for draw in draws)
        assert 110 < below < 190


def test_an_optuna_study_over_the_space():
    space, seen = make(), []

    def objective(trial: optuna.Trial) -> float:
        seen.append(space.suggest(trial))
        # What a trial stores is enough to find the values again, also in another process.
        assert space.decode(json.loads(json.dumps(trial.params))) == seen[-1]
        return seen[-1]["fusion.sigma_spatial"]

    study = quiet_study()
    for point in space.encoded_first_points():
        study.enqueue_trial(point)
    study.optimize(objective, n_trials=40)
    for values in seen:
        assert_within(space, values)
    assert {path: seen[0][path] for path in POINT} == POINT
    assert len({values["optim.schedule"] for values in seen}) > 1
    assert study.best_value == 1
    stored = {type(value) for trial in study.trials for value in trial.params.values()}
    assert stored <= {str, int, float, bool, type(None)}
    assert "train.epochs" not in study.trials[0].params


def test_first_points_may_be_partial_and_are_tried_in_order():
    points = [{"optim.lr": 1e-4}, {"optim.lr": 2e-4, "optim.schedule": "cosine"}]
    space, study = make(first_points=points), quiet_study()
    for point in space.encoded_first_points():
        study.enqueue_trial(point)
    tried = [space.suggest(study.ask()) for _ in range(3)]
    assert [values["optim.lr"] for values in tried[:2]] == [1e-4, 2e-4]
    assert tried[1]["optim.schedule"] == "cosine"
    assert tried[2]["optim.lr"] not in (1e-4, 2e-4)


def test_encoded_first_points_are_what_a_trial_stores():
    (point,) = make(first_points=[{**POINT, "fusion.sigma_spatial": 1}]).encoded_first_points()
    assert point["matching.tuple_sizes"] == "[2, 3]"
    assert "train.epochs" not in point
    assert type(point["fusion.sigma_spatial"]) is float


def test_a_space_survives_pickling():
    assert pickle.loads(pickle.dumps(make(constraints=["optim.lr < 1"]))) == make(constraints=["optim.lr < 1"])


WIDTHS = {
    "model.d_model": {"type": "int", "low": 8, "high": 64, "step": 8},
    "model.n_heads": {"type": "choice", "values": [1, 3, 4]},
    "loss.sigma_temporal": {"type": "float", "low": 0.0, "high": 2.0},
    "loss.sigma_spatial": {"type": "float", "low": 0.0, "high": 2.0, "when": {"model.n_heads": 4}},
}


def test_constraints_are_held_against_values_and_other_settings():
    divides, total = "model.d_model % model.n_heads == 0", "loss.sigma_temporal + loss.sigma_spatial <= loss.limit"
    space = make(WIDTHS, (), constraints=[divides, total])
    settings = {"loss.limit": 1.5}.__getitem__
    good = {"model.d_model": 8, "model.n_heads": 4, "loss.sigma_temporal": 0.5, "loss.sigma_spatial": 1.0}
    assert space.broken_constraint(good, settings) is None
    assert space.broken_constraint({**good, "model.n_heads": 3}, settings) == divides
    assert space.broken_constraint({**good, "loss.sigma_spatial": 1.01}, settings) == total
    inactive = {"model.d_model": 9, "model.n_heads": 3, "loss.sigma_temporal": 2.0}
    assert space.broken_constraint(inactive, settings) is None  # sigma_spatial is inactive
    assert space.pin({"model.d_model": 8}).constraints == (divides, total)


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("a.x == 3 and not a.y == 'no'", True),
        ("a.x in [1, 2] or a.x // 2 > 1", False),
        ("0 < -a.x + 4 <= 1", True),
        ("max(a.x, 5) - min(a.x, 5) == abs(a.x - 5)", True),
        ("len(a.z) == 2 and a.y not in ('no', 'nor')", True),
        ("a.x / 2 != 1.5", False),
    ],
)
def test_what_a_constraint_may_compute(text, truth):
    assert holds(text, {"a.x": 3, "a.y": "yes", "a.z": [2, 3]}.__getitem__) is truth


@pytest.mark.parametrize(
    "text",
    [
        "a.x ** 9 > 1",
        "a.x",
        "(lambda: a.x)() == 1",
        "a.x[0] == 1",
        "[b for b in a.x] == 1",
        "a.x.b() == 1",
        "1 <",
        "1 == 1",
    ],
)
def test_what_a_constraint_may_not_compute(text):
    with pytest.raises(ValueError, match=r"is not allowed in|neither true|cannot be read|names no setting"):
        paths_in(text)


def test_a_constraint_that_cannot_be_computed_says_so():
    with pytest.raises(ValueError, match="'a.x % a.y == 0' cannot be computed: "):
        holds("a.x % a.y == 0", {"a.x": 3, "a.y": 0}.__getitem__)


def test_a_grid_has_every_combination_that_the_conditions_allow():
    space = make(
        {
            "train.val_shot": {"type": "grid", "values": [1, 5]},
            "optim.schedule": {"type": "choice", "values": ["step", "cosine"]},
            "optim.step_size": {"type": "int", "low": 2, "high": 6, "step": 2, "when": {"optim.schedule": "step"}},
            "fusion.sigma_spatial": {"type": "float", "low": 0, "high": 1, "step": 0.5},
            "train.epochs": {"type": "fixed", "value": 3},
        },
        (),
    )
    assert grid_points(space, whole=False) == [{"train.val_shot": 1}, {"train.val_shot": 5}]
    points = grid_points(space, whole=True)
    assert len(points) == 2 * (3 + 1) * 3 == len({json.dumps(point) for point in points})
    for point in points:
        assert_within(space, space.decode(point))
    assert points[1] == {**points[0], "fusion.sigma_spatial": 0.5}


def test_combinations_of_some_parameters_have_the_values_of_their_conditions():
    space = make(first_points=())
    assert list(combinations(space, [])) == [{}]
    assert [point["matching.multi_scale"] for point in combinations(space, ["matching.multi_scale"])] == [
        True,
        False,
        None,
    ]
    found = list(combinations(space, ["optim.gamma"]))
    steps = [{"optim.schedule": "step", "optim.step_size": size} for size in (2, 4, 6, 8, 10)]
    with_gamma = [{**steps[1], "optim.gamma": gamma} for gamma in (0.1, 0.5)]
    others = [{"optim.schedule": schedule} for schedule in ("cosine", "constant")]
    assert found == [steps[0], *with_gamma, *steps[2:], *others]
    with pytest.raises(SpaceError, match=r"parameters.optim.lr: its values cannot be counted"):
        list(combinations(space, ["optim.lr"]))


def test_a_grid_of_uncountable_values_is_refused():
    with pytest.raises(SpaceError, match=r"parameters.optim.lr: its values cannot be counted") as caught:
        grid_points(make(), whole=True)
    assert "step" in caught.value.remedy
    with pytest.raises(ValueError, match=r"a grid can depend on a grid or a fixed value only, optim.lr is sampled"):
        make(
            {
                "optim.lr": {"type": "float", "low": 0, "high": 1},
                "train.val_shot": {"type": "grid", "values": [1, 5], "when": {"optim.lr": 1.0}},
            },
            (),
        )


def test_values_given_out_are_not_the_spaces_own():
    space = make()
    for seed in range(20):
        values = space.sample(seed)
        values["matching.tuple_sizes"].append(7)
        values.get("optim.milestones", []).append(7)
    for probe in space.probes():
        probe.get("matching.tuple_sizes", []).append(7)
    assert space == make()


def test_decoding_refuses_the_trial_of_another_space():
    config = make().suggest(RandomTrial(0)) | {"matching.tuple_sizes": "[2]"}
    assert make().decode(config)["matching.tuple_sizes"] == [2]
    with pytest.raises(SpaceError, match=r"'\[4\]' is none of '\[2\]'") as caught:
        make().decode({**config, "matching.tuple_sizes": "[4]"})
    assert "start a new study" in str(caught.value)
    del config["optim.lr"]
    with pytest.raises(SpaceError, match=r"no value for optim.lr"):
        make().decode(config)


def test_decoding_passes_over_values_of_inactive_parameters():
    config = {**make().encoded_first_points()[0], "train.batches_per_epoch": 5, "fusion.sigma_spatial": 0.5}
    config |= {"matching.multi_scale": None, "optim.schedule": "cosine", "optim.gamma": 0.5}
    values = make().decode(config)
    assert "optim.step_size" not in values
    assert "optim.gamma" not in values
    assert values["matching.multi_scale"] is None


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"optim.schedul": "step"}, "no such parameter in this space; did you mean 'optim.schedule'?"),
        ({"optim.lr": 1e-4}, "move optim.step_size below optim.lr"),
        ({"optim.step_size": 2}, "move optim.step_size below optim.step_size"),
        (
            {"optim.schedule": "steep"},
            "'steep' is none of 'step', 'cosine', 'constant', so that optim.step_size would never",
        ),
    ],
)
def test_conditions_that_cannot_hold(when, message):
    changed = {**PARAMETERS["optim.step_size"], "when": when}
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below, unescaped
        make({**PARAMETERS, "optim.step_size": changed})
    assert message in str(caught.value)


def test_a_first_point_that_contradicts_a_condition():
    with pytest.raises(ValueError, match=r"optim.step_size is searched when optim.schedule='step' only, not 'cosine'"):
        make(first_points=[{"optim.schedule": "cosine", "optim.step_size": 4}])
    with pytest.raises(ValueError, match=r"optim.gamma is searched when optim.schedule='step' only, not 'cosine'"):
        make(first_points=[{"optim.schedule": "cosine", "optim.gamma": 0.1}])


def test_pinning_fixes_a_value_and_what_follows_from_it():
    pinned = make().pin({"optim.schedule": "cosine", "matching.tuple_sizes": [3], "clips.size": 64})
    assert "optim.step_size" not in pinned.parameters
    assert "optim.gamma" not in pinned.parameters
    assert "clips.size" not in pinned.parameters
    assert pinned.first_points == ({"optim.lr": 1e-4, "train.epochs": 15},)
    for seed in range(10):
        values = pinned.sample(seed)
        assert (values["optim.schedule"], values["matching.tuple_sizes"]) == ("cosine", [3])
    kept = make().pin({"optim.schedule": "step"})
    assert kept.sample(0)["optim.step_size"] in range(2, 11)
    assert make().pin({}) == make()


def test_pinning_may_leave_the_bounds_but_something_to_search():
    assert make().pin({"optim.lr": 5.0}).sample(0)["optim.lr"] == 5.0
    with pytest.raises(SpaceError, match=r"with optim.lr set, nothing is left to search"):
        make({"optim.lr": PARAMETERS["optim.lr"]}, first_points=()).pin({"optim.lr": 1e-4})


def test_pinning_does_not_try_a_first_point_twice():
    points = [{"optim.schedule": "step", "optim.lr": 1e-4}, {"optim.schedule": "cosine", "optim.lr": 1e-4}]
    assert make(first_points=points).pin({"optim.schedule": "step"}).first_points == ({"optim.lr": 1e-4},)


class RefusalError(Exception):
    problem, remedy = "no such setting", "did you mean optim.lr?"


def test_paths_are_checked_by_the_caller():
    seen: list[str] = []
    make().validate_paths(seen.append)
    assert seen == list(PARAMETERS)

    def check(path: str) -> None:
        if path == "optim.lr":
            raise RefusalError

    with pytest.raises(SpaceError) as caught:
        make().validate_paths(check)
    assert str(caught.value) == "space made, parameters.optim.lr: no such setting\n  -> did you mean optim.lr?"


def test_a_bug_in_the_check_is_not_the_users_mistake():
    with pytest.raises(ZeroDivisionError):
        make().validate_paths(lambda path: 1 / 0)


def test_probes_hold_first_points_and_extremes():
    probes = list(make().probes())
    assert probes[0] == POINT
    fixed = {"train.epochs": 15}
    assert fixed | {"optim.lr": 1e-5} in probes
    assert fixed | {"optim.lr": 1e-3} in probes
    assert fixed | {"optim.schedule": "step", "optim.step_size": 10} in probes
    assert fixed | {"optim.schedule": "step", "optim.step_size": 4, "optim.gamma": 0.1} in probes
    assert fixed | {"optim.schedule": "constant", "optim.milestones": [2, 4]} in probes
    for value in ([2], [3], [2, 3]):
        assert fixed | {"matching.tuple_sizes": value} in probes


def test_a_space_error_survives_pickling():
    error = pickle.loads(pickle.dumps(SpaceError("p", where="w", remedy="r")))
    assert (error.problem, error.where, error.remedy, str(error)) == ("p", "w", "r", "w: p\n  -> r")


def quiet_study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))


NEAR: dict[str, Any] = {
    "optim.lr": {"type": "float", "low": 1e-5, "high": 1e-3, "log": True},
    "loss.sigma_ce": {"type": "float", "low": 0.0, "high": 2.0},
    "model.dropout": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.1},
    "matching.top_tuples": {"type": "int", "low": 2, "high": 20, "step": 2},
    "matching.tuple_sizes": {"type": "choice", "values": [[2], [3], [2, 3]]},
    "optim.schedule": {"type": "choice", "values": ["step", "cosine"]},
    "optim.step_size": {"type": "int", "low": 1, "high": 4, "when": {"optim.schedule": "step"}},
}


def test_near_values_stay_in_the_space_and_near():
    space = Space.model_validate({"name": "near", "about": "test", "parameters": NEAR})
    own = {
        "optim.lr": 1e-4,
        "loss.sigma_ce": 2.0,
        "model.dropout": 0.2,
        "matching.top_tuples": 10,
        "matching.tuple_sizes": [3],
        "optim.schedule": "step",
        "optim.step_size": 2,
    }
    drawn = [space.suggest(NearTrial(space.encode(own), seed)) for seed in range(400)]
    assert all(space.could_draw(values) for values in drawn)
    assert drawn[0] == space.suggest(NearTrial(space.encode(own), 0))
    rates = [values["optim.lr"] for values in drawn]
    moved = [min(abs(rate / 1e-4 - factor) for factor in (100**0.1, 100**-0.1)) < 1e-9 for rate in rates]
    assert 0.65 < np.mean(moved) < 0.85  # the others were drawn anew from the whole range
    assert min(rates) < 2e-5 and max(rates) > 5e-4
    sigmas = [values["loss.sigma_ce"] for values in drawn]
    assert 0.6 < np.mean([value in (1.8, 2.0) for value in sigmas]) < 0.9
    assert 0.75 < np.mean([values["matching.tuple_sizes"] == [3] for values in drawn]) < 0.9
    assert {values["matching.top_tuples"] for values in drawn} == set(range(2, 21, 2))
    assert any("optim.step_size" not in values for values in drawn)
