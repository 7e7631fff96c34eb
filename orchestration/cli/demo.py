"""`hcl demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestration.cli.options import Address, Data, Runs, command_line


def demo(
    data: Data = Path("runs/demo/data"),
    runs: Runs = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Of the videos, the weights and the search.")] = 0,
    address: Address = None,
) -> None:
    """The whole way on generated videos: extract, sweep, train the best, evaluate 5 data sets x 5 shots, report."""
    from orchestration.demo import run_demo

    run_demo(data=data, runs=runs, seed=seed, address=address, command=command_line())
