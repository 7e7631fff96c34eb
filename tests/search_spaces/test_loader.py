"""Test reading space files, and the message for each mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from search_spaces import Fixed, FloatRange, IntRange, SpaceError, load_space, shipped_spaces

ROOT = Path(__file__).parents[2]
GOOD = """
name: mine
about: a test
parameters:
  optim.lr: {type: float, low: 1e-5, high: 1e-3, log: true}
  matching.top_tuples: {type: int, low: 2, high: 20, step: 2}
  matching.tuple_sizes: {type: choice, values: [[2], [3], [2, 3]]}
  train.epochs: {type: fixed, value: 15}
first_points:
  - {optim.lr: 1e-4, matching.tuple_sizes: [2]}
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


def test_a_good_file(write):
    space = load_space(write(GOOD))
    assert (space.objective.metric, space.objective.mode) == ("val_accuracy", "max")
    assert space.parameters["optim.lr"] == FloatRange(type="float", low=1e-5, high=1e-3, log=True)
    assert space.parameters["matching.top_tuples"] == IntRange(type="int", low=2, high=20, step=2)
    assert space.parameters["train.epochs"] == Fixed(type="fixed", value=15)
    assert space.searched == ["optim.lr", "matching.top_tuples", "matching.tuple_sizes"]
    assert space.first_points == ({"optim.lr": 1e-4, "matching.tuple_sizes": [2]},)


def test_a_space_cannot_be_changed(write):
    space = load_space(str(write(GOOD)))
    with pytest.raises(ValueError, match="frozen"):
        space.name = "other"
    with pytest.raises(ValueError, match="frozen"):
        space.parameters["optim.lr"].low = 0.1


