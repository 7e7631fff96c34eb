"""The options of `hcl sweep` in groups, as its help shows them: what is searched, how trials run, what follows.

Fields stand in the order of the help.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from hcl.config.overrides import SET, parse_overrides
from hcl.config.values import check_value
from orchestration.cli.options import Workers
from orchestration.cli.shell import completion
from orchestration.sweeps.sampling.choices import SamplerName, StopRule
from search_spaces import Space, load_space

TRIALS = 20
_SEARCH, _TRIAL, _AFTER = "Search", "Trials", "After the study"


@dataclass(frozen=True)
class SearchOptions:
    """The space, its sampler and the number of trials."""

    space: Annotated[
        str,
        typer.Option(
            help="A YAML file, or a shipped one (`hcl config list`).",
            rich_help_panel=_SEARCH,
            autocompletion=completion.spaces,
        ),
    ] = "sigma"
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Trials of the study, default {TRIALS}; may be raised later. For a population: members.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = None
    add_trials: Annotated[
        int, typer.Option(min=0, help="Number of trials to add once all others are done.", rich_help_panel=_SEARCH)
    ] = 0
    sampler: Annotated[
        SamplerName,
        typer.Option(
            help="Method of choosing trials; grid: every combination; population: see below.", rich_help_panel=_SEARCH
        ),
    ] = "tpe"
    round_epochs: Annotated[
        int, typer.Option(min=1, help="For a population: epochs of a round.", rich_help_panel=_SEARCH)
    ] = 1
    point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=VALUE,...",
            help="Values to try before anything is sampled; repeatable. Others are sampled.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = None
    warm_start: Annotated[
        Path | None,
        typer.Option(
            metavar="STUDY",
            help="An earlier study whose trials inform the sampler.",
            show_default=False,
            rich_help_panel=_SEARCH,
            autocompletion=completion.studies,
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of the sampler.", rich_help_panel=_SEARCH)] = 0
    lag: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Trials before each one whose results its sampler does not see; at most N + 1 run at once. Default: "
            "twice --concurrency, or else twice the trials that fit at once when the study starts.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = None
    as_they_come: Annotated[
        bool,
        typer.Option(
            "--as-they-come",
            help="Choose and stop trials by all that has ended by then. The study is not reproducible.",
            rich_help_panel=_SEARCH,
        ),
    ] = False
    paired: Annotated[
        bool,
        typer.Option(
            "--paired/--independent",
            help="All trials have the same seed and batches, or each has its own seed.",
            rich_help_panel=_SEARCH,
        ),
    ] = True
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="HCL_STORAGE",
            metavar="URL_OR_FILE",
            help="Place of Optuna's study: a database or a journal file; default: optuna.journal in its folder. "
            "Set a URL with a password only by the environment.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = None


@dataclass(frozen=True)
class TrialOptions:
    """The resources of trials, and what becomes of those that fall behind or fail."""

    stop: Annotated[StopRule, typer.Option(help="Rule that stops trials that fall behind.", rich_help_panel=_TRIAL)] = (
        "asha"
    )
    grace_epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="First epoch after which a trial may be stopped; default: a third of the epochs, and one after the "
            "warm-up.",
            show_default=False,
            rich_help_panel=_TRIAL,
        ),
    ] = None
    workers: Workers = None
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Largest number of trials at once; default: as many as fit.", rich_help_panel=_TRIAL),
    ] = None
    gpu_share: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of a GPU for a trial of one worker.", rich_help_panel=_TRIAL)
    ] = 1.0
    retries: Annotated[
        int, typer.Option(min=0, help="Retries of a trial whose process or node has died.", rich_help_panel=_TRIAL)
    ] = 1
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Run failed trials again, with their values, from their checkpoints.",
            rich_help_panel=_TRIAL,
        ),
    ] = False
    trial_timeout: Annotated[
        float | None,
        typer.Option(
            min=1, help="Seconds that a trial may run before it fails.", show_default=False, rich_help_panel=_TRIAL
        ),
    ] = None


@dataclass(frozen=True)
class FollowUpOptions:
    """The steps that follow the study: fusion, confirmation, a run of the best settings."""

    fuse: Annotated[
        int,
        typer.Option(
            min=0, help="Fusions to try on each complete trial's val score table; 0: none.", rich_help_panel=_AFTER
        ),
    ] = 0
    confirm: Annotated[
        int, typer.Option(min=0, help="Number of best trials to train again.", rich_help_panel=_AFTER)
    ] = 0
    seeds: Annotated[int, typer.Option(min=2, help="Number of new seeds for each of them.", rich_help_panel=_AFTER)] = 3
    then_train: Annotated[
        bool, typer.Option("--then-train", help="Train the best settings as a run STUDY-best.", rich_help_panel=_AFTER)
    ] = False
    full_epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Epochs of that run; default: those of a trial.", show_default=False, rich_help_panel=_AFTER
        ),
    ] = None


def space_of(name: str, settings: list[str] | None) -> Space:
    """Return the space, with what --set gives fixed. Raises ConfigError, SpaceError."""
    values = {path: check_value(path, value, SET) for path, value in parse_overrides(settings or ()).items()}
    return load_space(name).pin({path: _plain(value) for path, value in values.items()})


def _plain(value: object) -> object:
    """Return a setting's value as a space's file has it: its tuples are lists."""
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value
