"""Print the output of commands: a line for each epoch, trial or cell of a table; tables; errors."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from results.tables.cells import marked

if TYPE_CHECKING:
    import pandas as pd

    from results import EvaluationRecord, TrialRecord

out, notes = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)
"""Output and messages. Lines are never broken, so that commands in them can be copied. Tables, whose cells and titles
are wrapped, are printed with `soft_wrap=False`."""


def show_epoch(row: dict[str, Any]) -> None:
    """Print one line for an epoch, for a log; a terminal gets `orchestration.training.view`."""
    terms = " ".join(f"{name.removeprefix('loss_')} {row[name]:.3f}" for name in row if name.startswith("loss_"))
    out.print(
        f"epoch {row['epoch']}: val {percent(row['val_accuracy'])} ± {100 * (row['val_ci95'] or 0):.1f}  "
        f"classified {percent(row['train_accuracy'])}  {terms}  {row['clips_per_second']:.1f} clips/s, "
        f"{100 * row['data_wait']:.0f}% waiting for data, {row['memory_gb']:.2f} GB",
        soft_wrap=True,
        highlight=False,
    )


def show_trial(trial: TrialRecord) -> None:
    """Print a line for a trial."""
    values = " ".join(f"{path}={short_value(value)}" for path, value in trial.params.items())
    outcome = trial.error if trial.error else percent(trial.value)
    out.print(
        f"trial {trial.trial} {trial.state} after {trial.epochs} epochs: {outcome}  {values}",
        soft_wrap=True,
        highlight=False,
    )


def show_records(records: Sequence[EvaluationRecord]) -> None:
    """Print a line for a method on a data set, with all shots."""
    cells = [f"{record.shot}-shot {percent(record.accuracy)} ± {100 * (record.ci95 or 0):.1f}" for record in records]
    first = records[0]
    out.print(
        f"{marked(vars(first))} on {first.dataset} {first.partition}: {', '.join(cells)}",
        soft_wrap=True,
        highlight=False,
    )


def show_trials(folder: Path) -> None:
    """Print the best trials of a study."""
    from results import load
    from results.tables.accuracy import trials_table

    print_frame(trials_table(load(folder).trials))


def print_table(folders: Sequence[Any]) -> None:
    """Print the accuracies of runs."""
    from results import load
    from results.tables.accuracy import accuracy_table

    evaluations = load(folders).evaluations
    if evaluations.empty:
        out.print("no evaluations yet: hcl evaluate RUN")
        return
    print_frame(accuracy_table(evaluations))


def print_frame(frame: pd.DataFrame, title: str | None = None) -> None:
    """Print a frame with its caption and its footnotes below it."""
    from results.tables.markup import bold_cells

    print_rows(list(frame.columns), frame.itertuples(index=False), title, bold=bold_cells(frame))
    for line in (frame.attrs.get("caption", ""), *frame.attrs.get("footnotes", ())):
        if line:
            out.print(escape(line), soft_wrap=True, highlight=False)


def print_rows(
    columns: Sequence[str],
    rows: Iterable[Iterable[Any]],
    title: str | None = None,
    *,
    bold: Collection[tuple[int, str]] = (),
) -> None:
    """Print a table of values, each as its text.

    Args:
        bold: row and column of the cells that are printed bold.
    """
    table = Table(*map(str, columns), title=escape(title) if title else None)
    for index, row in enumerate(rows):
        cells = zip(columns, map(escape, map(str, row)), strict=True)
        table.add_row(*(f"[bold]{text}[/]" if (index, column) in bold else text for column, text in cells))
    page().print(table, soft_wrap=False)


def page() -> Console:
    """Return the console for tables: the terminal or, piped into a file, one that is wide enough."""
    return out if out.is_terminal else Console(width=220)


def fits(table: Table) -> bool:
    """Return whether a table fits with all of its text; otherwise its columns would be cut to a few letters."""
    return Measurement.get(out, out.options.update_width(10_000), table).maximum <= page().width


def settings_text(values: Mapping[str, Any]) -> str:
    """Return settings as one text that a column of any width can wrap, with the names of `short_names`."""
    _, names = short_names(list(values))
    return ", ".join(f"{name} {short_value(value)}" for name, value in zip(names, values.values(), strict=True))


def short_names(paths: Sequence[str]) -> tuple[str, list[str]]:
    """Return the common beginning of dotted paths, up to a dot or an underscore, and the rest of each path."""
    common = os.path.commonprefix(paths) if len(paths) > 1 else "".join(paths)  # noqa: RUF071 - of letters
    length = 1 + max(common.rfind("."), common.rfind("_") if len(paths) > 1 else -1)
    return common[:length], [path[length:] for path in paths]


def percent(value: float | None) -> str:
    return "no value" if value is None else f"{100 * value:.1f}%"


def short_value(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def score_text(value: float | None) -> str:
    """Return the value of an objective: in percent if it may be a share."""
    if value is None:
        return ""
    return percent(value) if 0 <= value <= 1 else f"{value:.4g}"
