"""Read and compare the settings of runs as values by dotted path, from the text of their experiment.yaml.

The package that defines the settings is not used, so that records of its other versions can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from results.errors import RecordError

NAME = "name"
"""The setting in which any two runs differ."""
TERMS = "loss.sigma_"
"""The beginning of the settings whose values an ablation of the loss changes."""


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def settings_of(text: str, where: str = "experiment.yaml") -> dict[str, Any]:
    """Return values by dotted path, with lists as tuples.

    Raises:
        RecordError: if it is no YAML, no mapping of settings, or has aliases, a few of which can expand to any size.
    """
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_LOADER)):
            raise RecordError("holds an alias, which runs never write", where=where)
        content = yaml.load(text, Loader=_LOADER)
    except (
        yaml.YAMLError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        # All but the first and the last are raised by PyYAML for tags with unsuitable values, such as `!!bool x`.
        raise RecordError(f"is not YAML: {' '.join(str(error).split())}", where=where) from error
    if not isinstance(content, Mapping):
        raise RecordError(f"holds a {type(content).__name__}, not settings", where=where)
    return dict(_leaves(content, ""))


def regime_in(settings: Mapping[str, Any]) -> str | None:
    """Return the name of the regime, as methods of records have it: the class alone if it is of the user's own."""
    regime = settings.get("train.regime")
    return str(regime).rpartition(":")[2] if regime else None


def differing(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the paths whose values differ, in the order of the settings; a missing value differs from all others."""
    all_settings = list(settings)
    paths = dict.fromkeys(path for settings_of_run in all_settings for path in settings_of_run)
    return [path for path in paths if len({repr(settings_of_run.get(path)) for settings_of_run in all_settings}) > 1]


def _leaves(content: Mapping[Any, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, tuple(value) if isinstance(value, list) else value
