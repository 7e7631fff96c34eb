"""Build the tables of `hcl results list` and `hcl results show`: values as text, and the facts of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hcl.config.paths import flatten, is_own
from hcl.config.resolve import resolve
from hcl.errors import ConfigError
from orchestration.state.study_state import state_of
from results.records.settings import settings_of
from results.tables.accuracy import number

_NOTE = 40  # characters of a note in a table
_OF_EPOCHS = ("val_accuracy", "val_ci95", "train_accuracy")


def of_dataset(table: pd.DataFrame, dataset: str, what: str) -> pd.DataFrame:
    """Return the rows of one data set. Raises ConfigError where there are none.

    Args:
        what: the kind of rows, for the message.
    """
    if "data set" not in table:
        raise ConfigError(f"{what} have no column for the data set", where="--dataset", remedy="leave it out")
    chosen = table[table["data set"] == dataset]
    if chosen.empty:
        datasets = ", ".join(sorted(set(table["data set"].dropna()))) or "none"
        raise ConfigError(f"has no records of data set {dataset!r}", where="--dataset", remedy=f"there are: {datasets}")
    return chosen


def of_status(table: pd.DataFrame, status: str, what: str) -> pd.DataFrame:
    """Return the rows in one state. Raises ConfigError for a table without states."""
    if "status" not in table:
        raise ConfigError(f"{what} have no status", where="--status", remedy="leave it out")
    return table[[str(text).startswith(status) for text in table["status"]]]


def of_tags(table: pd.DataFrame, tags: Sequence[str], what: str) -> pd.DataFrame:
    """Return the rows that have all of the tags. Raises ConfigError for a table without tags."""
    if "tags" not in table:
        raise ConfigError(f"{what} have no tags, but their runs may", where="--tag", remedy="leave it out")
    return table[[set(tags) <= set(text.split() if isinstance(text, str) else ()) for text in table["tags"]]]


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return the values as text: percents with one decimal, times without seconds; empty labels have no column."""
    shown = pd.DataFrame(index=table.index)
    for column, values in table.items():
        if column in ("tags", "note") and values.isna().all():
            continue
        if "%" in str(column) or str(column).startswith("±"):
            shown[column] = ["" if pd.isna(value) else f"{value:.1f}" for value in values]
        elif column in ("started", "created"):
            shown[column] = ["" if pd.isna(value) else str(value)[:16].replace("T", " ") for value in values]
        elif column == "note":
            shown[column] = ["" if pd.isna(value) else _first_line(value) for value in values]
        else:
            shown[column] = ["" if pd.isna(value) else number(value) for value in values]
    shown.attrs = table.attrs
    return shown


def with_states(table: pd.DataFrame, folders: Mapping[str, str]) -> pd.DataFrame:
    """Return a list of runs or studies with their state behind the name.

    Args:
        folders: the folder of each run or study by name.
    """
    name = str(table.columns[0])
    with_state = table.copy()
    with_state.insert(1, "status", [state_of(Path(folders[run])).short for run in table[name]])
    return with_state


def settings_table(text: str, folder: str) -> pd.DataFrame:
    """Return a run's settings that differ from the defaults of this version, and those that it does not have."""
    default = flatten(resolve(None).experiment.model_dump(mode="json"), "experiment")
    rows = []
    for path, value in settings_of(text, f"{folder}/experiment.yaml").items():
        standard = default.get(path, "set by its own code" if is_own(path) else "no such setting any more")
        standard = tuple(standard) if isinstance(standard, list) else standard
        if value != standard:
            rows.append({"setting": path, "value": _text(value), "default": _text(standard)})
    return pd.DataFrame(rows, columns=["setting", "value", "default"])


def provenance_table(record: dict[str, Any]) -> pd.DataFrame:
    """Return the provenance of a run, one fact a row: path, command, revision and times first."""
    fields = {name: value for name, value in record.items() if name not in ("run", "experiment", "schema")}
    changed = fields.pop("dirty", None)
    if "revision" in fields and changed:
        fields["revision"] += ", with uncommitted changes"
    first = [name for name in ("path", "command", "revision", "started", "finished") if name in fields]
    rows = [{"": name, "value": _text(fields[name])} for name in [*first, *sorted(fields.keys() - set(first))]]
    return pd.DataFrame(rows)


def epochs_table(epochs: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return the last epochs and the best one, which a star marks; shares in percent."""
    best = epochs["val_accuracy"].idxmax() if "val_accuracy" in epochs and epochs["val_accuracy"].notna().any() else -1
    chosen = epochs[(epochs.index >= epochs.index[max(0, len(epochs) - n)]) | (epochs.index == best)]
    table = pd.DataFrame(
        {"epoch": [f"{row['epoch']}{'*' if index == best else ''}" for index, row in chosen.iterrows()]}
    )
    for name in (column for column in chosen.columns if column not in ("run", "epoch")):
        share = name in _OF_EPOCHS
        heading = f"{name} %" if share else name
        table[heading] = [f"{100 * value:.1f}" if share and value == value else number(value) for value in chosen[name]]
    if best in chosen.index:
        table.attrs["caption"] = "* the best epoch by its accuracy on val."
    return table


def _first_line(note: str) -> str:
    line = note.partition("\n")[0]
    return line if line == note and len(line) <= _NOTE else f"{line[: _NOTE - 3]}..."


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    return ", ".join(map(_text, value)) if isinstance(value, (list, tuple)) else str(value)
