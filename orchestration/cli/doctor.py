"""Check this machine or a cluster: `hcl doctor`."""

from __future__ import annotations

from dataclasses import astuple, fields

import typer

from orchestration.cli.options import DATA, RUNS, Address, Data, Fits, Runs, Set, experiment_for
from orchestration.cli.shell.json_option import with_json
from orchestration.console import out, print_rows


@with_json
def doctor(
    data: Data = DATA, runs: Runs = RUNS, fits: Fits = None, settings: Set = None, address: Address = None
) -> None:
    """Check what this machine or a cluster can do and what is missing, with a remedy: one line for each check and node.

    Checked on every node: equal versions of Python, packages and this program; GPUs as Ray and torch see them, and
    NCCL; videos written and read back by cv2; data and runs folders that are visible, the same folder, and writable;
    free disk, /dev/shm and clocks; and the place of the token. For a cluster, from outside: hcl submit -- doctor --data
    ... --runs ...

    With --for EXPERIMENT the table also has everything that this experiment lacks: videos, classes, weights,
    GPUs, disk, each with the settings that mend it.

    The exit status is 1 if something is wrong.

    \b
    hcl doctor
    hcl doctor --for metaworld_cpu
    """
    from orchestration.clusters.doctor import Finding, examine, examine_experiment

    chosen = experiment_for(fits, settings)
    findings = examine(data, runs, address)
    if chosen is not None:
        findings += examine_experiment(chosen, data, runs, address)
    print_rows([field.name for field in fields(Finding)], map(astuple, findings), name="findings")
    n_wrong = sum(finding.state == "wrong" for finding in findings)
    out.print("nothing is wrong" if not n_wrong else f"{n_wrong} findings are wrong, each with its remedy")
    raise typer.Exit(1 if n_wrong else 0)
