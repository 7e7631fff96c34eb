"""`hcl report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from orchestration.cli.options import RUNS, Runs, command_line, run_folder
from orchestration.console import notes, out, print_table


def report(
    run: Annotated[list[str], typer.Argument(help="Folders of runs and sweeps, names under RUNS, or globs.")],
    runs: Runs = RUNS,
    to: Annotated[
        Path | None, typer.Option(help="Folder of the page and tables; default: report/ in the first run.")
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "HCL results",
) -> None:
    """Print the table of accuracies and write it as Markdown, CSV, LaTeX and one HTML page.

    The page is one file that needs no network: the answer, how sure it is, classes and confusions, learning curves,
    sweeps, what was run at what cost, what failed. Pictures that `hcl explain` left in a run's folder are in it
    (`hcl explain RUN --examples 3` draws three right and three wrong queries).
    """
    from orchestration.reports.report import make_report

    folders = [one if any(sign in one for sign in "*?[") else str(run_folder(Path(one), runs)) for one in run]
    folder = to or Path(folders[0] if not any(sign in folders[0] for sign in "*?[") else runs) / "report"
    made = make_report(folders, folder, title=title, command=command_line())
    print_table(folders)
    out.print(f"page: {made.page}", soft_wrap=True)
    for skipped in made.loaded.skipped:
        notes.print(f"  left out {escape(skipped.file)}: {escape(skipped.reason)}", soft_wrap=True)
