"""Test hostile experiments, overrides, search spaces, data set cards, and the settings of old runs."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from hcl.assembly.experiment_files import load_resolved, to_yaml
from hcl.config.overrides import parse_point
from hcl.config.resolve import all_settings, override, resolve, shipped_experiments
from hcl.datasets.cards import card_of
from results.records.settings import settings_of
from search_spaces import Space, SpaceError, grid_points, load_space, shipped_spaces
from search_spaces.constraints import holds, paths_in
from tests.fuzz.hostile import OURS, altered, contained, fuzzed, mutated, texts, values

ROOT = Path(__file__).parents[2]
EXPERIMENTS = [(ROOT / "hcl/experiments" / f"{name}.yaml").read_bytes() for name in shipped_experiments()]
WHOLE = to_yaml(resolve("demo").experiment).encode()
SPACES = [(ROOT / "search_spaces" / f"{name}.yaml").read_bytes() for name in shipped_spaces()]
SPACE_CONTENTS = [yaml.safe_load(space) for space in SPACES]
CARDS = [path.read_bytes() for path in sorted((ROOT / "hcl/datasets").glob("*.yaml"))]
CONSTRAINTS = ["model.d_model % model.n_heads == 0", "loss.sigma_temporal + loss.sigma_spatial <= 1.5", "a in [1, 2]"]


def read_experiment(path: Path) -> None:
    """Read an experiment; an accepted one must be writable and read back as equal."""
    experiment = resolve(path).experiment
    experiment.digest()
    again = path.with_name("again.yaml")
    again.write_text(to_yaml(experiment))
    assert load_resolved(again) == experiment


def read_space(path: Path) -> None:
    """Read a space; sampling from an accepted one must work."""
    space = load_space(path)
    assert space.could_draw(space.sample(0))
    space.encoded_first_points()
    list(space.probes())


@pytest.mark.parametrize("text", [b'seed: !!float ""', b"name: !!timestamp x", b"seed: !!bool x"])
def test_tags_with_values_that_they_cannot_have(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_bytes(text)
    for read in (read_experiment, load_space):
        with pytest.raises(OURS, match="not valid YAML"):
            read(path)


@pytest.mark.parametrize("name", ["08", "1e4", "+1e3", "-.5", "010", "0x1", "1_000", "12:30", "2026-01-01", "yes", "~"])
def test_texts_that_look_like_something_else_come_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(to_yaml(override(resolve("demo").experiment, {"name": "x", "model.weights": name})))
    assert load_resolved(path).model.weights == name == yaml.safe_load(path.read_text())["model"]["weights"]


SPACE = {"name": "s", "about": "x", "parameters": {}}
PARAMETERS = [
    {"type": "int", "low": 0, "high": 10**400},
    {"type": "float", "low": 0, "high": 1e300, "step": 1e-300},
    {"type": "choice", "values": [1, 10**400]},
    {"type": "fixed", "value": 10**400},
]


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_numbers_that_no_study_can_hold(tmp_path: Path, parameter: dict[str, Any]) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(json.dumps({**SPACE, "parameters": {"optim.lr": parameter}}))
    with pytest.raises(SpaceError, match="optim.lr"):
        load_space(path)


@pytest.mark.parametrize("step", [None, 1])
def test_a_grid_without_end_is_refused_before_it_is_counted(step: int | None) -> None:
    parameter = {"type": "int" if step is None else "float", "low": 0, "high": 2**50} | ({"step": step} if step else {})
    with pytest.raises(SpaceError, match="more than"):
        grid_points(Space.model_validate({**SPACE, "parameters": {"optim.lr": parameter}}), whole=True)


@fuzzed(20)
@given(mutated([*EXPERIMENTS, WHOLE]))
def test_experiments(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = folder / "experiments" / "one.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with contained(path.parent, reads_only=False):
        read_experiment(path)


@fuzzed(20)
@given(altered(yaml.safe_load(WHOLE)))
def test_experiments_with_other_values(tmp_path: Path, content: object) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(json.dumps(content))
    with contained(tmp_path, reads_only=False):
        read_experiment(path)


@fuzzed(30)
@given(st.sampled_from([*all_settings(), "loss", "nothing"]), values)
def test_overrides_by_value(tmp_path: Path, path: str, value: object) -> None:
    with contained(tmp_path):
        to_yaml(resolve("demo", {path: value}).experiment)


@fuzzed(30)
@given(st.sampled_from([*all_settings(), "loss", ""]), mutated([b"=1", b"=[1, 2]", b"={sigma_ce: 1}", b"= a b"]))
def test_overrides_as_typed(tmp_path: Path, path: str, value: bytes) -> None:
    with contained(tmp_path):
        to_yaml(resolve("demo", [path + value.decode(errors="surrogateescape")]).experiment)


@fuzzed(30)
@given(texts)
@example("x" * 300)
@example("a\0b.yaml")
def test_names_of_experiments_and_spaces(tmp_path: Path, name: str) -> None:
    with contained(tmp_path):
        resolve(name.replace("/", ""))  # a name with a slash is a path of the user's choice
    with contained(tmp_path):
        load_space(name.replace("/", ""))
    with contained(tmp_path):
        card_of(tmp_path, name)


@fuzzed(20)
@given(mutated(SPACES))
def test_spaces(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "one.yaml"
    path.write_bytes(content)
    with contained(tmp_path):
        read_space(path)


@fuzzed(20)
@given(st.sampled_from(SPACE_CONTENTS).flatmap(altered))
def test_spaces_with_other_values(tmp_path: Path, content: object) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(json.dumps(content))
    with contained(tmp_path):
        read_space(path)


@fuzzed(20)
@given(mutated([b"loss.sigma_temporal=0.5", b"matching.tuple_sizes=[2, 3]", b"optim.lr=1e-4"]))
def test_points_as_typed(tmp_path: Path, text: bytes) -> None:
    with contained(tmp_path):
        load_space("full").with_points([parse_point(text.decode(errors="surrogateescape"))])


@fuzzed(30)
@given(mutated([text.encode() for text in CONSTRAINTS]), values)
def test_constraints(tmp_path: Path, text: bytes, value: object) -> None:
    with contained(tmp_path), suppress(ValueError):  # Space turns ValueError into SpaceError
        paths_in(text.decode(errors="replace"))
        holds(text.decode(errors="replace"), lambda path: value)


@fuzzed(40)
@given(mutated(CARDS))
def test_cards_of_data_sets(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "datasets" / "ssv2.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with contained(tmp_path):
        card_of(tmp_path, "ssv2").places("class", "video")


@fuzzed(20)
@given(mutated([WHOLE]))
@example(b"a: !!int x")
def test_settings_of_old_runs(tmp_path: Path, content: bytes) -> None:
    with contained(tmp_path):
        settings_of(content.decode(errors="replace"))
