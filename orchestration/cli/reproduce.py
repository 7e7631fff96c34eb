"""Reproduce results: `hcl reproduce`."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hcl.errors import HCLError
from orchestration.cli.options import Address, DataOfRun, place
from orchestration.console import out, print_frame
from orchestration.storage.data_roots import data_of


def reproduce(
    record: Annotated[Path, typer.Argument(help="RUN/evaluation/FILE.json, or a run's folder.")],
    data: DataOfRun = None,
    run: Annotated[bool, typer.Option("--run", help="Repeat it and compare the figures.")] = False,
    runs: Annotated[
        Path | None,
        typer.Option(
            help="With --run: folder for the new run, which is kept and can be resumed; a run of another origin is "
            "refused. Default: a temporary folder.",
            show_default=False,
            callback=place("--runs"),
        ),
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Points of accuracy by which figures may differ.")] = 0.1,
    address: Address = None,
) -> None:
    """Show how a result was made and what is different here, and reproduce it.

    The commands that made it are printed, and code, package versions, settings, videos, episodes and weights are
    compared with those here. --run evaluates a record's episodes again with its checkpoint, with nothing cached; a
    run's folder is trained again and then evaluated. The same machine and versions give identical figures; on others
    rounding changes close decisions, which --tolerance allows for.

    \b
    hcl reproduce runs/ssv2/evaluation/hcl-ssv2_100_otam-test-5way-1shot.json --data data
    hcl reproduce runs/ssv2 --data data --run --runs again

    The exit status is 1 if the figures differ.
    """
    import results
    from hcl.frames.stored_dataset import DataRoot
    from orchestration.reports.recorded import read_recorded
    from orchestration.reports.reproduce import checks_of, commands_of, repeat
    from results.exports.reproduction import agrees, checks_table, epochs_table, figures_table

    recorded = read_recorded(record)
    data = data_of([recorded.folder], data)
    for what, command in commands_of(recorded, data):
        out.print(f"{what}: {escape(command)}", soft_wrap=True, highlight=False)
    opened = DataRoot(data.absolute())
    checks = checks_of(recorded, opened)
    print_frame(checks_table(checks), title="recorded and present versions")
    if not run:
        return
    with tempfile.TemporaryDirectory(prefix="hcl-") if runs is None else nullcontext(runs) as place:
        pairs, epochs = repeat(recorded, opened, Path(place), address)
        tables = [figures_table(pairs, tolerance)] if pairs else []
        if epochs:
            tables.insert(0, epochs_table(results.read_epochs(recorded.folder), epochs, tolerance))
    for table in tables:
        print_frame(table, title="reproduced figures")
    if not all(agrees(table) for table in tables):
        raise HCLError(
            f"was not reproduced within {tolerance:g} points",
            where=str(record),
            remedy="see the differences above; --tolerance allows larger ones",
        )
    out.print("the figures were reproduced")