MISTAKES = {  # text in the valid file, its replacement, the expected message
    "unknown key": ("about: a test", "abuot: a test", "abuot: unknown key; did you mean 'about'?"),
    "unknown key of a parameter": (
        "log: true",
        "logg: true",
        "parameters.optim.lr.logg: unknown key; did you mean 'log'?",
    ),
    "unknown key of the objective": (
        "about: a test",
        "about: a test\nobjective: {metric: x, mdoe: min}",
        "objective.mdoe: unknown key; did you mean 'mode'?",
    ),
    "unknown type": ("type: float", "type: flaot", "parameters.optim.lr: unknown type 'flaot'; did you mean 'float'?"),
    "no type": ("{type: float, low", "{low", "parameters.optim.lr: expected a mapping with a type, one of float, int"),
    "missing bound": ("low: 1e-5, ", "", "parameters.optim.lr.low: is missing"),
    "text for a number": (
        "low: 1e-5",
        "low: small",
        "parameters.optim.lr.low: Input should be a valid number, got 'small'",
    ),
    "bool for a number": (
        "low: 2,",
        "low: true,",
        "parameters.matching.top_tuples.low: Input should be a valid integer",
    ),
    "infinite bound": ("high: 1e-3", "high: .inf", "parameters.optim.lr.high: Input should be a finite number"),
    "bounds swapped": (
        "low: 1e-5",
        "low: 1.0",
        "parameters.optim.lr: low must be smaller than high, got low=1, high=0.001",
    ),
    "log from zero": ("low: 1e-5", "low: 0", "parameters.optim.lr: log needs low > 0, got low=0"),
    "log with step": (
        "step: 2}",
        "step: 2, log: true}",
        "parameters.matching.top_tuples: log and step exclude each other",
    ),
    "step beyond": (
        "step: 2}",
        "step: 4}",
        "parameters.matching.top_tuples: step=4 does not lead from low=2 to high=20",
    ),
    "one value": (
        "[[2], [3], [2, 3]]",
        "[[2]]",
        "parameters.matching.tuple_sizes.values: Tuple should have at least 2",
    ),
    "a value twice": (
        "[[2], [3], [2, 3]]",
        "[1, true]",
        "parameters.matching.tuple_sizes.values: True is in values twice",
    ),
    "a label for a list": ("[[2], [3], [2, 3]]", "[[2], '[2]']", "'[2]' is in values twice"),
    "a mapping as value": ("[[2], [3], [2, 3]]", "[{a: 1}, 2]", "{'a': 1} is neither a number, a text"),
    "a date as value": (
        "value: 15",
        "value: !!timestamp 2020-01-01",
        "parameters.train.epochs.value: datetime.date(2020, 1, 1) is neither",
    ),
    "not a number": ("value: 15", "value: .nan", "parameters.train.epochs.value: nan is not a finite number"),
    "not a path": ("optim.lr: {", "optim..lr: {", "parameters.optim..lr: not a dotted path"),
    "point outside": ("optim.lr: 1e-4", "optim.lr: 1", "first_points.0.optim.lr: 1 is outside 1e-05 .. 0.001"),
    "point of another kind": ("optim.lr: 1e-4", "optim.lr: fast", "first_points.0.optim.lr: 'fast' is not a number"),
    "point off the grid": (
        "optim.lr: 1e-4",
        "matching.top_tuples: 5",
        "first_points.0.matching.top_tuples: 5 is not reached from 2 in steps of 2",
    ),
    "fraction for a whole number": (
        "optim.lr: 1e-4",
        "matching.top_tuples: 4.0",
        "first_points.0.matching.top_tuples: 4.0 is not a whole number",
    ),
    "point not a choice": (
        "tuple_sizes: [2]}",
        "tuple_sizes: 2}",
        "first_points.0.matching.tuple_sizes: 2 is none of [2], [3]",
    ),
    "point against the fixed": ("optim.lr: 1e-4", "train.epochs: 3", "train.epochs: 3 is not the fixed value 15"),
    "point of an unknown path": (
        "optim.lr: 1e-4",
        "optim.rl: 1e-4",
        "first_points.0: 'optim.rl' is not in this space; did you mean 'optim.lr'?",
    ),
    "a key twice": (
        "about: a test",
        "about: a test\nabout: again",
        "line 4: not valid YAML: the key 'about' is given twice",
    ),
    "broken YAML": ("parameters:", "parameters: [", "not valid YAML"),
    "an object": ("about: a test", "about: !!python/object/apply:os.getcwd []", "not valid YAML: could not determine"),
    "a constraint of nothing here": (
        "about: a test",
        "about: a test\nconstraints: [optim.rl <= 1]",
        "constraints.0: 'optim.rl <= 1' names no parameter of this space; did you mean 'optim.lr'?",
    ),
    "a constraint that computes nothing": (
        "about: a test",
        "about: a test\nconstraints: [optim.lr + 1]",
        "constraints.0: 'optim.lr + 1' is neither true nor false",
    ),
    "a constraint that calls": (
        "about: a test",
        "about: a test\nconstraints: ['open(optim.lr) == 1']",
        "constraints.0: 'open(optim.lr)' is not allowed in a constraint; functions: abs, len, max, min",
    ),
    "a metric twice": (
        "about: a test",
        "about: a test\ntrade_offs: [{metric: val_accuracy}]",
        "objective and trade_offs name a metric twice",
    ),
    "a bad mode": (
        "about: a test",
        "about: a test\nobjective: {mode: most}",
        "objective.mode: Input should be 'max' or 'min'",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_named(write, mistake):
    before, after, message = MISTAKES[mistake]
    assert GOOD.count(before) == 1
    path = write(GOOD.replace(before, after))
    with pytest.raises(SpaceError) as caught:
        load_space(path)
    assert message in str(caught.value)
    assert str(path) in caught.value.where
    assert caught.value.exit_code == 2


def test_all_mistakes_of_a_file_are_told_at_once(write):
    text = GOOD.replace("low: 1e-5, ", "").replace("about: a test\n", "")
    with pytest.raises(SpaceError) as caught:
        load_space(write(text))
    assert "about: is missing" in caught.value.problem
    assert "parameters.optim.lr.low: is missing" in caught.value.problem


def test_nothing_to_search(write):
    text = "name: a\nabout: b\nparameters: {train.epochs: {type: fixed, value: 1}}"
    with pytest.raises(SpaceError, match="every parameter is fixed"):
        load_space(write(text))


@pytest.mark.parametrize(("text", "kind"), [("", "an empty file"), ("- 1", "a list"), ("word", "a str")])
def test_a_file_that_is_no_mapping(write, text, kind):
    with pytest.raises(SpaceError, match=f"expected a mapping, got {kind}"):
        load_space(write(text))


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "image.yaml").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(SpaceError, match=r"not UTF-8 text: .* at byte 0"):
        load_space(tmp_path / "image.yaml")


def test_spaces_that_do_not_exist(tmp_path):
    with pytest.raises(SpaceError, match="no space 'sgima'; did you mean 'sigma'") as caught:
        load_space("sgima")
    assert "d_model, full, fusion, matching, optimisation, shots, sigma" in caught.value.remedy
    with pytest.raises(SpaceError, match="no such file"):
        load_space(tmp_path / "none.yaml")
    with pytest.raises(SpaceError, match="is not a file"):
        load_space(tmp_path)


def test_expanding_aliases_do_not_explode(write):
    """Check that nine references to nine references, nine levels deep, give one short message."""
    levels = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 10))
    laughs = f"l0: &l0 [1, 1]\n{levels}\n"
    text = f"{laughs}name: a\nabout: b\nparameters: {{train.epochs: {{type: fixed, value: *l9}}}}"
    with pytest.raises(SpaceError) as caught:
        load_space(write(text))
    assert "parameters.train.epochs.value" in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_shipped_names():
    assert shipped_spaces() == [
        "d_model",
        "full",
        "fusion",
        "matching",
        "optimisation",
        "shots",
        "sigma",
        "small_data",
        "tuning",
        "two_stage",
    ]


def test_the_package_imports_neither_torch_nor_ray_nor_the_method():
    code = "import sys, search_spaces; print(sorted({n.split('.')[0] for n in sys.modules} & set(sys.argv[1:])))"
    others = ["torch", "ray", "optuna", "hcl", "orchestration", "results", "cluster"]
    done = subprocess.run([sys.executable, "-c", code, *others], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
