"""Convert records to plain JSON values and back; values that are read are checked against the record's type hints."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from results.errors import RecordError

SCHEMA = 1
"""Version written into every record. A new optional field needs no new version; a changed meaning does."""

R = TypeVar("R")


def bounded(low: float, high: float = math.inf, **default: Any) -> Any:
    """Return a record's field with the closed range of its values."""
    return dataclasses.field(metadata={"range": (low, high)}, **default)


def encode(record: Any) -> dict[str, Any]:
    """Return a record as JSON values, with its `kind`. NumPy scalars become Python values, non-finite values null.

    Raises:
        RecordError: if a value does not fit its field.
    """
    fields = {field.name: plain(getattr(record, field.name)) for field in dataclasses.fields(record)}
    payload = {"kind": type(record).KIND, **fields}
    decode(type(record), payload, where=f"{type(record).__name__}")  # ensures that every written record can be read
    return payload


def decode(record_type: type[R], payload: Any, *, where: str) -> R:
    """Return the record in `payload`. Unknown keys are ignored; missing ones get the field's default.

    Raises:
        RecordError: if the kind, the schema, a field, or the type or range of a value is wrong.
    """
    kind = record_type.KIND  # type: ignore[attr-defined]
    if not isinstance(payload, Mapping) or payload.get("kind") != kind:
        raise RecordError(f"is not one of our records: expected an object with kind={kind!r}", where=where)
    schema = payload.get("schema", 0)
    if not _fits(schema, int) or schema > SCHEMA:
        raise RecordError(
            f"has schema {schema!r}, this version reads up to {SCHEMA}", where=where, remedy="update the package"
        )
    values = {}
    for field, hint in _fields(record_type):  # type: ignore[arg-type]
        if field.name in payload:
            values[field.name] = _checked(payload[field.name], field, hint, where)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise RecordError(f"lacks the field {field.name!r}", where=where)
    return record_type(**values)


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: NumPy scalars unwrapped, tuples as lists, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, without a copy of their type hierarchy here
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


@functools.cache
def _fields(record_type: type) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(record_type)
    return [(field, hints[field.name]) for field in dataclasses.fields(record_type)]  # type: ignore[arg-type]


def _checked(value: Any, field: dataclasses.Field[Any], hint: Any, where: str) -> Any:
    if not _fits(value, hint):
        raise RecordError(f"expected {_spelled(hint)}, got {_short(value)}", where=f"{where}: {field.name}")
    low, high = field.metadata.get("range", (-math.inf, math.inf))
    if isinstance(value, (int, float)) and not low <= value <= high:
        raise RecordError(f"expected a value in [{low}, {high}], got {value!r}", where=f"{where}: {field.name}")
    return float(value) if hint is float else value


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, typing.get_args(hint)[1]) for item in value.values())
    if origin is list:
        return isinstance(value, list) and all(_fits(item, typing.get_args(hint)[0]) for item in value)
    if hint in (int, float):  # a bool is an int in Python, but a mistake here
        number = int if hint is int else (int, float)
        return isinstance(value, number) and not isinstance(value, bool) and _is_storable(value)
    return isinstance(value, hint)


def _is_storable(number: float) -> bool:
    """Return whether a number is finite and, if whole, fits into 64 bits as in a table; JSON's have no limit."""
    return -(2**63) <= number < 2**63 if isinstance(number, int) else math.isfinite(number)


def _spelled(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
