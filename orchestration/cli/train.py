"""`hcl train`."""

from __future__ import annotations

import shlex

from orchestration.cli.options import (
    DATA,
    RUNS,
    Address,
    Data,
    DryRun,
    ExperimentName,
    Restart,
    Runs,
    Set,
    Workers,
    announce,
    command_line,
    experiment_of,
    tell_flips,
    tell_left_out,
)
from orchestration.console import out, show_epoch


def train(
    experiment: ExperimentName,
    data: Data = DATA,
    runs: Runs = RUNS,
    settings: Set = None,
    workers: Workers = None,
    restart: Restart = False,
    address: Address = None,
    dry_run: DryRun = False,
) -> None:
    """Train one run by Ray Train; repeated, it goes on from the last checkpoint."""
    from orchestration.train import check_data
    from orchestration.train import train as train_run
    from orchestration.worker import Run

    chosen = experiment_of(experiment, settings, workers)
    announce(chosen)
    tell_flips(data, chosen)
    if dry_run:
        run = Run(chosen, data.absolute(), runs.absolute(), runs.absolute() / chosen.name)
        check_data(run)
        for partition in run.partitions():
            out.print(f"{partition.name}: {len(partition.videos)} clips of {len(partition.classes)} classes")
        steps = chosen.train.epochs * chosen.train.batches_per_epoch
        out.print(f"{steps} steps, {2 * steps * chosen.train.classes_per_batch} clips; nothing was started")
        return
    tell_left_out(data, chosen.data.dataset)
    with out.status("starting") as status:
        run = train_run(
            chosen,
            data_root=data,
            runs=runs,
            restart=restart,
            address=address,
            command=command_line(),
            on_epoch=show_epoch,
            on_progress=lambda now: status.update(
                f"epoch {now['epoch']}/{now['epochs']}, step {now['step']}/{now['steps']}, loss {now['total']:.3f}"
            ),
        )
    out.print(f"best and last checkpoint: {run.folder / 'checkpoints'}", soft_wrap=True)
    out.print(f"next: hcl evaluate {shlex.quote(str(run.folder))} --data {shlex.quote(str(data))}", soft_wrap=True)
