"""`hcl report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hcl.settings import machine_settings
from orchestration.cli.options import RUNS, Runs, run_folder
from orchestration.console import notes, out, print_table


def report(
    run: Annotated[list[str], typer.Argument(help="Folders of runs and sweeps, names under RUNS, or globs.")],
    runs: Runs = RUNS,
    to: Annotated[
        Path | None, typer.Option(help="Folder of the page and tables; default: report/ in the first run.")
    ] = None,
) -> None:
    """Print the table of accuracies and write it as Markdown, CSV, LaTeX and one HTML page."""
    import results
    from results.report import write_report, write_tables

    folders = [one if any(sign in one for sign in "*?[") else str(run_folder(Path(one), runs)) for one in run]
    loaded = results.load(folders)
    folder = to or Path(folders[0] if not any(sign in folders[0] for sign in "*?[") else runs) / "report"
    page = write_report(loaded, folder / "index.html")
    write_tables(loaded, folder, machine_settings())
    print_table(folders)
    out.print(f"page: {page}", soft_wrap=True)
    for skipped in loaded.skipped:
        notes.print(f"  left out {escape(skipped.file)}: {escape(skipped.reason)}", soft_wrap=True)
