"""Resolve an experiment from defaults, the mode's preset, YAML files and overrides, each value with its origin.

Later layers override earlier ones: defaults < preset of `mode: published` < base files < the file itself < overrides.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from hcl.config import MACHINE_SETTINGS, PUBLISHED, Experiment
from hcl.config.definitions import Sources
from hcl.config.extensions import SETTINGS, absolute, find
from hcl.config.overrides import SET, Overrides, override_values
from hcl.config.paths import all_settings, flatten, nest, setting_of, settings_with, unit_of
from hcl.config.section import Section
from hcl.config.strict_yaml import read_yaml
from hcl.config.values import check_value, expected, explain
from hcl.errors import ConfigError, did_you_mean

__all__ = [
    "MAX_BASES",
    "Overrides",
    "Resolved",
    "Row",
    "all_settings",
    "changes",
    "check_value",
    "expected",
    "override",
    "resolve",
    "rows",
    "setting_of",
    "shipped_experiments",
]

DEFAULT, PRESET, OVERRIDE = "default", "mode: published", SET
MAX_BASES = 8


@dataclass(frozen=True)
class Resolved:
    """Hold an experiment, and the origin of each value by dotted path."""

    experiment: Experiment
    origins: dict[str, str]


class Row(NamedTuple):
    """Hold one line of `hcl config show`."""

    path: str
    value: Any
    origin: str
    unit: str
    meaning: str


def resolve(source: str | Path | None, overrides: Overrides = ()) -> Resolved:
    """Resolve the experiment that a file and overrides describe.

    Args:
        source: a path (a text that ends in .yaml or .yml or holds a slash), the name of a shipped experiment, or
            None for the defaults.
        overrides: the overrides of `--set` or of a trial.

    Raises:
        ConfigError: it names the file or override, the setting, the given and the expected value.
    """
    layers = [*(_file_layers(source) if source is not None else []), *_override_layers(overrides)]
    return _merge(layers)


def override(experiment: Experiment, overrides: Overrides) -> Experiment:
    """Return a resolved experiment with some values changed, for example by a trial; it is checked like any other.

    `mode` cannot change here, because the origins of values are gone, and its preset must not override set values.
    """
    layers = _override_layers(overrides)
    for _, values in layers:
        if values.get("mode", experiment.mode) != experiment.mode:
            raise ConfigError(
                f"mode is {experiment.mode} and cannot become {values['mode']} in a resolved experiment",
                where=f"{OVERRIDE} mode",
                remedy="set mode in the experiment's file or when it is first resolved",
            )
    values = flatten(experiment.model_dump(), "experiment")
    return _merge([("experiment", values), *layers], experiment.sources).experiment


def changes(old: Experiment, new: Experiment) -> list[str]:
    """Return the `path=value` texts that turn `old` into `new`, without the name and the machine's settings."""
    before, after = (flatten(one.model_dump(mode="json", exclude=MACHINE_SETTINGS), "experiment") for one in (old, new))
    return [f"{path}={json.dumps(value)}" for path, value in after.items() if value != before.get(path)]


def rows(resolved: Resolved) -> list[Row]:
    """Return every setting with value, origin, unit and meaning, in the order of `hcl.config.Experiment`."""
    values, sections = flatten(resolved.experiment.model_dump(), "experiment"), resolved.experiment.sections
    return [
        Row(path, values[path], resolved.origins[path], unit_of(path, sections), field.description or "")
        for path, field in settings_with(sections).items()
    ]


def shipped_experiments() -> list[str]:
    """Return the names of the experiments that come with the package."""
    return sorted(Path(entry.name).stem for entry in _shipped().iterdir() if entry.name.endswith(".yaml"))


# A layer is (origin, values by dotted path); layers are ordered from the weakest.
Layer = tuple[str, dict[str, Any]]


