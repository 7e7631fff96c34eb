"""Tag runs and studies, and write notes on them: `hcl results tag` and `hcl results note`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from orchestration.cli.options import RUNS, Runs
from orchestration.console import out
from orchestration.storage.locks import held
from orchestration.storage.record_files import write_labels
from orchestration.storage.run_folders import run_folder

if TYPE_CHECKING:
    from results.records.labels import Labels


def tag(
    run: Annotated[list[Path], typer.Argument(help="Folders of runs or studies, names under RUNS, or STUDY/TRIAL.")],
    add: Annotated[list[str] | None, typer.Option("--add", help="A tag to add; repeatable.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="A tag to remove; repeatable.")] = None,
    runs: Runs = RUNS,
) -> None:
    """Add tags to runs and studies, and remove tags; without either, show their tags.

    \b
    hcl results tag first second --add baseline --remove draft
    hcl results list --tag baseline

    Lists, `hcl results show` and the page show them. They are kept in the run's folder, and change no result.
    """
    from results.records.labels import tagged

    for folder in [run_folder(name, runs) for name in run]:
        labels = _changed(folder, lambda labels: tagged(labels, add or (), remove or ()))
        out.print(escape(f"{folder.name}: {', '.join(labels.tags) or 'no tags'}"), soft_wrap=True, highlight=False)


def note(
    run: Annotated[Path, typer.Argument(help="The folder of a run or a study, its name under RUNS, or STUDY/TRIAL.")],
    text: Annotated[
        str | None,
        typer.Argument(help="The new note, in place of an earlier one; '' removes it.", show_default=False),
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Write a note on a run or a study; without a text, show it.

    \b
    hcl results note first 'learning rate of the paper, more frames'

    Lists show its first line, `hcl results show` and the page all of it. It is kept in the run's folder.
    """
    from results.records.labels import noted

    folder = run_folder(run, runs)
    labels = _changed(folder, lambda labels: labels if text is None else noted(labels, text))
    out.print(escape(f"{folder.name}: {labels.note or 'no note'}"), soft_wrap=True, highlight=False)


def _changed(folder: Path, change: Callable[[Labels], Labels]) -> Labels:
    """Change the labels of a folder, one process at a time, and return them; a folder without a change is only read."""
    from results.records.labels import read_labels

    if change(read_labels(folder)) == (before := read_labels(folder)):
        return before
    with held(folder / ".labels.lock", what="a change of labels", wait_s=10.0):
        labels = change(read_labels(folder))
        write_labels(folder, labels)
        return labels
