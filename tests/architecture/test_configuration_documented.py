"""Test that every setting has a meaning, has bounds if it is a number, and is read by the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from hcl.config import PUBLISHED, PUBLISHED_EVALUATION, Experiment, Section
from hcl.config.resolve import all_settings, check_value, expected, resolve, rows
from orchestration.cli import config as command

ROOT = Path(__file__).resolve().parents[2]
UNITS = {
    "",
    "frames",
    "pixels",
    "views",
    "tuples",
    "patches",
    "clips",
    "epochs",
    "batches",
    "episodes",
    "stages",
    "CPUs",
}


@pytest.mark.parametrize("path", all_settings())
def test_every_setting_has_a_meaning(path: str) -> None:
    meaning = all_settings()[path].description
    assert meaning
    assert meaning == meaning.strip()
    assert not meaning.endswith(".")
    words = re.findall(r"[a-z0-9]+", meaning.lower())
    assert len(words) >= 3, "it only names the setting"
    assert set(words) - set(re.findall(r"[a-z0-9]+", path)), "it only repeats the setting's name"


def test_no_two_settings_share_a_meaning() -> None:
    meanings = [field.description for field in all_settings().values()]
    assert sorted(set(meanings), key=str) == sorted(meanings, key=str)


def test_config_show_documents_every_setting_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, Any]] = []

    def keep(columns: list[str], rows: list[Any], title: str) -> None:
        if "path" in columns:
            shown.extend(dict(zip(columns, row, strict=True)) for row in rows)

    monkeypatch.setattr(command, "print_rows", keep)
    command.show(typer.Context(typer.main.get_command(command.app)), "demo")
    documented = {row["path"]: row["meaning"] for row in shown}
    assert documented == {path: field.description for path, field in all_settings().items()}


def test_units_come_from_one_list() -> None:
    assert {row.unit for row in rows(resolve(None))} <= UNITS


@pytest.mark.parametrize(
    "path", [p for p, field in all_settings().items() if field.annotation in (int, float, int | None)]
)
def test_every_number_has_a_bound(path: str) -> None:
    assert re.search(r"at least|above", expected(path))


@pytest.mark.parametrize("path", all_settings())
def test_every_default_is_allowed(path: str) -> None:
    default = all_settings()[path].default
    assert check_value(path, default, "default") == default


def test_every_section_is_frozen_and_closed() -> None:
    for section in [Experiment, *Section.__subclasses__()]:
        assert section.model_config["frozen"] is True
        assert section.model_config["extra"] == "forbid"


def test_every_preset_value_is_allowed() -> None:
    for path, value in {**PUBLISHED, **PUBLISHED_EVALUATION}.items():
        assert check_value(path, value, "mode: published") == value


def test_every_setting_is_read_somewhere() -> None:
    """Find each setting in the code as `section.name` or as its path in a text; an unread one would have no effect."""
    definitions = {"resolve.py", "paths.py", "values.py"}
    files = [*(ROOT / "hcl").rglob("*.py"), *(ROOT / "orchestration").rglob("*.py")]
    read = {one for path in files if path.name not in definitions for one in read_in(ast.parse(path.read_text()))}
    unread = [path for path in all_settings() if path not in read and ".".join(path.split(".")[-2:]) not in read]
    assert not unread, f"nothing reads {', '.join(unread)}"


SOURCE = """
def build(experiment, other):
    optim, lr = experiment.optim, other.lr
    return optim.momentum, "fusion.triples", experiment.name
"""


def test_what_reads_a_setting_is_told_from_what_has_its_name() -> None:
    read = set(read_in(ast.parse(SOURCE)))
    assert {"optim.momentum", "fusion.triples", "name"} <= read
    assert not {"optim.lr", "loss.momentum"} & read


def read_in(code: ast.Module) -> Iterator[str]:
    """Yield the settings that code reads: as attribute of a section or of a name bound to one, or as path in a text."""
    sections = {path.rpartition(".")[0].rpartition(".")[2] for path in all_settings()} - {""}
    scopes: list[ast.AST] = [one for one in ast.walk(code) if isinstance(one, ast.FunctionDef)]
    for scope in [code, *scopes]:
        names = dict(_names_of_sections(scope, sections))
        for node in ast.walk(scope):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
                yield node.value
            elif isinstance(node, ast.Attribute):
                owner = names.get(_last(node.value), _last(node.value))
                yield node.attr if owner == "experiment" else f"{owner}.{node.attr}"
    for kind in (one for one in ast.walk(code) if isinstance(one, ast.ClassDef) and one.name.lower() in sections):
        for reader in (one for one in kind.body if isinstance(one, ast.FunctionDef) and _is_property(one)):
            for node in ast.walk(reader):
                if isinstance(node, ast.Attribute) and _last(node.value) == "self":
                    yield f"{kind.name.lower()}.{node.attr}"


def _names_of_sections(scope: ast.AST, sections: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the local names that are bound to a section, as in `train = experiment.train` or `settings: Train`."""
    for node in ast.walk(scope):
        pairs: list[tuple[Any, Any]] = []
        if isinstance(node, ast.Assign):
            for target in node.targets:
                is_several = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                pairs += zip(target.elts, node.value.elts, strict=False) if is_several else [(target, node.value)]  # type: ignore[attr-defined]
        elif isinstance(node, ast.arg) and _last(node.annotation).lower() in sections:
            yield node.arg, _last(node.annotation).lower()
        for target, value in pairs:
            if isinstance(target, ast.Name) and isinstance(value, ast.Attribute) and value.attr in sections:
                yield target.id, value.attr


def _is_property(function: ast.FunctionDef) -> bool:
    return any(_last(one) in ("property", "cached_property") for one in function.decorator_list)


def _last(node: Any) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
