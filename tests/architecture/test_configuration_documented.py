"""Every setting says what it means, has bounds where it is a number, and is read by something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hcl.config import PUBLISHED, PUBLISHED_EVALUATION, Experiment, Section
from hcl.resolve import all_settings, check_value, expected, resolve, rows

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
    assert len(meaning) > 5
    assert meaning == meaning.strip()
    assert not meaning.endswith(".")


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
    """A setting that nothing reads would promise what nothing keeps."""
    definitions = {"resolve.py", "settings.py", "setting_values.py"}
    files = [*(ROOT / "hcl").glob("*.py"), *(ROOT / "orchestration").rglob("*.py")]
    code = "\n".join(path.read_text() for path in files if path.name not in definitions)
    unread = [path for path in all_settings() if not re.search(rf"\b{path.rpartition('.')[2]}s?\b", code)]
    assert not unread, f"nothing reads {', '.join(unread)}"
