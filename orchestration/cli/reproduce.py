"""`hcl reproduce`."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hcl.errors import HCLError
from orchestration.cli.options import DATA, Address, Data, place
from orchestration.console import out, print_rows


def reproduce(
    record: Annotated[Path, typer.Argument(help="RUN/evaluation/FILE.json, or a run's folder.")],
    data: Data = DATA,
    run: Annotated[bool, typer.Option("--run", help="Do it again and compare the figures.")] = False,
    runs: Annotated[
        Path | None,
        typer.Option(
            help="With --run: folder for the new run, which stays and can be resumed; a run of another origin is left "
            "alone, and refused. Default: a temporary one.",
            show_default=False,
            callback=place("--runs"),
        ),
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Points of accuracy that figures may differ by.")] = 0.1,
    address: Address = None,
) -> None:
    """How a result came about, what is different here, and whether it comes out again.

    Prints the commands that made it, and checks code, package versions, settings, videos, episodes and weights
    against what is here. --run asks a record's episodes again of the checkpoint that it names, with nothing cached; a
    run's folder is trained again and then evaluated. The same machine and versions give the same figures to the last
    digit; elsewhere rounding tips close calls, which is what --tolerance allows for.

    \b
    hcl reproduce runs/ssv2/evaluation/hcl-ssv2_100_otam-test-5way-1shot.json --data data
    hcl reproduce runs/ssv2 --data data --run --runs again

    Exit status 1: the figures differ.
    """
    import results
    from hcl.frames.stored_dataset import DataRoot
    from orchestration.reports.recorded import read_recorded
    from orchestration.reports.reproduce import checks_of, commands_of, repeat
    from results.exports.reproduction import agrees, checks_table, epochs_table, figures_table

    recorded = read_recorded(record)
    for what, command in commands_of(recorded, data):
        out.print(f"{what}: {escape(command)}", soft_wrap=True, highlight=False)
    opened = DataRoot(data.absolute())
    checks = checks_of(recorded, opened)
    print_rows(checks_table(checks), title="what it was made with")
    if not run:
        return
    with tempfile.TemporaryDirectory(prefix="hcl-") if runs is None else nullcontext(runs) as place:
        pairs, epochs = repeat(recorded, opened, Path(place), address)
        tables = [figures_table(pairs, tolerance)] if pairs else []
        if epochs:
            tables.insert(0, epochs_table(results.read_epochs(recorded.folder), epochs, tolerance))
    for table in tables:
        print_rows(table, title="again")
    if not all(agrees(table) for table in tables):
        raise HCLError(
            f"did not come out again within {tolerance:g} points",
            where=str(record),
            remedy="see what differs above; --tolerance allows for more",
        )
    out.print("it came out again")