def _merge(layers: Sequence[Layer], sources: Sources | None = None) -> Resolved:
    """Check and merge layers.

    Args:
        sources: the text of extension files, used in place of the files.
    """
    modes = [values["mode"] for _, values in layers if "mode" in values]
    if modes and modes[-1] == "published":
        layers = [(PRESET, PUBLISHED), *layers]
    merged: dict[str, Any] = {}
    origins = dict.fromkeys(all_settings(), DEFAULT)
    for origin, values in layers:
        merged |= values
        origins |= dict.fromkeys(values, origin)
    sections = _sections_of(merged, origins, sources)
    if modes and modes[-1] == "published":
        for kind, section in sections.items():
            preset = {f"{kind}.{name}": value for name, value in getattr(section, "PUBLISHED", {}).items()}
            merged = preset | merged
            origins = dict.fromkeys(preset, PRESET) | origins
    for path, value in merged.items():
        check_value(path, value, origins[path], sections)
    origins = dict.fromkeys(settings_with(sections), DEFAULT) | origins
    try:
        experiment = Experiment.model_validate(nest(merged), context={"sources": sources})
    except ValidationError as error:  # each value is valid, but they do not fit together
        raise explain(error, origins) from None
    return Resolved(experiment, origins)


def _sections_of(merged: dict[str, Any], origins: dict[str, str], sources: Sources | None) -> dict[str, type[Section]]:
    """Return the classes of the sections of what the values name. Raises ConfigError."""
    sections = {}
    for kind, path in SETTINGS.items():
        reference = check_value(path, merged.get(path, setting_of(path).default), origins[path])
        try:
            sections[kind] = find(kind, reference, sources).settings
        except ConfigError as error:
            raise ConfigError(error.problem, where=f"{origins[path]}: {error.where}", remedy=error.remedy) from error
    return sections


def _override_layers(overrides: Overrides) -> list[Layer]:
    return [(OVERRIDE, _with_absolute_files(override_values(overrides), Path()))]


def _file_layers(source: str | Path) -> list[Layer]:
    layers: list[Layer] = []
    chain: list[str] = []
    seen: set[str] = set()
    place: tuple[Path, str] | None = _locate(source, None, "experiment")
    while place:
        path, label = place
        chain.append(label)
        content = read_yaml(path, label)
        real = os.path.realpath(path)
        if real in seen:
            raise ConfigError(f"`base` forms a cycle: {' -> '.join(chain)}", where=chain[0])
        if len(chain) > MAX_BASES + 1:
            raise ConfigError(f"more than {MAX_BASES} bases: {' -> '.join(chain)}", where=chain[0])
        seen.add(real)
        if not isinstance(content, dict):
            problem = "is empty" if content is None else f"holds a {type(content).__name__}"
            raise ConfigError(f"{problem}, expected a mapping of settings", where=label, remedy="see `hcl config show`")
        base = content.pop("base", None)
        layers.insert(0, (label, _with_absolute_files(flatten(content, label), path.parent)))
        place = None if base is None else _locate(base, path.parent, f"{label}: base")
    return layers


def _with_absolute_files(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a layer's values with absolute paths of the extension files that it names."""
    named = {path: absolute(values[path], folder) for path in SETTINGS.values() if path in values}
    return values | named


def _locate(source: Any, folder: Path | None, where: str) -> tuple[Path, str]:
    """Return the file that a source names, and its label; a `base` is relative to the folder of its file."""
    if not isinstance(source, str | Path) or not str(source):
        raise ConfigError(f"expected a YAML file or a shipped experiment, got {source!r}", where=where)
    text = str(source)
    if isinstance(source, Path) or "/" in text or os.sep in text or text.endswith((".yaml", ".yml")):
        path = Path(os.path.normpath(folder / text)) if folder else Path(text)
        return path, str(path)
    names = shipped_experiments()
    if text in names:
        return Path(str(_shipped() / f"{text}.yaml")), f"hcl/experiments/{text}.yaml"
    raise ConfigError(
        f"no shipped experiment `{text}`{did_you_mean(text, names)}",
        where=where,
        remedy=f"shipped: {', '.join(names)}; a file of your own is named with its ending: {text}.yaml",
    )


def _shipped() -> Any:
    return resources.files("hcl.experiments")
