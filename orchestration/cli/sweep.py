"""`hcl sweep`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from orchestration.cli.options import (
    DATA,
    RUNS,
    Address,
    CacheDir,
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
    run_folder,
    tell_code_state,
)
from orchestration.cli.space_options import point_of, space_of
from orchestration.console import out
from orchestration.sweeps.choices import SamplerName, StopRule

TRIALS = 20
_SEARCH, _TRIAL, _AFTER = "What is searched", "How trials run", "What follows"


def sweep(
    experiment: ExperimentName,
    data: Data = DATA,
    runs: Runs = RUNS,
    settings: Set = None,
    cache_dir: CacheDir = None,
    space: Annotated[
        str, typer.Option(help="A YAML file, or a shipped one (`hcl config list`).", rich_help_panel=_SEARCH)
    ] = "sigma",
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Trials of the study, {TRIALS} unless given; it may grow. Of a population: its members.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    add_trials: Annotated[
        int, typer.Option(min=0, help="So many more, once those asked for are done.", rich_help_panel=_SEARCH)
    ] = 0,
    sampler: Annotated[
        SamplerName,
        typer.Option(
            help="Who chooses the next trial; grid: every combination; population: see below.", rich_help_panel=_SEARCH
        ),
    ] = "tpe",
    round_epochs: Annotated[
        int, typer.Option(min=1, help="Of a population: epochs of a round.", rich_help_panel=_SEARCH)
    ] = 1,
    point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=VALUE,...",
            help="Values to try before anything is sampled; repeatable. What it leaves out is sampled.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    warm_start: Annotated[
        Path | None,
        typer.Option(
            metavar="STUDY",
            help="An earlier study whose trials the sampler knows.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sampler.", rich_help_panel=_SEARCH)] = 0,
    paired: Annotated[
        bool,
        typer.Option(
            "--paired/--independent",
            help="All trials see the same seed and batches, or each has a seed of its own.",
            rich_help_panel=_SEARCH,
        ),
    ] = True,
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
    ] = None,
    stop: Annotated[
        StopRule, typer.Option(help="Who stops trials that fall behind; median: of the others.", rich_help_panel=_TRIAL)
    ] = "asha",
    workers: Workers = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Trials at once, at most; default: as many as find room.", rich_help_panel=_TRIAL),
    ] = None,
    gpu_share: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Of a GPU, for a trial of one worker.", rich_help_panel=_TRIAL)
    ] = 1.0,
    retries: Annotated[
        int, typer.Option(min=0, help="Of a trial whose process or node has died.", rich_help_panel=_TRIAL)
    ] = 1,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Run trials that have failed again, with their values, from their checkpoints.",
            rich_help_panel=_TRIAL,
        ),
    ] = False,
    trial_timeout: Annotated[
        float | None,
        typer.Option(
            min=1, help="Seconds that a trial may run; then it has failed.", show_default=False, rich_help_panel=_TRIAL
        ),
    ] = None,
    fuse: Annotated[
        int,
        typer.Option(
            min=0, help="Fusions to try on each whole trial's val score table; 0: none.", rich_help_panel=_AFTER
        ),
    ] = 0,
    confirm: Annotated[
        int, typer.Option(min=0, help="So many of the best trials are trained again.", rich_help_panel=_AFTER)
    ] = 0,
    seeds: Annotated[int, typer.Option(min=2, help="New seeds for each of them.", rich_help_panel=_AFTER)] = 3,
    then_train: Annotated[
        bool, typer.Option("--then-train", help="Train the best settings as a run STUDY-best.", rich_help_panel=_AFTER)
    ] = False,
    full_epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Epochs of that run; default: those of a trial.", show_default=False, rich_help_panel=_AFTER
        ),
    ] = None,
    restart: Restart = False,
    address: Address = None,
    dry_run: DryRun = False,
    status: Annotated[
        bool, typer.Option("--status", help="Say how far a study is, named by EXPERIMENT or its folder, and stop.")
    ] = False,
) -> None:
    """Search settings by Ray Tune with Optuna.

    Repeated, the command goes on: trials that are done stay done, those that were running go on from their
    checkpoints, and the sampler knows what it knew. Values that break a constraint of the space or contradict each
    other are drawn again and never run. A trial that fails is recorded with its error's last line and the file that
    has all of it, and the study goes on; --retry-failed runs such trials again. A full disk, a node that does not see a
    folder or a database that does not answer is no trial's failure: the study stops, and the command repeated runs what
    is left. A study in a --storage of several people belongs to the runs folder that began it. From another terminal:
    hcl sweep --status STUDY.

    --sampler population trains all members beside each other, in rounds of --round-epochs: after each, the worst
    quarter go on from checkpoints of the best quarter, with weights near theirs (population-based training).

    Two stages. --space two_stage searches the weights of the loss and judges each trial at its best fusion of the
    levels, which validation finds without training (train.val_fusions). --fuse 1000 does so after the study, on the
    score table of each whole trial. Both values are told beside each other.

    A study's best value is the luckiest of many: --confirm 3 --seeds 5 trains the best three again, with the same five
    new seeds each, and says which of them are told apart.
    """
    if status:
        from orchestration.sweeps.view import show_status

        show_status(run_folder(Path(experiment), runs))
        return
    from hcl.frames.stored_dataset import DataRoot
    from orchestration.sweeps.checks import check_study
    from orchestration.sweeps.confirm import confirm as confirm_trials
    from orchestration.sweeps.fused_trials import fuse_trials
    from orchestration.sweeps.study import Limits, Study, n_trials_in_all, n_trials_of
    from orchestration.sweeps.sweep import full_length, write_best
    from orchestration.sweeps.sweep import sweep as run_sweep
    from orchestration.sweeps.view import StudyTable, show_candidates, show_end, show_fused

    chosen = experiment_of(experiment, settings, workers, cache_dir)
    asked = trials or (None if restart else n_trials_of(runs / chosen.name)) or TRIALS
    study = Study(
        chosen,
        space_of(space, settings),
        DataRoot(data.absolute()),
        runs.absolute(),
        asked,
        seed,
        sampler,
        stop,
        paired,
        tuple(map(point_of, point or ())),
        Limits(retries, trial_timeout, concurrency, gpu_share),
        storage,
        round_epochs,
    )
    if dry_run:
        from orchestration.sweeps.plan import show_plan
        from orchestration.sweeps.storage.optuna_storage import check_storage

        check_study(study)
        check_storage(study.folder, study.storage)
        show_plan(study, address)
        return
    announce(chosen)
    tell_code_state()
    with StudyTable(study.space, study.folder, n_trials_in_all(study) + add_trials) as table:
        record, ended = run_sweep(
            study,
            address=address,
            restart=restart,
            add_trials=add_trials,
            retry_failed=retry_failed,
            warm_start=warm_start,
            command=command_line(),
            on_trial=table.ended,
            on_change=table.show,
        )
    show_end(record, ended)
    winner, fusions = record.best_trial or "", {}
    if fuse:
        fused = fuse_trials(study, ended, n_trials=fuse, address=address)
        show_fused(fused)
        winner = fused[0].trial
        fusions = {one.trial: one.settings for one in fused}
    if confirm:
        candidates = confirm_trials(
            study, ended, n_best=confirm, n_seeds=seeds, retry_failed=retry_failed, address=address
        )
        show_candidates(candidates)
        winner = candidates[0].trial
    best = full_length(study, ended, winner, full_epochs, fusions.get(winner, {}))
    path = write_best(study, best)
    options = f"--data {shlex.quote(str(data))} --runs {shlex.quote(str(runs))}"
    out.print(f"best trial {winner}; its experiment: {path}", soft_wrap=True)
    if then_train:
        from orchestration.cli.train import train_and_show

        train_and_show(best, DataRoot(data.absolute()), data=data, runs=runs, address=address)
        return
    out.print(escape(f"next: hcl train {shlex.quote(str(path))} {options}"), soft_wrap=True)
    out.print(escape(f"then: hcl evaluate {shlex.quote(best.name)} {options}"), soft_wrap=True)
