"""Submit a command as a job on a cluster: `hcl submit -- COMMAND`."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hcl.errors import ConfigError
from orchestration.console import notes, out
from orchestration.runtime.signals import resumed_by

if TYPE_CHECKING:
    from cluster.jobs import JobServer

Server = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="The cluster's job server, http://HOST:8265; default: RAY_API_SERVER_ADDRESS, then RAY_ADDRESS.",
        show_default=False,
    ),
]


def submit(
    command: Annotated[
        list[str],
        typer.Argument(metavar="-- COMMAND...", help="A command of hcl with its options: sweep hcl --data /data ..."),
    ],
    address: Server = None,
    name: Annotated[str | None, typer.Option(help="The job's id, unique on the cluster; default: a new one.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow the job's log and end with its exit status.")
    ] = True,
    num_cpus: Annotated[
        float, typer.Option(min=0, help="CPUs of the command itself, besides its workers; 0: it runs on the head.")
    ] = 0.0,
    num_gpus: Annotated[float, typer.Option(min=0, help="GPUs of the command itself; its workers take theirs.")] = 0.0,
    resource: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help="Another resource of the command itself; repeatable.", show_default=False),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An environment variable of job and workers, such as NCCL_DEBUG=INFO; repeatable. "
            "The dashboard shows it, so it must be no secret.",
            show_default=False,
        ),
    ] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="Send no code; use the hcl that is installed on the nodes.")
    ] = False,
    python: Annotated[str, typer.Option(help="The interpreter on the cluster that runs the packed code.")] = "python",
    limit: Annotated[float, typer.Option(min=0, max=100, help="Largest size of the code in MB.")] = 50.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the command, pack the code, print its size, and stop.")
    ] = False,
) -> None:
    """Run a command as a job of a Ray cluster: pack the code, follow the log, return the exit status.

    The package contains the files that git tracks in the checkout that this program runs from, in their present state,
    and the YAML files that the command names, with their bases. Data and runs are never sent: --data and --runs of the
    command must be absolute paths that every node sees. A cluster with tokens gets the one from RAY_AUTH_TOKEN,
    RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token, which is never printed or recorded.

    Ctrl-C stops following the log, but not the job; for that use hcl jobs stop ID. A job that was killed with its
    cluster is submitted again and resumes.

    \b
    hcl submit -- train hcl --data /shared/data --runs /shared/runs
    hcl submit --address http://HEAD:8265 -- report mine --runs /shared/runs
    """
    from cluster.jobs import STOP_S, JobServer, Resources
    from cluster.packing import megabytes, pack
    from orchestration import __file__ as code
    from orchestration.cli import app
    from orchestration.clusters.submission import check_command
    from orchestration.runtime.connect import RAY_ENVIRONMENT

    job = check_command(typer.main.get_command(app), command)  # type: ignore[arg-type]
    resources = Resources(num_cpus, num_gpus, {key: _number(value) for key, value in _pairs("--resource", resource)})
    environment = {**RAY_ENVIRONMENT, "RAY_JOB_STOP_WAIT_TIME_S": f"{STOP_S:g}", **dict(_pairs("--env", env))}
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "code.zip"
        if not installed:
            packed = pack(Path(code).parent, package, named=job.files, limit=int(limit * 1e6))
            state = f"{(packed.revision or 'no commit')[:12]}{', changed since' if packed.dirty else ''}"
            out.print(
                f"code: {packed.n_files} files, {megabytes(packed.n_bytes)}, {megabytes(packed.n_packed)} packed "
                f"({state})",
                soft_wrap=True,
                highlight=False,
            )
            if packed.untracked:
                few = ", ".join(packed.untracked[:3]) + (" and others" if len(packed.untracked) > 3 else "")
                notes.print(f"[yellow]note[/] not sent, because git does not track them: {escape(few)}", soft_wrap=True)
        elif job.files:
            raise ConfigError(
                f"{next(iter(job.files.values()))} would not be sent",
                where="--installed",
                remedy="use a shipped experiment, or the absolute path of a file on storage that the cluster sees",
            )
        if dry_run:
            out.print(f"{job.shown}\nnothing was submitted", soft_wrap=True, highlight=False)
            return
        server = JobServer(address)
        if server.sends_token_in_clear:
            notes.print(f"[yellow]note[/] the token travels unencrypted to {server.url}; https or a tunnel hides it")
        job_id = name or job.new_id()
        with resumed_by(f"stopped; job {job_id} may have started: hcl jobs list"):
            server.submit(
                job.entrypoint(python, installed=installed),
                package=None if installed else package,
                resources=resources,
                environment=environment,
                metadata={"hcl": job.shown},
                job_id=job_id,
            )
    out.print(f"job {job_id} on {server.url}: {job.shown}", soft_wrap=True, highlight=False)
    if wait:
        raise typer.Exit(follow(server, job_id))
    out.print(escape(f"next: hcl jobs logs {shlex.quote(job_id)} --follow"), soft_wrap=True, highlight=False)


def follow(server: JobServer, job_id: str) -> int:
    """Show a job's log until it ends, and return its exit status."""
    from cluster.jobs import exit_status, outcome

    quoted = shlex.quote(job_id)
    with resumed_by(f"job {job_id} keeps running: hcl jobs logs {quoted} --follow, or hcl jobs stop {quoted}"):
        details = server.follow(job_id, write_log)
    notes.print(f"job {job_id} {outcome(details)}", soft_wrap=True, highlight=False, markup=False)
    return exit_status(details)


def write_log(text: str) -> None:
    """Print a piece of a job's log unchanged."""
    out.print(text, end="", markup=False, highlight=False, soft_wrap=True, emoji=False)


def _pairs(option: str, texts: list[str] | None) -> list[tuple[str, str]]:
    for text in texts or []:
        if not text.partition("=")[0] or "=" not in text:
            raise ConfigError(f"{text!r} is not NAME=VALUE", where=option, remedy="write it as NAME=VALUE")
    return [(text.partition("=")[0], text.partition("=")[2]) for text in texts or []]


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{text!r} is not a number of at least 0", where="--resource", remedy="write NAME=1")
    return value
