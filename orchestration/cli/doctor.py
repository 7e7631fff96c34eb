"""Implement `hcl doctor`."""

from __future__ import annotations

from dataclasses import astuple, fields

import typer

from orchestration.cli.options import DATA, RUNS, Address, Data, Runs
from orchestration.console import out, print_rows


def doctor(data: Data = DATA, runs: Runs = RUNS, address: Address = None) -> None:
    """What this machine or a cluster can do, what is missing, and what to do about it: one line a check and node.

    Checked on every node: equal versions of Python, packages and this program; GPUs as Ray and as torch see them, and
    NCCL; videos written and read back by cv2; that data and runs are seen, the same folder, and writable; free disk,
    /dev/shm, clocks; and where the token lies. On a cluster from outside: hcl submit -- doctor --data ... --runs ...
    Exit status 1 where something is wrong.
    """
    from orchestration.clusters.doctor import Finding, examine

    findings = examine(data, runs, address)
    print_rows([field.name for field in fields(Finding)], map(astuple, findings))
    n_wrong = sum(finding.state == "wrong" for finding in findings)
    out.print("nothing is wrong" if not n_wrong else f"wrong: {n_wrong}, each with its remedy")
    raise typer.Exit(1 if n_wrong else 0)
