"""List runs, studies and evaluations, and show one with its log: `hcl results list`, `show` and `log`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import typer
from rich.markup import escape

import results
from hcl.config.paths import flatten
from hcl.config.resolve import resolve
from hcl.errors import ConfigError
from orchestration.cli.options import RUNS, Runs, run_folder
from orchestration.console import notes, out, print_rows
from orchestration.sweeps.view import show_status
from results.records.settings import settings_of
from results.tables.accuracy import accuracy_table, levels_table, number
from results.tables.listing import LISTINGS

_OF_EPOCHS = ("val_accuracy", "val_ci95", "train_accuracy")


def list_records(
    what: Annotated[Literal["runs", "studies", "evaluations"], typer.Argument(help="Records to list.")] = "runs",
    runs: Runs = RUNS,
    dataset: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Sort by a column, such as 'accuracy %'.", show_default=False)
    ] = None,
    descending: Annotated[bool, typer.Option("--descending", help="Sort with the largest or latest first.")] = False,
) -> None:
    """List runs, studies or evaluations as a table, with a row for each.

    \b
    hcl results list
    hcl results list evaluations --dataset hmdb51 --sort 'accuracy %' --descending
    hcl results list studies --sort best --descending

    Unreadable files are left out of the table and named below it.
    """
    loaded = results.load(runs)
    table = LISTINGS[what](loaded)
    if dataset is not None:
        table = _of_dataset(table, dataset, what)
    if sort is not None:
        if sort not in table:
            raise ConfigError(f"no column {sort!r}", where="--sort", remedy=f"one of {', '.join(table.columns)}")
        table = table.sort_values(sort, ascending=not descending, kind="stable", na_position="last")
    if table.empty:
        out.print(f"no {what} in {escape(str(runs))}", soft_wrap=True)
    else:
        print_rows(_shown(table))
    tell_skipped(loaded.skipped)


def show_run(
    run: Annotated[Path, typer.Argument(help="The folder of a run or a study, or its name under RUNS.")],
    runs: Runs = RUNS,
    epochs: Annotated[int, typer.Option(min=1, help="Number of epochs, counted from the last.")] = 10,
) -> None:
    """Show one run: its settings that differ from the defaults, its provenance, its epochs, and its table.

    For a study it shows the trials.
    """
    folder = next((path for path in (run, runs / run) if path.is_dir()), None)
    if folder is None:
        raise ConfigError("no such folder", where=str(run), remedy="see `hcl results list` and `list studies`")
    if (folder / "sweep.json").exists():
        show_status(folder)
        return
    loaded = results.load(folder)
    if len(loaded.runs) != 1:
        raise ConfigError("is not a run", where=str(folder), remedy="see `hcl results list`")
    record = {str(name): value for name, value in loaded.runs.iloc[0].dropna().items()}
    if "experiment" in record:
        print_rows(
            _settings_table(record["experiment"], str(folder)),
            title=f"{record['run']}: settings that differ from the defaults",
        )
    print_rows(_provenance_table(record), title="provenance")
    if len(loaded.epochs):
        print_rows(_epochs_table(loaded.epochs, epochs), title="epochs")
    if len(loaded.evaluations):
        print_rows(accuracy_table(loaded.evaluations))
        levels = levels_table(loaded.evaluations)
        if len(levels):
            print_rows(levels)
    else:
        out.print(f"no evaluations yet: hcl evaluate {escape(shlex.quote(str(folder)))}", soft_wrap=True)
    tell_skipped(loaded.skipped)


def show_log(
    run: Annotated[Path, typer.Argument(help="A run's folder, its name under RUNS, or STUDY/TRIAL.")],
    runs: Runs = RUNS,
) -> None:
    """Print the log of a run or trial: the process and host that trained it, its epochs, and how it stopped.

    For a failed trial it also prints the traceback, and for one that timed out, where it hung.

    \b
    hcl results log first
    hcl results log first-study/trial-0003
    """
    from orchestration.training.run import ERROR_LOG, HUNG_LOG, LOG

    folder = run_folder(run, runs)
    if (folder / "sweep.json").exists():
        names = sorted(path.parent.name for path in folder.glob("trials/*/experiment.yaml"))
        few = ", ".join(f"{run}/{name}" for name in names[:3]) or "none yet"
        raise ConfigError("is a study, whose trials have logs", where=str(folder), remedy=f"choose one: {few}")
    texts = {name: folder / name for name in (LOG, ERROR_LOG, HUNG_LOG) if (folder / name).exists()}
    if not texts:
        raise ConfigError("has no log yet", where=str(folder), remedy="train it first: hcl train")
    for name, path in texts.items():
        if name != LOG:
            out.rule(name)
        out.print(path.read_text(errors="replace"), end="", markup=False, highlight=False, soft_wrap=True, emoji=False)


def tell_skipped(skipped: tuple[results.Skipped, ...]) -> None:
    """Print the names of files that were left out."""
    for file in skipped:
        notes.print(f"  left out {escape(file.file)}: {escape(file.reason)}", soft_wrap=True)


def _of_dataset(table: pd.DataFrame, dataset: str, what: str) -> pd.DataFrame:
    if "data set" not in table:
        raise ConfigError(f"{what} have no column for the data set", where="--dataset", remedy="leave it out")
    chosen = table[table["data set"] == dataset]
    if chosen.empty:
        datasets = ", ".join(sorted(set(table["data set"].dropna()))) or "none"
        raise ConfigError(f"has no records of data set {dataset!r}", where="--dataset", remedy=f"there are: {datasets}")
    return chosen


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return the values as text: percents with one decimal, times without seconds."""
    shown = pd.DataFrame(index=table.index)
    for column, values in table.items():
        if "%" in str(column) or str(column).startswith("±"):
            shown[column] = ["" if pd.isna(value) else f"{value:.1f}" for value in values]
        elif column in ("started", "created"):
            shown[column] = ["" if pd.isna(value) else str(value)[:16].replace("T", " ") for value in values]
        else:
            shown[column] = ["" if pd.isna(value) else number(value) for value in values]
    shown.attrs = table.attrs
    return shown


def _settings_table(text: str, folder: str) -> pd.DataFrame:
    """Return the settings that differ from the defaults of this version, and those that it does not have."""
    default = flatten(resolve(None).experiment.model_dump(mode="json"), "experiment")
    rows = []
    for path, value in settings_of(text, f"{folder}/experiment.yaml").items():
        standard = default.get(path, "no such setting any more")
        standard = tuple(standard) if isinstance(standard, list) else standard
        if value != standard:
            rows.append({"setting": path, "value": _text(value), "default": _text(standard)})
    return pd.DataFrame(rows, columns=["setting", "value", "default"])


def _provenance_table(record: dict[str, Any]) -> pd.DataFrame:
    fields = {name: value for name, value in record.items() if name not in ("run", "experiment", "schema")}
    changed = fields.pop("dirty", None)
    if "revision" in fields and changed:
        fields["revision"] += ", with uncommitted changes"
    first = [name for name in ("path", "command", "revision", "started", "finished") if name in fields]
    rows = [{"": name, "value": _text(fields[name])} for name in [*first, *sorted(fields.keys() - set(first))]]
    return pd.DataFrame(rows)


def _epochs_table(epochs: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return the last epochs and the best one, which a star marks, with shares in percent."""
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


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
