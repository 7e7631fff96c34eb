"""Find what an experiment names: a backbone, regime, evaluation method or augmentation, ours or one of the user's own.

All four kinds are found by one function, in the same forms:

- `NAME`, or `NAME:ARGUMENT` for a family such as `timm:vit_small_patch14_dinov2`: one of this package or an installed
  entry point of the group `hcl.backbones`, `hcl.regimes`, `hcl.methods` or `hcl.augmentations`;
- `MODULE:CLASS`: a class of an installed module;
- `FILE.py:CLASS`: a class of a file, relative to the YAML file that names it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hcl.config.definitions import Definition, Own, Sources, is_file, portable
from hcl.config.extension_code import code_digest, faults_at, module_of, read_source
from hcl.config.section import NoSettings, Section
from hcl.errors import ConfigError, did_you_mean

SETTINGS = {
    "backbone": "model.backbone",
    "regime": "train.regime",
    "method": "evaluation.method",
    "augmentation": "clips.augmentation",
}
"""The setting that names each kind. The section with the name of the kind holds the settings of what is named."""


_NEEDED = {
    "backbone": ("traits", "make"),
    "regime": ("traits", "model", "regime", "method"),
    "method": ("make",),
    "augmentation": ("make",),
}
_REMEDY = "hcl/EXTENSIONS.md describes what each kind must have"


def find(kind: str, reference: str, sources: Sources | None = None) -> Definition:
    """Return what a reference names.

    Args:
        kind: one of `SETTINGS`.
        sources: used in place of the files there.

    Raises:
        ConfigError: there is no such name, module, file or class, it cannot be imported, or it lacks a member.
    """
    definition = _own(kind, reference) or _from_entry_point(kind, reference) or _from_code(kind, reference, sources)
    _LATEST[kind, reference] = definition
    return definition


def definitions_of(content: Mapping[str, Any], sources: Sources | None = None) -> dict[str, Definition]:
    """Return what an experiment names, by kind, from its settings in sections; defaults where it is silent.

    Raises:
        ConfigError: as `find`.
    """
    from hcl.config.paths import setting_of

    definitions = {}
    for kind, path in SETTINGS.items():
        section, name = path.split(".")
        settings = content.get(section)
        value = settings.get(name) if isinstance(settings, Mapping) else getattr(settings, name, None)
        definitions[kind] = find(kind, str(value if value is not None else setting_of(path).default), sources)
    return definitions


def latest(kind: str, reference: str) -> Definition:
    """Return the definition that was found last for a reference; for checks inside a section."""
    return _LATEST.get((kind, reference)) or find(kind, reference)


def names(kind: str) -> list[str]:
    """Return the names that need no file or module: this package's own, and installed entry points."""
    return list(dict.fromkeys((*_table(kind), *_entry_points(kind))))


def absolute(reference: Any, folder: Path) -> Any:
    """Return a reference with the absolute path of its file; everything else as it is."""
    if not (isinstance(reference, str) and is_file(reference)):
        return reference
    path, _, name = reference.rpartition(":")
    return f"{(folder / Path(path).expanduser()).absolute().resolve()}:{name}"


_LATEST: dict[tuple[str, str], Definition] = {}


@cache
def _table(kind: str) -> Mapping[str, Own]:
    from hcl.config.backbones import BACKBONES  # both modules use `Own`
    from hcl.config.regimes import REGIMES

    nothing = {"none": Own("hcl.config.extensions:NOTHING")}
    return {"backbone": BACKBONES, "regime": REGIMES, "method": nothing, "augmentation": nothing}[kind]


NOTHING = NoSettings()


def _own(kind: str, reference: str) -> Definition | None:
    name, colon, argument = reference.partition(":")
    own = _table(kind).get(name)
    if own is None or bool(colon) != own.takes_argument:
        return None

    def load() -> Any:
        module, _, attribute = own.reference.partition(":")
        return _instance(getattr(importlib.import_module(module), attribute), argument or own.argument)

    traits = own.traits
    if own.takes_argument:
        traits = load().traits
    return Definition(kind, reference, reference, load, traits, own.settings)


@cache
def _entry_points(kind: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=f"hcl.{kind}s")}


def _from_entry_point(kind: str, reference: str) -> Definition | None:
    name, colon, argument = reference.partition(":")
    entry = _entry_points(kind).get(name)
    if entry is None:
        return None
    with faults_at(_place(kind, reference)):
        loaded = entry.load()
    return _extension(kind, reference, reference, loaded, argument if colon else None)


def _from_code(kind: str, reference: str, sources: Sources | None) -> Definition:
    place, colon, name = reference.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise ConfigError(
            f"got {reference!r}, expected {accepted(kind)}{did_you_mean(reference, names(kind))}",
            where=SETTINGS[kind],
            remedy=_REMEDY,
        )
    source: dict[str, str] = {}
    where = _place(kind, reference)
    if is_file(reference):
        source[place] = read_source(Path(place), sources or {}, SETTINGS[kind])
        module = module_of(Path(place), source[place], where)
    else:
        with faults_at(where):
            module = importlib.import_module(place)
    if not hasattr(module, name):
        raise ConfigError(f"has no {name}{did_you_mean(name, vars(module))}", where=where, remedy=_REMEDY)
    return _extension(kind, reference, name, getattr(module, name), None, source)


def accepted(kind: str) -> str:
    """Describe the references of a kind in words."""
    return f"one of {', '.join(names(kind))}, or your own as FILE.py:CLASS or MODULE:CLASS"


def _extension(
    kind: str, reference: str, title: str, loaded: Any, argument: str | None, source: Sources | None = None
) -> Definition:
    where = _place(kind, reference)
    with faults_at(where):
        instance = _instance(loaded, argument)
    if lacking := [name for name in _NEEDED[kind] if not hasattr(instance, name)]:
        raise ConfigError(f"has no {' and no '.join(lacking)}, which a {kind} needs", where=where, remedy=_REMEDY)
    settings = getattr(instance, "Settings", NoSettings)
    if not (isinstance(settings, type) and issubclass(settings, Section)):
        raise ConfigError("its Settings are no hcl.config.Section", where=where, remedy=_REMEDY)
    if nested := [name for name, one in settings.model_fields.items() if _is_section(one.annotation)]:
        raise ConfigError(f"its setting {nested[0]} is a section of its own", where=where, remedy="keep settings flat")
    return Definition(
        kind=kind,
        reference=reference,
        title=title,
        load=lambda: instance,
        traits=getattr(instance, "traits", None),
        settings=settings,
        digest=code_digest(loaded, next(iter(source.values())) if source else None),
        source=source or {},
    )


def _place(kind: str, reference: str) -> str:
    return f"{SETTINGS[kind]}={portable(reference)}"


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _instance(loaded: Any, argument: str | None) -> Any:
    if argument is not None:
        return loaded(argument)
    return loaded() if isinstance(loaded, type) else loaded
