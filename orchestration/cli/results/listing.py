"""List runs, studies and evaluations, and show one with its log: `hcl results list`, `show` and `log`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from hcl.errors import ConfigError
from orchestration.cli.options import RUNS, Runs
from orchestration.console import notes, out, print_frame
from orchestration.storage.run_folders import run_folder
from orchestration.training.run_files import ERROR_LOG, HUNG_LOG, LOG

if TYPE_CHECKING:
    from results import Skipped


def list_records(
    what: Annotated[Literal["runs", "studies", "evaluations"], typer.Argument(help="Records to list.")] = "runs",
    runs: Runs = RUNS,
    dataset: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    status: Annotated[
        Literal["running", "stopped", "failed", "done", "imported"] | None,
        typer.Option(help="Only runs or studies in this state.", show_default=False),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(help="Only runs or studies with this tag; repeatable, for all of them.", show_default=False),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Sort by a column, such as 'accuracy %'.", show_default=False)
    ] = None,
    descending: Annotated[bool, typer.Option("--descending", help="Sort with the largest or latest first.")] = False,
) -> None:
    """List runs, studies or evaluations as a table, with a row for each.

    \b
    hcl results list
    hcl results list --status failed
    hcl results list --tag baseline
    hcl results list evaluations --dataset hmdb51 --sort 'accuracy %' --descending
    hcl results list studies --sort best --descending

    The status is running (by whom), stopped, failed (why), done or imported; `2 stale` counts evaluations of weights
    that the run no longer has. `hcl status` adds the command that resumes. Unreadable files are left out of the table
    and named below it.
    """
    from orchestration.reports.run_tables import of_dataset, of_status, of_tags, shown, with_states
    from results import load
    from results.tables.listing import LISTINGS

    loaded = load(runs)
    table = LISTINGS[what](loaded)
    if what == "runs":
        table = with_states(table, dict(zip(loaded.runs["run"], loaded.runs["path"], strict=True)))
    elif what == "studies":
        table = with_states(table, dict(zip(loaded.sweeps["sweep"], loaded.sweeps["path"], strict=True)))
    if status is not None:
        table = of_status(table, status, what)
    if tag:
        table = of_tags(table, tag, what)
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
        from orchestration.sweeps.view import show_status

        show_status(folder)
        return
    from orchestration.reports.run_tables import epochs_table, provenance_table, settings_table
    from results import load
    from results.tables.accuracy import accuracy_table, levels_table

    loaded = load(folder)
    if len(loaded.runs) != 1:
        raise ConfigError("is not a run", where=str(folder), remedy="see `hcl results list`")
    record = {str(name): value for name, value in loaded.runs.iloc[0].dropna().items()}
    if "experiment" in record:
        print_frame(
            settings_table(record["experiment"], str(folder)),
            title=f"{record['run']}: settings that differ from the defaults",
        )
    print_frame(provenance_table(record), title="provenance")
    if len(loaded.epochs):
        print_frame(epochs_table(loaded.epochs, epochs), title="epochs")
    if len(loaded.evaluations):
        print_frame(accuracy_table(loaded.evaluations))
        levels = levels_table(loaded.evaluations)
        if len(levels):
            print_frame(levels)
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


def tell_skipped(skipped: tuple[Skipped, ...]) -> None:
    """Print the names of files that were left out."""
    for file in skipped:
        notes.print(f"  left out {escape(file.file)}: {escape(file.reason)}", soft_wrap=True)
