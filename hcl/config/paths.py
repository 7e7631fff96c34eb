"""List the settings of an experiment by dotted path, and convert nested sections to paths and back."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hcl.config.experiment import Experiment
from hcl.config.extensions import SETTINGS
from hcl.config.presets import MACHINE_SETTINGS
from hcl.config.section import Section
from hcl.errors import ConfigError, did_you_mean

Sections = Mapping[str, type[Section]]
"""The classes of the sections of what an experiment names, by kind (`Experiment.sections`)."""


@cache
def all_settings() -> dict[str, FieldInfo]:
    """Return every setting by its dotted path (`clips.n_frames`), in the order of `hcl.config.Experiment`."""
    return dict(_walk(Experiment, ""))


def settings_with(sections: Sections) -> dict[str, FieldInfo]:
    """Return every setting by its dotted path, those of an experiment's own sections included."""
    return all_settings() | {
        path: field for kind, section in sections.items() for path, field in _walk(section, kind + ".")
    }


def machine_settings() -> frozenset[str]:
    """Return the paths of the settings that do not affect results, such as those of the machine and the name."""
    return frozenset(
        path
        for path in all_settings()
        if MACHINE_SETTINGS.get(path) is True or path.rpartition(".")[2] in _machine_section(path.partition(".")[0])
    )


def setting_of(path: str, where: str = "experiment", sections: Sections | None = None) -> FieldInfo:
    """Return type (`annotation`), bounds (`metadata`), `default` and meaning (`description`) of a setting.

    Args:
        sections: those of the experiment; without them, the settings of what it names are not known.

    Raises:
        ConfigError: there is no such setting, or the path names a section.
    """
    if path in all_settings():
        return all_settings()[path]
    kind, _, name = path.partition(".")
    if kind in SETTINGS and name and sections is not None:
        return _own_setting(kind, name, sections[kind], where)
    if path in _sections():
        raise ConfigError(f"`{path}` is a section, not a setting", where=where, remedy=_listing(path))
    raise _unknown(path, where)


def is_own(path: str) -> bool:
    """Return true for a path in the section of what the experiment names, whose settings depend on it."""
    kind, _, name = path.partition(".")
    return kind in SETTINGS and name.isidentifier()


def unit_of(path: str, sections: Sections | None = None) -> str:
    """Return the unit of a setting, or an empty text."""
    extra = setting_of(path, sections=sections).json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def flatten(content: Mapping[Any, Any], where: str, prefix: str = "") -> dict[str, Any]:
    """Convert nested sections to values by dotted path.

    Raises:
        ConfigError: a key does not exist, or a section is no mapping.
    """
    values: dict[str, Any] = {}
    for key, value in content.items():
        new = expand(f"{prefix}{key}", value, where)
        if twice := values.keys() & new.keys():  # `loss.sigma_ce` beside `loss: {sigma_ce: ...}`
            raise ConfigError(f"`{min(twice)}` is given twice", where=where, remedy="keep one of the two")
        values |= new
    return values


def expand(path: str, value: Any, where: str) -> dict[str, Any]:
    """Return the values that `path = value` sets by dotted path: one setting, or those of a whole section."""
    if path in all_settings() or is_own(path):
        return {path: value}
    if path not in _sections():
        raise _unknown(path, where)
    if value is None:  # `loss:` with every line beneath it commented out
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"`{path}` is a section, got a {type(value).__name__}, expected a mapping",
            where=where,
            remedy=_listing(path),
        )
    return flatten(value, where, f"{path}.")


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values by dotted path to nested sections."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        *sections, name = path.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return nested


def below(path: str, section: str) -> str | None:
    """Return the rest of a path below a section, or None if the path is not in it."""
    return path.removeprefix(f"{section}.") if path.startswith(f"{section}.") else None


def _walk(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _walk(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


@cache
def _sections() -> frozenset[str]:
    return frozenset((*SETTINGS, *(path.rpartition(".")[0] for path in all_settings() if "." in path)))


def _own_setting(kind: str, name: str, section: type[Section], where: str) -> FieldInfo:
    if name in section.model_fields:
        return section.model_fields[name]
    known = list(section.model_fields)
    raise ConfigError(
        f"unknown setting `{kind}.{name}`{did_you_mean(name, known)}",
        where=where,
        remedy=f"the section {kind} holds the settings of what {SETTINGS[kind]} names: {', '.join(known) or 'none'}",
    )


def _names_in(section: str) -> list[str]:
    keys = [below(path, section) if section else path for path in all_settings()]
    return list(dict.fromkeys(key.partition(".")[0] for key in keys if key))


def _machine_section(section: str) -> set[str]:
    names = MACHINE_SETTINGS.get(section)
    return names if isinstance(names, set) else set()


def _listing(section: str) -> str:
    return f"{f'settings of {section}' if section else 'an experiment holds'}: {', '.join(_names_in(section))}"


def _unknown(path: str, where: str) -> ConfigError:
    section, _, name = path.rpartition(".")
    while section and section not in _sections():
        if section in all_settings():
            return ConfigError(
                f"`{section}` is a setting and has no parts, got `{path}`",
                where=where,
                remedy=f"{section}: {all_settings()[section].description}",
            )
        section, _, name = section.rpartition(".")
    hint = did_you_mean(name, _names_in(section))
    if not hint:  # the name may be right in another section: `lr` for `optim.lr`
        elsewhere = {known.rpartition(".")[2]: known for known in all_settings()}
        close = difflib.get_close_matches(path.rpartition(".")[2], list(elsewhere), n=1, cutoff=0.75)
        hint = f", did you mean `{elsewhere[close[0]]}`?" if close else ""
    return ConfigError(f"unknown setting `{path}`{hint}", where=where, remedy=_listing(section))
