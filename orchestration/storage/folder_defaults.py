"""Take defaults of `--data`, `--runs`, `--address` and `--storage` from the environment or from a `hcl.toml`.

A value on the command line comes first, then the environment variable, then `hcl.toml` in the working folder or the
nearest folder above it. Paths in the file are relative to its folder.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import MutableMapping
from pathlib import Path

from hcl.errors import ConfigError, did_you_mean

FILE = "hcl.toml"
VARIABLES = {"data": "HCL_DATA", "runs": "HCL_RUNS", "address": "HCL_ADDRESS", "storage": "HCL_STORAGE"}
"""The environment variable of each option, by its name in `hcl.toml`."""
_FOLDERS = ("data", "runs")
_FORM = 'write lines as {} = "folder"'


def apply_folder_defaults(folder: Path, environment: MutableMapping[str, str] = os.environ) -> dict[str, str]:
    """Set the variables that are not set from the nearest `hcl.toml`; return the origin of each option that has one.

    Raises:
        ConfigError: the file is no TOML, or holds another key or a value that is no text.
    """
    file = next((path / FILE for path in (folder, *folder.parents) if (path / FILE).is_file()), None)
    origins = {name: variable for name, variable in VARIABLES.items() if environment.get(variable)}
    for name, value in (_read(file) if file else {}).items():
        if name not in origins:
            environment[VARIABLES[name]] = value
            origins[name] = str(file)
    return origins


def _read(file: Path) -> dict[str, str]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # a text that is no UTF-8 is a ValueError too
        raise ConfigError(
            f"cannot be read: {error}", where=str(file), remedy='write lines as data = "folder"'
        ) from None
    for name, value in content.items():
        if name not in VARIABLES:
            raise ConfigError(
                f"unknown key {name!r}{did_you_mean(name, VARIABLES)}",
                where=str(file),
                remedy=f"keys are {', '.join(VARIABLES)}; settings of experiments belong in a YAML file",
            )
        if not isinstance(value, str) or not value:
            raise ConfigError(
                f"{name} is {value!r}, expected a text", where=str(file), remedy=f'write {name} = "folder"'
            )
    return {name: _placed(value, file.parent) if name in _FOLDERS else value for name, value in content.items()}


def _placed(value: str, folder: Path) -> str:
    """Return a folder of the file as an absolute path; a URI stays as it is."""
    return value if "://" in value else str(folder / Path(value).expanduser())
