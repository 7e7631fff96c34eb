"""Tell the state of runs and studies: `hcl status`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hcl.errors import ConfigError
from orchestration.cli.options import RUNS, Runs
from orchestration.console import out
from orchestration.storage.run_folders import run_folder

if TYPE_CHECKING:
    from orchestration.state.study_state import State


def status(
    run: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Folders of runs or studies, names under RUNS, or STUDY/TRIAL. Default: all under RUNS.",
            show_default=False,
        ),
    ] = None,
    runs: Runs = RUNS,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show changes until Ctrl-C (exit status 130, as after any Ctrl-C).")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, max=3600, help="With --watch: seconds between two looks.")] = 2.0,
) -> None:
    """Tell whether runs and studies are running (by whom, how far), stopped, failed (why) or done, a line for each.

    For what is stopped or failed, the command that resumes it is printed. Only the files of the runs folder are read,
    so that any machine that sees it can ask. A run whose process was killed is stopped, not running.

    \b
    hcl status
    hcl status first first-study
    hcl status --watch

    With --watch a terminal gets a table that changes in place. Piped, each change is a line.
    """
    from orchestration.runtime.signals import resumed_by
    from orchestration.state.state_table import show
    from orchestration.state.state_table import watch as watch_states
    from orchestration.state.study_state import state_of, states_in

    folders = [run_folder(name, runs) for name in run or []]
    if not folders and not runs.is_dir():
        raise ConfigError("no such folder", where=str(runs), remedy="give the folder of the runs: --runs FOLDER")

    def look() -> list[State]:
        return [state_of(folder) for folder in folders] if folders else states_in(runs)

    if watch:
        with resumed_by("stopped watching; runs are not affected"):
            watch_states(look, every)
    states = look()
    show(states)
    if not states:
        out.print(f"no runs in {escape(str(runs))}", soft_wrap=True)
