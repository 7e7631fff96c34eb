"""Check the values of settings, and describe accepted values and mistakes in words."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterable, Mapping
from functools import cache
from reprlib import Repr
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from hcl.config.definitions import Named
from hcl.config.extensions import accepted
from hcl.config.paths import Sections, all_settings, below, setting_of, unit_of
from hcl.errors import ConfigError, did_you_mean


def check_value(path: str, value: Any, origin: str, sections: Sections | None = None) -> Any:
    """Convert a value to the setting's own type (a list becomes a tuple, "8" becomes 8).

    Args:
        sections: as in `hcl.config.paths.setting_of`.

    Raises:
        ConfigError: it names origin, setting, the given and the expected value.
    """
    field = setting_of(path, origin, sections)
    try:
        checked = (_adapter(path) if path in all_settings() else _adapter_of(field)).validate_python(value)
    except ValidationError:
        pass
    else:
        # pydantic accepts true as 1, and inf as a number, which are mistakes here
        if (field.annotation is bool or not _holds(value, _is_bool)) and not _holds(checked, _is_infinite):
            return checked
    hint = did_you_mean(value, choices(field.annotation)) if isinstance(value, str) else ""
    raise ConfigError(
        f"got {shown(value)}, expected {expected(path, sections)}{hint}",
        where=f"{origin}: {path}",
        remedy=f"{path}: {field.description} (default: {shown(field.default)})",
    )


def expected(path: str, sections: Sections | None = None) -> str:
    """Describe the accepted values of a setting: `a whole number, at least 2, at most 64 (frames)`."""
    field = setting_of(path, sections=sections)
    unit = unit_of(path, sections)
    return _in_words(field.annotation, field.metadata) + (f" ({unit})" if unit else "")


def explain(error: ValidationError, origins: Mapping[str, str]) -> ConfigError:
    """Convert a validation error across settings to a ConfigError with the origins of the settings that it names."""
    first = error.errors()[0]
    section = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    words = set(re.findall(r"[A-Za-z_][\w.]*\w", message))
    named = [path for path in all_settings() if path in words or below(path, section) in words]
    sources = ", ".join(f"{path} (from {origins[path]})" for path in named)
    return ConfigError(message, where=section or "experiment", remedy=f"change one of: {sources}" if sources else None)


def shown(value: Any) -> str:
    """Return a short form of a value for messages."""
    brief = Repr()
    brief.maxlevel, brief.maxstring, brief.maxother = 3, 80, 80
    return brief.repr(value)


@cache
def _adapter(path: str) -> TypeAdapter[Any]:
    return _adapter_of(setting_of(path))


def _adapter_of(field: FieldInfo) -> TypeAdapter[Any]:
    kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return TypeAdapter(kind)


def _holds(value: Any, is_such: Any) -> bool:
    return any(_holds(entry, is_such) for entry in value) if isinstance(value, list | tuple) else is_such(value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def choices(kind: Any) -> list[str]:
    """Return the words that a setting of this type accepts, true and false among them; none for numbers and texts."""
    if kind is bool:
        return ["true", "false"]
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    return [choice for part in get_args(kind) for choice in choices(part)]


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "empty"}
_BOUNDS = {
    "ge": ", at least {}",
    "gt": ", above {}",
    "le": ", at most {}",
    "lt": ", below {}",
    "pattern": ", matching {}",
    "min_length": "{1} at least {0}",
    "max_length": "{1} at most {0}",
}


def _in_words(kind: Any, metadata: Iterable[Any] = ()) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if names := [extra for extra in metadata if isinstance(extra, Named)]:
        return accepted(names[0].kind)
    if origin is Annotated:
        text = _in_words(parts[0], [bound for extra in parts[1:] for bound in getattr(extra, "metadata", [extra])])
    elif origin is Literal:
        text = f"{'one of ' if len(parts) > 1 else ''}{', '.join(map(str, parts))}"
    elif origin in (Union, types.UnionType):
        text = " or ".join(_in_words(part) for part in parts)
    elif origin is tuple and parts[-1] is Ellipsis:
        text = f"a list, each entry {_in_words(parts[0])}"
    elif origin is tuple:
        text = f"a list of {len(parts)}: {', '.join(_in_words(part) for part in parts)}"
    else:
        text = _WORDS.get(kind, str(kind))
    return text + _bounds_in_words(metadata, "; entries:" if origin is tuple else ", characters:")


def _bounds_in_words(metadata: Iterable[Any], counted: str) -> str:
    limits = [(words, getattr(bound, name, None)) for bound in metadata for name, words in _BOUNDS.items()]
    return "".join(words.format(limit, counted) for words, limit in limits if limit is not None)
