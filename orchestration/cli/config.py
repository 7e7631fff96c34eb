"""Show experiments, their settings and the origin of each: `hcl config ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from hcl.config.resolve import resolve, rows, shipped_experiments
from orchestration.cli.options import ExperimentName, Set
from orchestration.console import out, print_rows
from search_spaces import shipped_spaces

app = typer.Typer(help="Show experiments and their settings.", no_args_is_help=True)


@app.command("list")
def list_shipped() -> None:
    """List the experiments and search spaces that the program ships."""
    out.print("experiments: " + ", ".join(shipped_experiments()))
    out.print("spaces:      " + ", ".join(shipped_spaces()))


@app.command("show")
def show(
    experiment: ExperimentName,
    settings: Set = None,
    origin: Annotated[
        str, typer.Option(help="Show only values whose origin contains this text, such as `--set`.")
    ] = "",
) -> None:
    """Show the resolved experiment: each setting with its value, origin, unit and meaning."""
    resolved = resolve(experiment, settings or [])
    shown = [row for row in rows(resolved) if origin in row.origin]
    cells = [(row.path, row.value, row.origin, row.unit, row.meaning) for row in shown]
    print_rows(
        ["path", "value", "origin", "unit", "meaning"],
        cells,
        title=f"{experiment}, digest {resolved.experiment.digest()}",
    )


@app.command("validate")
def validate(experiment: ExperimentName, settings: Set = None) -> None:
    """Check an experiment's settings without data, Ray or PyTorch, and print its digest; exit 2 names the mistake.

    `hcl train EXPERIMENT --dry-run` checks the data set, the memory and the room as well.
    """
    resolved = resolve(experiment, settings or [])
    n_changed = sum(row.origin != "default" for row in rows(resolved))
    out.print(
        f"{experiment}: valid, digest {resolved.experiment.digest()}, {n_changed} settings are set by it",
        soft_wrap=True,
        highlight=False,
    )
