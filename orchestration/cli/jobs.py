"""Manage the jobs of a cluster: `hcl jobs ...`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from orchestration.cli.shell.json_option import with_json
from orchestration.cli.submit import Server, follow, write_log
from orchestration.console import add_json, out, print_rows
from results.records.moments import duration

app = typer.Typer(help="List, follow and stop jobs that `hcl submit` started on a cluster.", no_args_is_help=True)

Job = Annotated[str, typer.Argument(metavar="ID", help="As `hcl jobs list` shows it.")]


@app.command("list")
@with_json
def list_jobs(address: Server = None) -> None:
    """List all jobs of the cluster, the latest first: id, state, start, duration, command.

    \b
    hcl jobs list --address http://HEAD:8265
    """
    from cluster.jobs import JobServer

    jobs = JobServer(address).jobs()
    rows = [
        {
            "job": job.submission_id,
            "state": job.status.lower(),
            "started (UTC)": _moment(job.start_time),
            "duration": _duration(job.start_time, job.end_time),
            "exit": "" if job.driver_exit_code is None else job.driver_exit_code,
            "command": (job.metadata or {}).get("hcl", job.entrypoint),
        }
        for job in jobs
    ]
    if not rows:
        add_json("jobs", [])
        out.print("no jobs yet: hcl submit -- COMMAND")
        return
    records = [
        {
            "job": job.submission_id,
            "state": job.status.lower(),
            "started_ms": job.start_time,
            "ended_ms": job.end_time,
            "exit": job.driver_exit_code,
            "command": row["command"],
        }
        for job, row in zip(jobs, rows, strict=True)
    ]
    print_rows(list(rows[0]), [row.values() for row in rows], name="jobs", records=records)


@app.command("logs")
def logs(
    job: Job,
    follows: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow until the job ends, and return its exit status.")
    ] = False,
    address: Server = None,
) -> None:
    """Print the log of a job.

    \b
    hcl jobs logs hcl-train-1 --follow
    """
    from cluster.jobs import JobServer

    server = JobServer(address)
    server.details(job)  # raises now for an unknown job
    if follows:
        raise typer.Exit(follow(server, job))
    write_log(server.logs(job))


@app.command("stop")
def stop(job: Job, address: Server = None) -> None:
    """Stop a job; its files are kept, and the same command resumes from them.

    \b
    hcl jobs stop hcl-train-1
    """
    from cluster.jobs import JobServer

    server = JobServer(address)
    server.details(job)
    out.print(f"job {job} is being stopped" if server.stop(job) else f"job {job} had ended", highlight=False)


def _moment(milliseconds: int | None) -> str:
    return "" if not milliseconds else datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _duration(start: int | None, end: int | None) -> str:
    if not start:
        return ""
    seconds = max(0, round((end or datetime.now(UTC).timestamp() * 1000) / 1000 - start / 1000))  # clocks differ
    return duration(seconds)
