"""Parse a search space and its points from options."""

from __future__ import annotations

from typing import Any

from hcl.config.paths import flatten
from hcl.config.resolve import resolve
from hcl.config.strict_yaml import parse_yaml
from hcl.errors import ConfigError
from search_spaces import Space, load_space


def space_of(name: str, settings: list[str] | None) -> Space:
    """Return the space, with the values of --set fixed."""
    resolved = resolve(None, settings or [])
    values = {
        path: value
        for path, value in flatten(resolved.experiment.model_dump(mode="json"), "experiment").items()
        if resolved.origins.get(path) == "--set"
    }
    return load_space(name).pin(values)


def point_of(text: str) -> dict[str, Any]:
    """Parse `loss.sigma_ce=0.5,loss.sigma_spatial=1` into values by path. Raises ConfigError."""
    content = parse_yaml("{" + text.replace("=", ": ") + "}", f"--point {text}") if "=" in text else None
    if not isinstance(content, dict):
        raise ConfigError(
            f"`{text}` is not PATH=VALUE,...", where="--point", remedy="write loss.sigma_ce=0.5,loss.sigma_spatial=1"
        )
    return content
