"""The settings of runs as values by dotted path, read from the text of their experiment.yaml and compared.

The package that defines the settings is not asked: records of other versions of it are compared as well.
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
    """Values by dotted path, lists as tuples.

    Raises:
        RecordError: no YAML, no mapping of settings, or aliases in it, of which few stand for any amount of data.
    """
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_LOADER)):
            raise RecordError("holds an alias, which no run writes", where=where)
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
        # all but the first and the last of PyYAML, for tags whose values do not suit them, such as `!!bool x`
        raise RecordError(f"is not YAML: {' '.join(str(error).split())}", where=where) from error
    if not isinstance(content, Mapping):
        raise RecordError(f"holds a {type(content).__name__}, not settings", where=where)
    return dict(_leaves(content, ""))


def differing(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """The paths whose values are not the same in all, in the order of the first; absent is a value of its own."""
    every = list(settings)
    paths = dict.fromkeys(path for one in every for path in one)
    return [path for path in paths if len({repr(one.get(path)) for one in every}) > 1]


def _leaves(content: Mapping[Any, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, tuple(value) if isinstance(value, list) else value
