"""The texts of `--set`, `--point` and records, `PATH=VALUE`: every command reads them here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hcl.config.paths import all_settings, expand, setting_of
from hcl.config.strict_yaml import parse_yaml
from hcl.errors import ConfigError

Overrides = Mapping[str, Any] | Sequence[str]
"""`path=value` texts, or values by dotted path."""

SET, POINT = "--set", "--point"


def parse_overrides(texts: Iterable[str], option: str = SET) -> dict[str, Any]:
    """Read texts as values by dotted path; a section's mapping becomes its settings, and the last of a path counts.

    Args:
        option: how messages name their origin.

    Raises:
        ConfigError: a text is not PATH=VALUE, its value is no YAML, or there is no such setting.
    """
    values: dict[str, Any] = {}
    for text in texts:
        path, value = _parse_override(text, option)
        values |= expand(path, value, option)
    return values


def override_values(overrides: Overrides, option: str = SET) -> dict[str, Any]:
    """Return overrides as values by dotted path, whatever their form. Raises ConfigError as `parse_overrides`."""
    if isinstance(overrides, str):
        return parse_overrides([overrides], option)
    if not isinstance(overrides, Mapping):
        return parse_overrides(overrides, option)
    return {leaf: value for path, given in overrides.items() for leaf, value in expand(path, given, option).items()}


def parse_point(text: str) -> dict[str, Any]:
    """Read `PATH=VALUE,PATH=VALUE`, a point of a search space. Raises ConfigError as `parse_overrides`."""
    point: dict[str, Any] = {}
    for part in _BETWEEN.split(text):
        for path, value in parse_overrides([part], POINT).items():
            if path in point:
                raise ConfigError(f"`{path}` stands twice in `{text}`", where=POINT, remedy="keep one of the two")
            point[path] = value
    return point


def path_of(text: str) -> str:
    """Return the path of a `PATH=VALUE` text. Raises ConfigError."""
    return _parse_override(text, SET)[0]


def _parse_override(text: str, option: str) -> tuple[str, Any]:
    path, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not path:
        raise ConfigError(
            f"`{text}` is not PATH=VALUE", where=option, remedy=f"write it as {option} loss.sigma_temporal=0.25"
        )
    is_text = path in all_settings() and setting_of(path).annotation is str
    if is_text and value[:1] not in ("'", '"'):  # name=007 is a name, not a number
        return path, value
    return path, parse_yaml(value, f"{option} {path}")


_BETWEEN = re.compile(r",(?=\s*[A-Za-z_][\w.]*\s*=)")  # the commas of a list or a mapping have no path behind them
