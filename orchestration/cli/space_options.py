"""A search space and its points as they are typed."""

from __future__ import annotations

from hcl.config.overrides import SET, parse_overrides
from hcl.config.values import check_value
from search_spaces import Space, load_space


def space_of(name: str, settings: list[str] | None) -> Space:
    """Return the space, with what --set gives fixed. Raises ConfigError, SpaceError."""
    values = {path: check_value(path, value, SET) for path, value in parse_overrides(settings or ()).items()}
    return load_space(name).pin({path: _plain(value) for path, value in values.items()})


def _plain(value: object) -> object:
    """Return a setting's value as a space's file has it: its tuples are lists."""
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value
