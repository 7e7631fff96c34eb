"""Run studies: `hcl sweep`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from orchestration.cli.option_groups import with_groups
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
    announce,
    command_line,
    experiment_of,
    tell_code_state,
    tell_emulation,
)
from orchestration.cli.sweep_options import TRIALS, FollowUpOptions, SearchOptions, TrialOptions, space_of
from orchestration.console import out
from orchestration.storage.data_roots import data_of
from orchestration.storage.run_folders import run_folder

if TYPE_CHECKING:
    import results
    from hcl.config import Experiment
    from orchestration.sweeps.study import Study

_SEARCH, _TRIALS, _FOLLOW_UP = SearchOptions(), TrialOptions(), FollowUpOptions()


@with_groups
def sweep(
    experiment: ExperimentName,
    data: DataOfRun = None,
    runs: Runs = RUNS,
    settings: Set = None,
    cache_dir: CacheDir = None,
    search: SearchOptions = _SEARCH,
    how: TrialOptions = _TRIALS,
    after: FollowUpOptions = _FOLLOW_UP,
    restart: Restart = False,
    address: Address = None,
    dry_run: DryRun = False,
    status: Annotated[
        bool,
        typer.Option("--status", help="Show the progress of a study, given by EXPERIMENT or its folder, and stop."),
    ] = False,
) -> None:
    """Search settings with Ray Tune and Optuna.

    A repeated command resumes the study: finished trials are kept, running ones resume from their checkpoints, and the
    sampler keeps its history. Values that break a constraint of the space or contradict each other are drawn again and
    never run. A failed trial is recorded with the last line of its error and the file with the full traceback, and the
    study continues; --retry-failed runs such trials again. A full disk, a node that does not see a folder or a database
    that does not answer is no trial's failure: the study stops, and the repeated command runs the remaining trials. A
    study in a --storage of several people belongs to the runs folder that started it. From another terminal: hcl sweep
    --status STUDY.

    A study is a function of its --seed and --lag, whatever runs faster and however many trials run at once. Its sampler
    chooses trial k by the results of the trials before k - lag, and a trial is stopped by comparison with earlier ones
    alone. A study keeps its lag when it is resumed. --as-they-come uses every result at once and is not reproducible.

    --sampler population trains all members side by side, in rounds of --round-epochs. After each round the worst
    quarter continues from checkpoints of the best quarter, with weights near theirs (population-based training).

    Two stages: --space two_stage searches the weights of the loss and judges each trial at its best fusion of the
    levels, which validation finds without training (train.val_fusions). --fuse 1000 does so after the study, on the
    score table of each complete trial. Both values are shown side by side.

    The best value of a study is partly luck. --confirm 3 --seeds 5 trains the best three trials again, with the same
    five new seeds each, and reports which differ significantly.
    """
    if status:
        from orchestration.sweeps.view import show_status

        show_status(run_folder(Path(experiment), runs))
        return
    chosen = experiment_of(experiment, settings, how.workers, cache_dir)
    data = data_of([runs / chosen.name], data)
    study = _study(chosen, data, runs, settings, search, how, restart=restart)
    tell_emulation(chosen, address)
    if dry_run:
        _show_plan(study, address)
        return
    _check(study, address)
    announce(chosen)
    tell_code_state()
    record, ended = _run(study, search, how, restart=restart, address=address)
    best = _best(study, ended, record.best_trial or "", after, retry_failed=how.retry_failed, address=address)
    _train_or_say_how(study, best, data, runs, then_train=after.then_train, address=address)


def _study(
    experiment: Experiment,
    data: Path,
    runs: Path,
    settings: list[str] | None,
    search: SearchOptions,
    how: TrialOptions,
    *,
    restart: bool,
) -> Study:
    """Make the study that was asked for; one that is there keeps its number of trials."""
    from hcl.config.overrides import parse_point
    from hcl.frames.stored_dataset import DataRoot
    from orchestration.sweeps.study import Limits, Study, n_trials_of

    return Study(
        experiment,
        space_of(search.space, settings),
        DataRoot(data.absolute()),
        runs.absolute(),
        search.trials or (None if restart else n_trials_of(runs / experiment.name)) or TRIALS,
        seed=search.seed,
        sampler=search.sampler,
        stop_rule=how.stop,
        paired=search.paired,
        points=tuple(map(parse_point, search.point or ())),
        limits=Limits(how.retries, how.trial_timeout, how.concurrency, how.gpu_share),
        storage=search.storage,
        round_epochs=search.round_epochs,
        grace_epochs=how.grace_epochs,
        as_they_come=search.as_they_come,
        lag=search.lag,
    )


def _check(study: Study, address: str | None) -> None:
    """Raise an error for everything that the study's space, its data or this machine would refuse."""
    from orchestration.planning.preflight import machine_faults, raise_faults
    from orchestration.sweeps.checks import check_study
    from orchestration.training.run import Run

    check_study(study)
    raise_faults(machine_faults(Run(study.experiment, study.data, study.runs, study.folder), address))


