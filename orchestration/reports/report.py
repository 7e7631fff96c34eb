"""Write the page and the tables of runs and studies, with the settings that differ from their defaults.

Only this package knows the defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import results
from hcl.config.definitions import portable
from hcl.config.paths import machine_settings, settings_with
from hcl.config.resolve import resolve, rows
from hcl.errors import ConfigError
from orchestration.state.study_state import state_of
from orchestration.storage.record_files import storing_records
from results.exports.exporting import TABLES, write_tables
from results.page.overview import Setting
from results.page.report import is_page, write_report
from results.tables.evaluated import Evaluated


class Report(NamedTuple):
    page: Path
    loaded: results.Results


def make_report(
    folders: Sequence[str | Path], to: Path, *, title: str = "HCL results", command: str = "", caution: str = ""
) -> Report:
    """Write `to`/index.html and the tables beside it.

    Args:
        folders: folders of runs and studies, or globs.
        command: the command that makes the page again.
        caution: what the figures must not be taken for, below the heading of the page.

    Raises:
        RecordError: if a folder does not exist, or the place cannot be written.
        ConfigError: if `to` holds a file with one of these names that no report has made.
    """
    _refuse_foreign(to)
    loaded = results.load(folders)
    changed = {str(path): settings for path in loaded.runs["path"] if (settings := changed_settings(path)) is not None}
    states = {str(path): state_of(Path(path)).short for path in [*loaded.runs["path"], *loaded.sweeps["path"]]}
    evaluated = Evaluated(loaded.evaluations)
    with storing_records():
        page = write_report(
            loaded,
            to / _PAGE,
            title=title,
            changed=changed,
            states=states,
            command=command,
            evaluated=evaluated,
            caution=caution,
        )
        write_tables(loaded, to, machine_settings(), evaluated)
    return Report(page, loaded)


def _refuse_foreign(to: Path) -> None:
    """Raise ConfigError if writing would replace files that no report has made."""
    there = [name for name in (_PAGE, *TABLES) if (to / name).exists()]
    if there and not ((to / _PAGE).is_file() and is_page(to / _PAGE)):
        raise ConfigError(
            f"holds {there[0]}, which `hcl report` did not make",
            where=str(to),
            remedy="choose another folder with --to, or move the file away",
        )


_PAGE = "index.html"


def changed_settings(folder: Path | str) -> list[Setting] | None:
    """Return the settings of a run's experiment.yaml that differ from the defaults; None if it cannot be read."""
    try:
        resolved = resolve(Path(folder) / "experiment.yaml")
    except ConfigError:
        return None
    settings = settings_with(resolved.experiment.sections)
    return [
        Setting(row.path, _spelled(row.value, row.unit), _spelled(default, row.unit), row.meaning)
        for row in rows(resolved)
        if row.value != (default := settings[row.path].default) and row.path != "name"
    ]


def _spelled(value: Any, unit: str) -> str:
    if value is None or value == () or value == []:
        return "none"
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else portable(str(value))
    return f"{text} {unit}".rstrip()
