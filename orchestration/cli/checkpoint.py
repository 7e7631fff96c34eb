"""Import released files as runs, and show the content of files: `hcl checkpoint ...`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hcl.config.resolve import resolve
from orchestration.cli.options import Set, command_line
from orchestration.cli.shell import completion
from orchestration.cli.shell.json_option import with_json
from orchestration.console import add_json, notes, out, print_rows

app = typer.Typer(help="Import released checkpoints, and show the content of files of weights.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="A file of tensors: a released .pth, or one under RUN/checkpoints.")]


@app.command("import")
def import_file(
    file: File,
    to: Annotated[Path, typer.Option(help="Folder of the new run, such as runs/released; it must not exist yet.")],
    experiment: Annotated[
        str,
        typer.Option(
            help="Settings with which the file was trained: a YAML file or a shipped experiment.",
            autocompletion=completion.experiments,
        ),
    ] = "published",
    settings: Set = None,
) -> None:
    """Make a run from a released checkpoint, which `hcl evaluate` accepts.

    Every name, shape and type is checked against the experiment's model. Only tensors are read, and no code from the
    file runs. Entries that the model does not use are named.

    \b
    hcl checkpoint import hcl_ssv2.pth --to runs/released
    """
    from orchestration.training.release_import import import_published

    chosen = resolve(experiment, settings or []).experiment
    made = import_published(file, chosen, to, command=command_line())
    out.print(
        f"{made.folder}: {made.n_tensors} tensors of a model of {made.n_classes} classes, {chosen.mode} mode",
        soft_wrap=True,
    )
    if made.ignored:
        sizes = ", ".join(map(str, chosen.matching.tuple_sizes))
        notes.print(
            f"ignored, because tuple sizes {sizes} do not use them: {escape(', '.join(made.ignored))}",
            soft_wrap=True,
        )
    if not made.projection_trained:
        notes.print("temp_linear was never trained (the older release): project_at_test stays off", soft_wrap=True)
    out.print(escape(f"next: hcl evaluate {shlex.quote(str(made.folder))}"), soft_wrap=True)


@app.command("show")
@with_json
def show(file: File) -> None:
    """List the content of a file: tensors with shape, type and sum; for a checkpoint of ours also epoch and digest.

    \b
    hcl checkpoint show runs/mine/checkpoints/best.pt
    """
    from orchestration.training.release_import import list_checkpoint

    listing = list_checkpoint(file)
    add_json("facts", dict(listing.facts))
    for name, value in listing.facts:
        out.print(f"{name}: {escape(value)}", soft_wrap=True, highlight=False)
    columns = ["tensor", "shape", "type", "sum"]
    print_rows(columns, [[tensor[name] for name in columns] for tensor in listing.tensors], name="tensors")