def _show_plan(study: Study, address: str | None) -> None:
    from orchestration.sweeps.plan import show_plan
    from orchestration.sweeps.storage.optuna_storage import check_storage
    from orchestration.sweeps.study import as_in_folder

    _check(study, address)
    check_storage(study.folder, study.storage)
    show_plan(as_in_folder(study), address)


def _run(
    study: Study, search: SearchOptions, how: TrialOptions, *, restart: bool, address: str | None
) -> tuple[results.SweepRecord, list[results.TrialRecord]]:
    """Run the study under a live table; return its record and its trials."""
    from orchestration.sweeps.study import n_trials_in_all
    from orchestration.sweeps.sweep import sweep as run_sweep
    from orchestration.sweeps.view import StudyTable, show_end

    with StudyTable(study.space, study.folder, n_trials_in_all(study) + search.add_trials) as table:
        record, ended = run_sweep(
            study,
            address=address,
            restart=restart,
            add_trials=search.add_trials,
            retry_failed=how.retry_failed,
            warm_start=search.warm_start,
            command=command_line(),
            on_trial=table.ended,
            on_change=table.show,
        )
    show_end(record, ended)
    return record, ended


def _best(
    study: Study,
    ended: Sequence[results.TrialRecord],
    winner: str,
    after: FollowUpOptions,
    *,
    retry_failed: bool,
    address: str | None,
) -> Experiment:
    """Fuse and confirm trials as asked for; return the winner's settings as a run of their own, and say where they are.

    Args:
        winner: the study's best trial, which fusion or confirmation may replace.
    """
    from orchestration.sweeps.confirm import confirm
    from orchestration.sweeps.fused_trials import fuse_trials
    from orchestration.sweeps.sweep import full_length, write_best
    from orchestration.sweeps.view import show_candidates, show_fused

    fusions = {}
    if after.fuse:
        fused = fuse_trials(study, ended, n_trials=after.fuse, address=address)
        show_fused(fused)
        winner = fused[0].trial
        fusions = {trial.trial: trial.settings for trial in fused}
    if after.confirm:
        candidates = confirm(
            study, ended, n_best=after.confirm, n_seeds=after.seeds, retry_failed=retry_failed, address=address
        )
        show_candidates(candidates)
        winner = candidates[0].trial
    best = full_length(study, ended, winner, after.full_epochs, fusions.get(winner, {}))
    path = write_best(study, best)
    out.print(f"best trial {winner}; its experiment: {path}", soft_wrap=True)
    return best


def _train_or_say_how(
    study: Study, best: Experiment, data: Path, runs: Path, *, then_train: bool, address: str | None
) -> None:
    """Train the best settings, or print the commands that do."""
    if then_train:
        from hcl.frames.stored_dataset import DataRoot
        from orchestration.cli.train import train_and_show

        train_and_show(best, DataRoot(data.absolute()), data=data, runs=runs, address=address)
        return
    from orchestration.sweeps.sweep import BEST

    options = f"--data {shlex.quote(str(data))} --runs {shlex.quote(str(runs))}"
    out.print(escape(f"next: hcl train {shlex.quote(str(study.folder / BEST))} {options}"), soft_wrap=True)
    out.print(escape(f"then: hcl evaluate {shlex.quote(best.name)} {options}"), soft_wrap=True)
