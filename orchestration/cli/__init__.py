"""Define the command line: `hcl --help`.

Each command or group of commands has a module. The exit status is 0 for success, 1 for failure, 2 for misuse, and 128
plus the signal's number after a signal.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cluster import PlaceError
from hcl.errors import HCLError, StorageError
from hcl.files.disk_errors import remedy_for
from orchestration.cli import (
    checkpoint,
    cluster,
    config,
    data,
    demo,
    doctor,
    evaluate,
    explain,
    extract,
    fuse,
    jobs,
    predict,
    report,
    reproduce,
    results,
    submit,
    sweep,
    train,
)
from orchestration.cli.data.new import new
from orchestration.cli.results.status import status
from orchestration.console import notes
from orchestration.runtime.signals import INTERRUPTED, orderly_ends
from orchestration.storage.folder_defaults import apply_folder_defaults
from orchestration.storage.places import storage_error
from orchestration.version import show_version
from results import RecordError
from search_spaces import SpaceError

app = typer.Typer(
    help="Few-shot action recognition with HCL: from videos to a table of accuracies, on a laptop or a Ray cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def hcl(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and the code revision.", callback=show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Take the options of the program itself."""


for command in (
    demo.demo,
    new,
    extract.extract,
    train.train,
    sweep.sweep,
    evaluate.evaluate,
    fuse.fuse,
    explain.explain,
    predict.predict,
    report.report,
    status,
    reproduce.reproduce,
    submit.submit,
    doctor.doctor,
):
    app.command()(command)
for group in (data, config, checkpoint, results, jobs, cluster):
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2])


def main() -> None:
    """Run the command line; a user's mistake ends in one message and not in a traceback.

    A signal ends it in order, with 128 plus the signal's number as exit status; see `orchestration.runtime.signals`.
    """
    with orderly_ends() as interrupts:
        try:
            _run()
        except SystemExit as stop:
            if stop.code != INTERRUPTED:
                raise
            notes.print(interrupts.hint, soft_wrap=True, markup=False, highlight=False)
            sys.exit(interrupts.exit_code)


def _run() -> None:
    try:
        app(obj=apply_folder_defaults(Path.cwd()))
    except (HCLError, SpaceError, RecordError, PlaceError) as error:
        notes.print(f"[bold red]error[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:
        message = _storage_message(error)
        if message is None:
            raise
        notes.print(f"[bold red]error[/] {escape(str(message))}", soft_wrap=True)
        sys.exit(message.exit_code)


def _storage_message(error: OSError) -> StorageError | None:
    """Return the message for an error of the system that a user can remedy; None if it would be a bug."""
    if isinstance(error, PermissionError) and error.filename is not None:
        problem = f"no permission ({error.strerror})"
        return StorageError(problem, where=str(error.filename), remedy=f"{remedy_for(error)} (--data, --runs)")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return StorageError(f"cannot continue: {error.strerror}", where="this process", remedy=remedy_for(error))
    return storage_error(error, Path.cwd())
