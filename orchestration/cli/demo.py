"""Run the demo: `hcl demo`."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from orchestration.cli.options import Address, Data, Runs, command_line
from orchestration.console import out

_RUNS, _QUICK = Path("runs/demo"), Path("runs/demo-quick")
_DATA = _RUNS / "data"


def demo(
    data: Data = _DATA,
    runs: Runs = _RUNS,
    seed: Annotated[int, typer.Option(help="Seed of the videos, the weights and the search.")] = 0,
    address: Address = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Run the same steps on fewer videos, in a minute or two, below runs/demo-quick.",
        ),
    ] = False,
) -> None:
    """Run all steps on generated videos: extract, sweep, train the best, evaluate 5 data sets x 5 shots, report.

    It takes three to fifteen minutes on two cores. --quick shows the way alone: its figures say nothing about
    accuracies.

    \b
    hcl demo
    hcl demo --quick
    """
    from orchestration.demo import FULL, QUICK, run_demo

    plan = QUICK if quick else FULL
    if quick:
        data, runs = (_QUICK / path.relative_to(_RUNS) if path in (_DATA, _RUNS) else path for path in (data, runs))
    run_demo(data=data, runs=runs, seed=seed, address=address, command=command_line(), plan=plan)
    out.print(escape(f"next: README.md, 'From a folder of videos to a table'{_activation()}"), highlight=False)


def _activation() -> str:
    """Return how the shell finds `hcl`, or nothing where it finds it already."""
    if shutil.which("hcl"):
        return ""
    folder = Path(sys.executable).parent  # the environment's own: never resolve its link to the system's Python
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())
    hcl, activate = shlex.quote(str(folder / "hcl")), shlex.quote(str(folder / "activate"))
    return f"; run `. {activate}` once in each shell, or call {hcl} instead of hcl"
