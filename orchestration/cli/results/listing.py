"""Implement `hcl results list`, `show` and `log`: list runs and studies, show the results and the log of one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from hcl.errors import ConfigError
from orchestration.cli.options import RUNS, Runs, run_folder
from orchestration.console import notes, out, print_frame
from orchestration.training.run_files import ERROR_LOG, HUNG_LOG, LOG

if TYPE_CHECKING:
    from results import Skipped


def list_records(
    what: Annotated[Literal["runs", "studies", "evaluations"], typer.Argument(help="What to list.")] = "runs",
    runs: Runs = RUNS,
    dataset: Annotated[str | None, typer.Option(help="This data set only.")] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Order by a column, such as 'accuracy %'.", show_default=False)
    ] = None,
    descending: Annotated[bool, typer.Option("--descending", help="The largest or latest first.")] = False,
) -> None:
    """Runs, studies or evaluations as a table, one row each.

    \b
    hcl results list
    hcl results list evaluations --dataset hmdb51 --sort 'accuracy %' --descending
    hcl results list studies --sort best --descending

    Files that cannot be read are named below the table and left out of it.
    """
    from orchestration.reports.run_tables import of_dataset, shown
    from results import load
    from results.tables.listing import LISTINGS

    found = load(runs)
    table = LISTINGS[what](found)
    if dataset is not None:
        table = of_dataset(table, dataset, what)
    if sort is not None:
        if sort not in table:
            raise ConfigError(f"no column {sort!r}", where="--sort", remedy=f"one of {', '.join(table.columns)}")
        table = table.sort_values(sort, ascending=not descending, kind="stable", na_position="last")
    if table.empty:
        out.print(f"no {what} in {escape(str(runs))}", soft_wrap=True)
    else:
        print_frame(shown(table))
    tell_skipped(found.skipped)


def show_run(
    run: Annotated[Path, typer.Argument(help="The folder of a run or a study, or its name under RUNS.")],
    runs: Runs = RUNS,
    epochs: Annotated[int, typer.Option(min=1, help="How many epochs, counted from the last.")] = 10,
) -> None:
    """One run: its settings that are not the default, how it came about, its epochs, and its table.

    Of a study it shows the trials.
    """
    folder = next((one for one in (run, runs / run) if one.is_dir()), None)
    if folder is None:
        raise ConfigError("no such folder", where=str(run), remedy="see `hcl results list` and `list studies`")
    if (folder / "sweep.json").exists():
        from orchestration.sweeps.view import show_status

        show_status(folder)
        return
    from orchestration.reports.run_tables import epochs_table, provenance_table, settings_table
    from results import load
    from results.tables.accuracy import accuracy_table, levels_table

    found = load(folder)
    if len(found.runs) != 1:
        raise ConfigError("is not a run", where=str(folder), remedy="see `hcl results list`")
    record = {str(name): value for name, value in found.runs.iloc[0].dropna().items()}
    if "experiment" in record:
        print_frame(settings_table(record["experiment"], str(folder)), title=f"{record['run']}: not the default")
    print_frame(provenance_table(record), title="how it came about")
    if len(found.epochs):
        print_frame(epochs_table(found.epochs, epochs), title="epochs")
    if len(found.evaluations):
        print_frame(accuracy_table(found.evaluations))
        levels = levels_table(found.evaluations)
        if len(levels):
            print_frame(levels)
    else:
        out.print(f"no evaluations yet: hcl evaluate {escape(shlex.quote(str(folder)))}", soft_wrap=True)
    tell_skipped(found.skipped)


def show_log(
    run: Annotated[Path, typer.Argument(help="A run's folder, its name under RUNS, or STUDY/TRIAL.")],
    runs: Runs = RUNS,
) -> None:
    """What happened to a run or a trial, a line each: which process on which host took it up, epochs, how it stopped.

    Of a trial that failed also the traceback, and of one whose time was over where it hung.

    \b
    hcl results log first
    hcl results log first-study/trial-0003
    """
    folder = run_folder(run, runs)
    if (folder / "sweep.json").exists():
        names = sorted(path.parent.name for path in folder.glob("trials/*/experiment.yaml"))
        few = ", ".join(f"{run}/{name}" for name in names[:3]) or "none yet"
        raise ConfigError("is a study, whose trials have logs", where=str(folder), remedy=f"name one: {few}")
    texts = {name: folder / name for name in (LOG, ERROR_LOG, HUNG_LOG) if (folder / name).exists()}
    if not texts:
        raise ConfigError("has no log yet", where=str(folder), remedy="nothing has trained it so far")
    for name, path in texts.items():
        if name != LOG:
            out.rule(name)
        out.print(path.read_text(errors="replace"), end="", markup=False, highlight=False, soft_wrap=True, emoji=False)


def tell_skipped(skipped: tuple[Skipped, ...]) -> None:
    """Name the files that were left out."""
    for one in skipped:
        notes.print(f"  left out {escape(one.file)}: {escape(one.reason)}", soft_wrap=True)
