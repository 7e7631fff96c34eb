"""One table of YAML scalars for the readers of experiments and of search spaces, which may not import each other."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import search_spaces.loader
from hcl.config import strict_yaml
from hcl.config.strict_yaml import dump_yaml, parse_yaml, read_yaml
from search_spaces import load_space

INF = math.inf
SCALARS: dict[str, Any] = {
    # whole numbers: decimal, whatever they begin with; octal and hexadecimal by their marks
    "0": 0, "8": 8, "+5": 5, "-5": -5, "010": 10, "007": 7, "08": 8, "-010": -10, "0o17": 15, "0x10": 16, "0xfF": 255,
    # numbers
    "1.": 1.0, ".5": 0.5, "-.5": -0.5, "1.5": 1.5, "1e3": 1e3, "1E3": 1e3, "1e-4": 1e-4, "1.e+2": 100.0, "+.5e1": 5.0,
    "010.5": 10.5, ".inf": INF, "-.inf": -INF, "+.INF": INF, ".nan": math.nan, ".NaN": math.nan,
    # truth values and nothing
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "yes": True, "Yes": True, "no": False,
    "on": True, "off": False, "OFF": False, "~": None, "null": None, "Null": None, "NULL": None, "": None,
    # texts
    "y": "y", "n": "n", "none": "none", "nil": "nil", "1_000": "1_000", "2024_11_29": "2024_11_29", "12:30": "12:30",
    "1:30:00": "1:30:00",
    "190:20:30.15": "190:20:30.15", "2024-01-01": "2024-01-01",
    "2024-01-01 12:30:00": "2024-01-01 12:30:00", "2024-01-01T12:30:00Z": "2024-01-01T12:30:00Z", "0b101": "0b101",
    "0o8": "0o8", "0xg": "0xg", "-0x10": "-0x10", "1e": "1e", "e3": "e3", ".": ".", "-": "-", "+": "+",
    "1.2.3": "1.2.3", "inf": "inf", "nan": "nan", "-.nan": "-.nan", "1e3x": "1e3x", "=": "=",
    "\'010\'": "010", '"yes"': "yes",
}  # fmt: skip


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return type(one) is type(other) and one == other


def of_experiment(text: str, folder: Path) -> Any:
    (folder / "one.yaml").write_text(f"value: {text}\n")
    return read_yaml(folder / "one.yaml", "one.yaml")["value"]


def of_space(text: str, folder: Path) -> Any:
    (folder / "one.yaml").write_text(f"value: {text}\n")
    return search_spaces.loader._read(folder / "one.yaml")["value"]


@pytest.mark.parametrize("text", [text for text in SCALARS if text not in ("-",)])
def test_both_readers_read_a_scalar_alike(text: str, tmp_path: Path) -> None:
    for read in (of_experiment, of_space):
        found = read(text, tmp_path)
        assert same(found, SCALARS[text]), (read.__name__, found)


def test_the_readers_have_one_table() -> None:
    assert strict_yaml.SCALARS == search_spaces.loader.SCALARS


@pytest.mark.parametrize("text", SCALARS)
def test_a_text_is_read_again_as_the_text_that_was_written(text: str, tmp_path: Path) -> None:
    """By both readers, whatever else a text looks like."""
    written = dump_yaml({"value": text})
    assert parse_yaml(written, "written") == {"value": text}
    (tmp_path / "one.yaml").write_text(written)
    assert search_spaces.loader._read(tmp_path / "one.yaml") == {"value": text}


@pytest.mark.parametrize("value", [value for value in SCALARS.values() if not isinstance(value, str)])
def test_a_value_is_read_again_as_the_value_that_was_written(value: Any) -> None:
    assert same(parse_yaml(dump_yaml({"value": value}), "written")["value"], value)


def test_a_space_means_what_its_numbers_say(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(
        "name: one\nabout: for a test\nparameters:\n"
        "  train.epochs: {type: int, low: 010, high: 0x10}\n"
        "  model.weights: {type: choice, values: [12:30, 2024-01-01]}\n"
    )
    space = load_space(path)
    epochs, weights = space.parameters["train.epochs"], space.parameters["model.weights"]
    assert (epochs.low, epochs.high) == (10, 16)  # type: ignore[union-attr]
    assert weights.values == ("12:30", "2024-01-01")  # type: ignore[union-attr]
