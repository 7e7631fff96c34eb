"""Write a report: `hcl report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from orchestration.cli.options import RUNS, Runs, command_line
from orchestration.cli.shell import completion
from orchestration.cli.shell.json_option import with_json
from orchestration.console import add_json, notes, out, print_table
from orchestration.storage.run_folders import run_folder


@with_json
def report(
    run: Annotated[
        list[str],
        typer.Argument(help="Folders of runs and studies, names under RUNS, or globs.", autocompletion=completion.runs),
    ],
    runs: Runs = RUNS,
    to: Annotated[
        Path | None, typer.Option(help="Folder of the page and tables; default: report/ in the first run.")
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "HCL results",
) -> None:
    """Print the table of accuracies, and write it as Markdown, CSV, LaTeX and an HTML page.

    The page is one file that needs no network: the results and their uncertainty, classes and confusions, learning
    curves, studies, runs with their costs, and failures. It includes the pictures that `hcl explain` left in a run's
    folder (`hcl explain RUN --examples 3` draws three right and three wrong queries).

    \b
    hcl report mine
    hcl report first second 'runs/ssv2*' --to page
    """
    from orchestration.reports.report import make_report

    folders = [name if any(sign in name for sign in "*?[") else str(run_folder(Path(name), runs)) for name in run]
    folder = to or Path(folders[0] if not any(sign in folders[0] for sign in "*?[") else runs) / "report"
    made = make_report(folders, folder, title=title, command=command_line())
    print_table(folders)
    add_json("page", str(made.page))
    out.print(f"page: {made.page}", soft_wrap=True)
    for skipped in made.loaded.skipped:
        notes.print(f"  left out {escape(skipped.file)}: {escape(skipped.reason)}", soft_wrap=True)
