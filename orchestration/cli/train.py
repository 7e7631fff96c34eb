"""Train a run: `hcl train`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hcl.config import Experiment
from orchestration.cli.options import (
    RUNS,
    Address,
    CacheDir,
    DataOfRun,
    DryRun,
    ExperimentName,
    Restart,
    Runs,
    Set,
    Workers,
    announce,
    command_line,
    experiment_of,
    tell_code_state,
    tell_emulation,
    tell_flips,
    tell_left_out,
)
from orchestration.console import out
from orchestration.storage.data_roots import data_of
from orchestration.training.view import EpochTable, show_memory

if TYPE_CHECKING:
    from hcl.frames.stored_dataset import DataRoot
    from orchestration.training.run import Run


def train(
    experiment: ExperimentName,
    data: DataOfRun = None,
    runs: Runs = RUNS,
    settings: Set = None,
    cache_dir: CacheDir = None,
    workers: Workers = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Epochs in all; short for --set train.epochs=N. A run of fewer epochs is trained further.",
            show_default=False,
        ),
    ] = None,
    restart: Restart = False,
    address: Address = None,
    dry_run: DryRun = False,
) -> None:
    """Train one run with Ray Train; a repeated command resumes from the last checkpoint.

    A checkpoint is written every train.checkpoint_every steps and after every epoch. A killed run loses no more than
    that, and ends with the same weights as an uninterrupted one. A second command on the same run is refused while the
    first one runs.

    --epochs N trains a finished run further, up to N epochs, with the weights of a run that was started with N. Its
    provenance keeps both numbers. It is refused for optim.schedule=cosine, whose learning rates depend on the total.

    --dry-run also prints the memory of a step, and the settings that reduce it.
    """
    from hcl.frames.stored_dataset import DataRoot
    from orchestration.planning.preflight import machine_faults, raise_faults, run_faults
    from orchestration.training.run import Run

    chosen = experiment_of(experiment, settings, workers, cache_dir, epochs)
    data = data_of([runs / chosen.name], data)
    opened = DataRoot(data.absolute())
    announce(chosen)
    tell_flips(opened.dataset(chosen.data.dataset), chosen)
    tell_emulation(chosen, address)
    run = Run(chosen, opened, runs.absolute(), runs.absolute() / chosen.name)
    if dry_run:
        _show_plan(run, address)
        return
    raise_faults([*run_faults(run), *machine_faults(run, address)])
    further = epochs is not None
    train_and_show(chosen, opened, data=data, runs=runs, restart=restart, further=further, address=address)


def train_and_show(
    experiment: Experiment,
    opened: DataRoot,
    *,
    data: Path,
    runs: Path,
    restart: bool = False,
    further: bool = False,
    address: str | None = None,
) -> None:
    """Train with Ray Train under a live table, and print the next command."""
    from orchestration.training.train import train as train_run

    tell_left_out(opened.dataset(experiment.data.dataset), keep_copies=experiment.learns_from_copies)
    tell_code_state()
    with EpochTable() as table:
        run = train_run(
            experiment,
            data=opened,
            runs=runs,
            restart=restart,
            further=further,
            address=address,
            command=command_line(),
            on_epoch=table.add,
            on_progress=table.progress,
        )
    out.print(escape(f"best and last checkpoint: {run.folder / 'checkpoints'}"), soft_wrap=True)
    out.print(
        escape(f"next: hcl evaluate {shlex.quote(str(run.folder))} --data {shlex.quote(str(data))}"), soft_wrap=True
    )


def _show_plan(run: Run, address: str | None) -> None:
    """Print the data, the amount of training, and the memory that each worker needs.

    What this machine cannot do is raised after that, as one error.
    """
    from hcl.assembly import models
    from orchestration.planning.costs import training_seconds
    from orchestration.planning.machine import look_at_machine
    from orchestration.planning.preflight import machine_faults, memory_faults, raise_faults
    from orchestration.training.memory import estimate_memory
    from orchestration.training.train import check_data
    from results.records.moments import duration

    check_data(run)
    partitions = run.partitions()
    for partition in partitions:
        out.print(f"{partition.name}: {len(partition.videos)} clips of {len(partition.classes)} classes")
    train = run.experiment.train
    steps = train.epochs * train.batches_per_epoch
    out.print(f"{steps} steps, {steps * models.clips_per_step(run.experiment)} clips")
    estimate = estimate_memory(run, len(partitions[0].classes))
    show_memory(estimate)
    n_training, n_selecting = (len(partition.videos) for partition in partitions)
    machine = look_at_machine(run.runs, weights=False)
    seconds = training_seconds(run.experiment, n_training, n_selecting, machine)
    out.print(f"about {duration(seconds)} on this machine; roughly, by figures of two processors")
    raise_faults([*machine_faults(run, address), *memory_faults(run, estimate.peak, address)])
    out.print("nothing was started")
