"""Keep what a data set of `hcl new` was made from, so that a repeated command recognises it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hcl.config.paths import setting_of
from hcl.datasets.cards import shipped_datasets
from hcl.errors import ConfigError, StorageError
from hcl.files.json_files import read_json, write_checked_json

KIND, SCHEMA = "new data set", 1


@dataclass(frozen=True)
class NewState:
    """Hold the options that a data set was made with; `is_whole` is false after a command that was interrupted."""

    asked: dict[str, Any]
    is_whole: bool


def check_name(name: str) -> None:
    """Raise ConfigError for a name that a run's folder cannot have, or of a published data set."""
    pattern = next(bound.pattern for bound in setting_of("name").metadata if getattr(bound, "pattern", None))
    if not re.fullmatch(pattern, name) or len(name) > 80:
        raise ConfigError(
            f"got {name!r}", where="NAME", remedy="use letters, digits, dots, - and _, and begin with a letter or digit"
        )
    if name in shipped_datasets():
        raise ConfigError(f"{name!r} is a published data set", where="NAME", remedy="choose another name")


def paths_of(data_root: Path, name: str) -> tuple[Path, Path]:
    """Return the files of a data set, apart from its experiment: its lists and its card."""
    return data_root / "splits" / name / "test.list", data_root / "datasets" / f"{name}.yaml"


def read_state(data_root: Path, name: str) -> NewState | None:
    """Return what a data set was made from; None if `hcl new` has not made it, or the file is damaged."""
    path = _file(data_root, name)
    try:
        content = read_json(path, remedy="") if path.exists() else None
        if content is None or content["kind"] != KIND or content["schema"] != SCHEMA:
            return None
        return NewState(dict(content["asked"]), bool(content["is_whole"]))
    except (StorageError, OSError, KeyError, TypeError, ValueError):
        return None


def write_state(data_root: Path, name: str, asked: dict[str, Any], *, is_whole: bool) -> None:
    """Write the options of a data set. Raises StorageError."""
    content = {"kind": KIND, "schema": SCHEMA, "asked": asked, "is_whole": is_whole}
    write_checked_json(_file(data_root, name), content)


def _file(data_root: Path, name: str) -> Path:
    return data_root / "splits" / name / "new.json"
