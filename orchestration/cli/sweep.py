"""`hcl sweep`."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from hcl.resolve import resolve
from hcl.settings import flatten
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
)
from orchestration.console import out, percent, show_trial, show_trials
from search_spaces import load_space


def sweep(
    experiment: ExperimentName,
    space: Annotated[str, typer.Option(help="A YAML file, or a shipped one (`hcl config list`).")] = "sigma",
    trials: Annotated[int, typer.Option(min=1, help="Trials of the study.")] = 20,
    data: Data = DATA,
    runs: Runs = RUNS,
    settings: Set = None,
    workers: Workers = None,
    seed: Annotated[int, typer.Option(help="Of the sampler.")] = 0,
    stop_early: Annotated[bool, typer.Option(help="ASHA stops trials that fall behind.")] = True,
    restart: Restart = False,
    address: Address = None,
    dry_run: DryRun = False,
) -> None:
    """Search settings by Ray Tune with Optuna; repeated, it goes on with the trials that are not done."""
    from orchestration.study import Study, check_study
    from orchestration.sweep import sweep as run_sweep

    chosen = experiment_of(experiment, settings, workers)
    pinned = resolve(None, settings or []).origins
    values = {
        path: value
        for path, value in flatten(chosen.model_dump(mode="json"), "experiment").items()
        if pinned.get(path) == "--set"
    }
    searched = load_space(space).pin(values)
    study = Study(chosen, searched, data.absolute(), runs.absolute(), trials, seed, stop_early)
    if dry_run:
        check_study(study)
        _show_space(study)
        return
    announce(chosen)
    record, _ = run_sweep(study, address=address, restart=restart, command=command_line(), on_trial=show_trial)
    show_trials(study.folder)
    best = study.folder / "best.yaml"
    out.print(
        f"best trial {record.best_trial}: {record.objective} {percent(record.best_value)}; its experiment: {best}",
        soft_wrap=True,
    )
    out.print(
        f"next: hcl train {shlex.quote(str(best))} --data {shlex.quote(str(data))} --runs {shlex.quote(str(runs))}",
        soft_wrap=True,
    )


def _show_space(study: Any) -> None:
    out.print(f"{study.n_trials} trials of {study.experiment.train.epochs} epochs over space {study.space.name}:")
    for path in study.space.parameters:
        out.print(f"  {path}: {study.space.parameters[path].model_dump(exclude_defaults=True)}", soft_wrap=True)
    for seed in range(3):
        out.print(f"  for example {study.space.sample(seed)}", soft_wrap=True)
