"""`hcl results export`, `ablation`, `published`: tables and frames of many runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

import results
from hcl.config.paths import machine_settings
from hcl.errors import ConfigError
from orchestration.cli.options import RUNS, Runs, run_folder
from orchestration.cli.results.listing import tell_skipped
from orchestration.console import out, print_rows
from orchestration.storage.record_files import storing_records
from results.exports.exporting import Format
from results.exports.exporting import export as write_export
from results.tables.ablation import TERMS, ablations
from results.tables.published import published_table, read_published

Chosen = Annotated[
    list[str] | None,
    typer.Argument(metavar="RUN", help="Folders, names under RUNS, or globs. Default: all in RUNS."),
]


def export(
    folder: Annotated[
        Path, typer.Argument(help="The files are written here; those of an earlier export are replaced.")
    ],
    run: Chosen = None,
    runs: Runs = RUNS,
    form: Annotated[Format, typer.Option("--format", help="latex and markdown: the tables only.")] = "csv",
) -> None:
    """Write tidy frames and tables for a spreadsheet, a notebook or a paper.

    Frames: runs, epochs, evaluations, episodes, sweeps and trials, one row each. Tables: accuracies, levels, printed
    figures, ablations, best trials. export.json names the files, their rows, and what could not be read.

    \b
    hcl results export tables --format latex
    hcl results export frames 'runs/ssv2*' --format parquet
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError("is a file, not a folder", where=str(folder), remedy="name a folder for the files")
    found = load_chosen(run, runs)
    with storing_records():
        paths = write_export(found, folder, form, machine_settings())
    out.print(f"{len(paths)} files in {escape(str(folder))}: {', '.join(path.name for path in paths)}", soft_wrap=True)
    tell_skipped(found.skipped)


def ablation(
    run: Chosen = None,
    runs: Runs = RUNS,
    over: Annotated[str, typer.Option(help="Settings that may differ: those whose path begins so.")] = TERMS,
    dataset: Annotated[str | None, typer.Option(help="This data set only.")] = None,
) -> None:
    """Term by term: runs that differ in the weights of the loss and in nothing else, with paired differences.

    Such runs are found by comparing their settings; name and settings of the machine may differ as well. Level by
    level, of a single run, is in `hcl results show RUN`.

    \b
    hcl results ablation
    hcl results ablation 'runs/ssv2*' --over matching.
    """
    found = load_chosen(run, runs)
    tables = ablations(found, over=over, ignored=machine_settings(), dataset=dataset)
    if not tables:
        raise ConfigError(
            f"no two runs differ in settings that begin with {over!r} and in nothing else",
            where="--over",
            remedy="train another with --set loss.sigma_spatial=0 --set name=..., or name other settings with --over",
        )
    for table in tables:
        print_rows(table)
    tell_skipped(found.skipped)


def published(run: Chosen = None, runs: Runs = RUNS) -> None:
    """Printed figures beside ours, each with its source and with marks for how it came about.

    Only data sets of which printed figures are known are shown, on their test classes. Nothing is tested across the
    two: other episodes, other frames, often another protocol.
    """
    found = load_chosen(run, runs)
    table = published_table(found.evaluations)
    if table.empty:
        known = read_published()
        named = ", ".join(
            sorted({f"{one} ({way}-way)" for one, way in zip(known["dataset"], known["way"], strict=True)})
        )
        raise ConfigError(
            "no evaluation on the test classes of a data set with printed figures",
            where=str(runs),
            remedy=f"evaluate on one of {named}",
        )
    print_rows(table)
    tell_skipped(found.skipped)


def load_chosen(run: list[str] | None, runs: Path) -> results.Results:
    """The records of the runs that were named, or of all. Raises ConfigError, RecordError."""
    if not run:
        return results.load(runs)
    return results.load([one if any(sign in one for sign in "*?[") else run_folder(Path(one), runs) for one in run])
