"""Define a setting and a section of settings."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def setting(default: Any, meaning: str, *, unit: str | None = None, **bounds: Any) -> Any:
    """Define a field with its meaning, its unit and its bounds (pydantic's ge, gt, le, lt, min_length)."""
    extra: dict[str, Any] | None = {"unit": unit} if unit else None
    return Field(default, description=meaning, json_schema_extra=extra, validate_default=True, **bounds)


class Section(BaseModel):
    """Hold settings that belong together; every field is made by `setting`."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class NoSettings(Section):
    """The section of what has no settings of its own."""
