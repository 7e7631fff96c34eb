"""`hcl evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hcl.config import REGIMES
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
            help="The run's own regime (hcl, protonet, ...), untrained, random or prototype; repeatable. Default: the "
            "run's own, by the matcher that it was trained with."
        ),
    ] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Evaluate on these data sets; repeatable.")] = None,
    settings: Set = None,
    address: Address = None,
) -> None:
    """Few-shot accuracies of runs: data sets x shots, with 95% intervals. Each clip is encoded once."""
    from hcl.effective import effective_partition
    from hcl.splits import read_partition
    from orchestration.evaluate import METHODS, encodings
    from orchestration.evaluate import evaluate as evaluate_run

    methods, known = tuple(method or ()), dict.fromkeys((*METHODS, *REGIMES))
    if unknown := [name for name in methods if name not in known]:
        raise ConfigError(f"unknown method {unknown[0]!r}", where="--method", remedy=f"one of {', '.join(known)}")
    folders = [run_folder(one, runs) for one in run]
    for folder in folders:
        changes: list[str] = list(settings or [])
        if dataset:
            changes.append(f"evaluation.datasets=[{', '.join(dataset)}]")
        wrong = [change for change in changes if not change.startswith(_OF_EVALUATION)]
        if wrong:
            raise ConfigError(
                f"{wrong[0]!r} would evaluate another model than the one that was trained",
                where="--set",
                remedy="an evaluation may change evaluation.*, fusion.*, matching.metric and settings of the machine",
            )
        experiment = override(load_resolved(folder / "experiment.yaml"), changes)
        for one in experiment.evaluation.datasets or (experiment.data.dataset,):
            tell_left_out(data, one)
        evaluate_run(
            folder, experiment, data_root=data, runs=runs, methods=methods, address=address, on_cell=show_records
        )
        partitions = [
            effective_partition(data, read_partition(data, one, experiment.evaluation.partition))
            for one in experiment.evaluation.datasets or (experiment.data.dataset,)
        ]
        notes.print(encodings(experiment, sum(len(partition.videos) for partition in partitions), len(methods) or 1))
    print_table(folders)
