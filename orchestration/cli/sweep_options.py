"""The options of `hcl sweep` in groups, as its help shows them: what is searched, how trials run, what follows.

Fields stand in the order of the help.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from orchestration.cli.options import Workers
from orchestration.sweeps.choices import SamplerName, StopRule

TRIALS = 20
_SEARCH, _TRIAL, _AFTER = "What is searched", "How trials run", "What follows"


@dataclass(frozen=True)
class SearchOptions:
    """The space, its sampler and the number of trials."""

    space: Annotated[
        str, typer.Option(help="A YAML file, or a shipped one (`hcl config list`).", rich_help_panel=_SEARCH)
    ] = "sigma"
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Trials of the study, {TRIALS} unless given; it may grow. Of a population: its members.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = None
    add_trials: Annotated[
        int, typer.Option(min=0, help="So many more, once those asked for are done.", rich_help_panel=_SEARCH)
    ] = 0
    sampler: Annotated[
        SamplerName,
        typer.Option(
            help="Who chooses the next trial; grid: every combination; population: see below.", rich_help_panel=_SEARCH
        ),
    ] = "tpe"
    round_epochs: Annotated[
        int, typer.Option(min=1, help="Of a population: epochs of a round.", rich_help_panel=_SEARCH)
    ] = 1
    point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=VALUE,...",
            help="Values to try before anything is sampled; repeatable. What it leaves out is sampled.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = None
    warm_start: Annotated[
        Path | None,
        typer.Option(
            metavar="STUDY",
            help="An earlier study whose trials the sampler knows.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Of the sampler.", rich_help_panel=_SEARCH)] = 0
    paired: Annotated[
        bool,
        typer.Option(
            "--paired/--independent",
            help="All trials see the same seed and batches, or each has a seed of its own.",
            rich_help_panel=_SEARCH,
        ),
    ] = True
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="HCL_STORAGE",
            metavar="URL_OR_FILE",
            help="Where Optuna keeps the study: a database, or a journal file; default: optuna.journal in its folder. "
            "Give a password by the environment only.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = None


@dataclass(frozen=True)
class TrialOptions:
    """The resources of trials, and what becomes of those that fall behind or fail."""

    stop: Annotated[
        StopRule, typer.Option(help="Who stops trials that fall behind; median: of the others.", rich_help_panel=_TRIAL)
    ] = "asha"
    workers: Workers = None
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Trials at once, at most; default: as many as find room.", rich_help_panel=_TRIAL),
    ] = None
    gpu_share: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Of a GPU, for a trial of one worker.", rich_help_panel=_TRIAL)
    ] = 1.0
    retries: Annotated[
        int, typer.Option(min=0, help="Of a trial whose process or node has died.", rich_help_panel=_TRIAL)
    ] = 1
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Run trials that have failed again, with their values, from their checkpoints.",
            rich_help_panel=_TRIAL,
        ),
    ] = False
    trial_timeout: Annotated[
        float | None,
        typer.Option(
            min=1, help="Seconds that a trial may run; then it has failed.", show_default=False, rich_help_panel=_TRIAL
        ),
    ] = None


@dataclass(frozen=True)
class FollowUpOptions:
    """The steps that follow the study: fusion, confirmation, a run of the best settings."""

    fuse: Annotated[
        int,
        typer.Option(
            min=0, help="Fusions to try on each whole trial's val score table; 0: none.", rich_help_panel=_AFTER
        ),
    ] = 0
    confirm: Annotated[
        int, typer.Option(min=0, help="So many of the best trials are trained again.", rich_help_panel=_AFTER)
    ] = 0
    seeds: Annotated[int, typer.Option(min=2, help="New seeds for each of them.", rich_help_panel=_AFTER)] = 3
    then_train: Annotated[
        bool, typer.Option("--then-train", help="Train the best settings as a run STUDY-best.", rich_help_panel=_AFTER)
    ] = False
    full_epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Epochs of that run; default: those of a trial.", show_default=False, rich_help_panel=_AFTER
        ),
    ] = None
