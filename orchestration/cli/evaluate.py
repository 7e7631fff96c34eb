"""`hcl evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hcl.errors import ConfigError
from hcl.resolve import load_resolved, override
from orchestration.cli.options import DATA, RUNS, Address, Data, Runs, Set, run_folder, tell_left_out
from orchestration.console import notes, print_table, show_records

_OF_EVALUATION = (
    "evaluation.",
    "fusion.",
    "matching.metric",
    "matching.chunk_size",
    "train.use_gpu",
    "train.loader_processes",
)


def evaluate(
    run: Annotated[list[Path], typer.Argument(help="A run's folder, or its name under RUNS.")],
    data: Data = DATA,
    runs: Runs = RUNS,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Repeatable; default hcl. Also untrained, random, prototype, otam, bimhm, chamfer, protonet, cosine, "
            "matching: all on the same episodes."
        ),
    ] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Evaluate on these data sets; repeatable.")] = None,
    fused: Annotated[bool, typer.Option("--fused", help="With the fusion that `hcl fuse` chose on val.")] = False,
    settings: Set = None,
    address: Address = None,
) -> None:
    """Few-shot accuracies of runs: data sets x shots, with 95% intervals. Each clip is encoded once."""
    from hcl.effective import effective_partition
    from hcl.splits import read_partition
    from orchestration.evaluate import METHODS, encodings
    from orchestration.evaluate import evaluate as evaluate_run
    from orchestration.fuse import FUSED, chosen_fusion

    methods = tuple(method or ("hcl",))
    if unknown := [name for name in methods if name not in METHODS]:
        raise ConfigError(f"unknown method {unknown[0]!r}", where="--method", remedy=f"one of {', '.join(METHODS)}")
    folders = [run_folder(one, runs) for one in run]
    for folder in folders:
        changes: list[str] = list(settings or [])
        if dataset:
            changes.append(f"evaluation.datasets=[{', '.join(dataset)}]")
        check_changes(changes)
        experiment = load_resolved(folder / "experiment.yaml")
        if fused:
            experiment = override(experiment, chosen_fusion(folder))
        experiment = override(experiment, changes)
        for one in experiment.evaluation.datasets or (experiment.data.dataset,):
            tell_left_out(data, one)
        evaluate_run(
            folder,
            experiment,
            data_root=data,
            runs=runs,
            methods=methods,
            label=FUSED if fused else None,
            address=address,
            on_cell=show_records,
        )
        partitions = [
            effective_partition(data, read_partition(data, one, experiment.evaluation.partition))
            for one in experiment.evaluation.datasets or (experiment.data.dataset,)
        ]
        notes.print(encodings(experiment, sum(len(partition.videos) for partition in partitions), len(methods)))
    print_table(folders)


def check_changes(changes: list[str]) -> None:
    """Raise ConfigError for a setting that an evaluation of a trained run cannot change."""
    if wrong := [change for change in changes if not change.startswith(_OF_EVALUATION)]:
        raise ConfigError(
            f"{wrong[0]!r} would evaluate another model than the one that was trained",
            where="--set",
            remedy="an evaluation may change evaluation.*, fusion.*, matching.metric and settings of the machine",
        )
