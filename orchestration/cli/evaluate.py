"""Evaluate checkpoints: `hcl evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from hcl.config import PUBLISHED_EVALUATION
from hcl.errors import ConfigError
from orchestration.cli.options import (
    RUNS,
    Address,
    CacheDir,
    DataOfRun,
    DryRun,
    Runs,
    Set,
    command_line,
    tell_code_state,
    tell_left_out,
    with_cache,
)
from orchestration.console import notes, out, print_table, show_records
from orchestration.storage.data_roots import data_of
from orchestration.storage.run_folders import run_and_checkpoint

if TYPE_CHECKING:
    from orchestration.evaluation.questions import Question, Target


def evaluate(
    run: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN_OR_CHECKPOINT]...",
            help="A run's folder, its name under RUNS, or one of its checkpoints (RUN/checkpoints/last.pt).",
            show_default=False,
        ),
    ] = None,
    suite: Annotated[
        Path | None, typer.Option(help="YAML list of {run, dataset, partition, settings}: more pairs to evaluate.")
    ] = None,
    data: DataOfRun = None,
    runs: Runs = RUNS,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="The run's own regime (hcl, protonet, ...), untrained, random, prototype, or another matcher on the "
            "run's frame features: otam, bimhm, chamfer, frames-protonet, frames-cosine, frames-matching. Repeatable, "
            "all on the same episodes. Default: the run's own, with the matcher that it was trained with."
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Evaluate the given runs on these data sets; repeatable.")
    ] = None,
    fused: Annotated[bool, typer.Option("--fused", help="Use the fusion that `hcl fuse` chose on val.")] = False,
    protocol: Annotated[
        Literal["standard", "published"] | None,
        typer.Option(help="published: evaluate as for the printed results; tables mark it.", show_default=False),
    ] = None,
    episodes: Annotated[Path | None, typer.Option(help="Use the episodes of this file of --write-episodes.")] = None,
    write_episodes: Annotated[
        Path | None, typer.Option(help="Write the episodes into a file for other methods, and stop.")
    ] = None,
    settings: Set = None,
    cache_dir: CacheDir = None,
    address: Address = None,
    dry_run: DryRun = False,
) -> None:
    """Compute few-shot accuracies with 95% intervals, for any number of checkpoints, data sets and shots in one job.

    Each clip is encoded once and each pair of clips is scored once, by all actors together. Scores are kept under
    RUNS/cache, so that the same command, or one with other episodes, shots or fusion weights, only looks them up.
    Repeat the command after an interruption, and it does only the missing work. Episodes of another --set replace a
    record; a setting that makes it another method, such as fusion.sigma_spatial=0, becomes part of the method's name in
    the record.
    """
    from hcl.frames.stored_dataset import DataRoot
    from orchestration.evaluation.evaluate import evaluate as answer
    from orchestration.evaluation.questions import encodings, one_by_one_notes, plan, questions_of
    from orchestration.evaluation.targets import check_methods, evaluation_settings, target_of
    from orchestration.evaluation.training_state import unfinished_notes

    methods = tuple(method or ())
    check_methods(methods)
    changes = {
        **(PUBLISHED_EVALUATION if protocol == "published" else {}),
        **evaluation_settings(with_cache(settings, cache_dir)),
    }
    here = {"evaluation.datasets": dataset} if dataset else {}
    given = [run_and_checkpoint(path, runs) for path in run or []]
    targets = [target_of(*one, methods, {**changes, **here}, fused=fused) for one in given]
    targets += _of_suite(suite, runs, methods, changes, fused) if suite else []
    if not targets:
        raise ConfigError("nothing to evaluate", where="RUN_OR_CHECKPOINT", remedy="give a run, or --suite FILE")
    keeps = {name: target.experiment.asks_copies for target in targets for name in _datasets(target)}
    opened = DataRoot(data_of([target.folder for target in targets], data).absolute())
    for name, keep_copies in keeps.items():
        tell_left_out(opened.dataset(name), keep_copies=keep_copies)
    lists = None
    if episodes is not None:
        from hcl.clips.episode_files import read_episodes

        lists = read_episodes(episodes)
    questions = questions_of(targets, opened, episodes=lists)
    if write_episodes is not None:
        _write(write_episodes, questions)
        return
    for note in [*unfinished_notes(questions), *one_by_one_notes(questions)]:
        notes.print(f"[yellow]note[/] {escape(note)}", soft_wrap=True)
    if dry_run:
        for line in plan(questions, runs):
            out.print(line, soft_wrap=True, highlight=False)
        return
    tell_code_state()
    answers = answer(questions, runs=runs, address=address, command=command_line(), on_cell=show_records)
    notes.print(encodings(questions, answers.n_encoded))
    print_table(list(dict.fromkeys(target.folder for target in targets)))


def _of_suite(
    path: Path, runs: Path, methods: tuple[str, ...], changes: Mapping[str, Any], fused: bool
) -> list[Target]:
    from orchestration.evaluation.suite import read_suite
    from orchestration.evaluation.targets import check_settings, target_of

    targets = []
    for number, entry in enumerate(read_suite(path), 1):
        check_settings(entry.settings, f"{path}: entry {number}: settings")
        own: dict[str, Any] = {"evaluation.datasets": [entry.dataset]}
        if entry.partition:
            own["evaluation.partition"] = entry.partition
        given = run_and_checkpoint(entry.run, runs)
        targets.append(target_of(*given, methods, {**entry.settings, **changes, **own}, fused=fused))
    return targets


def _datasets(target: Target) -> tuple[str, ...]:
    return target.experiment.evaluation.datasets or (target.experiment.data.dataset,)


def _write(path: Path, questions: list[Question]) -> None:
    from hcl.clips.episode_files import write_episodes

    episode_lists = (question.asked for question in questions)  # methods and runs share their episodes
    lists = {(asked.dataset, asked.partition, asked.digest()): asked for asked in episode_lists}
    write_episodes(path, list(lists.values()))
    for asked in lists.values():
        out.print(
            f"{asked.dataset} {asked.partition}, {asked.episodes.shot}-shot: {len(asked.episodes):,} episodes, "
            f"digest {asked.digest()}",
            highlight=False,
        )
    out.print(f"written: {path}", soft_wrap=True)
