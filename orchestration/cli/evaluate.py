"""Evaluate checkpoints: `hcl evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from hcl.config import PUBLISHED_EVALUATION, REGIMES
from hcl.config.overrides import SET, parse_overrides
from hcl.config.resolve import load_resolved, override
from hcl.errors import ConfigError
from orchestration.cli.options import (
    DATA,
    RUNS,
    Address,
    CacheDir,
    Data,
    DryRun,
    Runs,
    Set,
    command_line,
    run_and_checkpoint,
    tell_code_state,
    tell_left_out,
    with_cache,
)
from orchestration.console import notes, out, print_table, show_records

if TYPE_CHECKING:
    from orchestration.evaluation.questions import Question, Target

_OF_EVALUATION = (
    "evaluation.",
    "fusion.",
    "matching.metric",
    "matching.chunk_size",
    "train.use_gpu",
    "train.loader_processes",
    "data.cache_dir",
    "data.cache_gb",
)


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
    data: Data = DATA,
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
    from orchestration.evaluation.methods import METHODS
    from orchestration.evaluation.questions import encodings, one_by_one_notes, plan, questions_of
    from orchestration.evaluation.training_state import unfinished_notes

    methods, all_methods = tuple(method or ()), dict.fromkeys((*METHODS, *REGIMES))
    if unknown := [name for name in methods if name not in all_methods]:
        raise ConfigError(f"unknown method {unknown[0]!r}", where="--method", remedy=f"one of {', '.join(all_methods)}")
    changes = {
        **(PUBLISHED_EVALUATION if protocol == "published" else {}),
        **evaluation_settings(with_cache(settings, cache_dir)),
    }
    here = {"evaluation.datasets": dataset} if dataset else {}
    targets = [_target(path, runs, methods, {**changes, **here}, fused) for path in run or []]
    targets += _of_suite(suite, runs, methods, changes, fused) if suite else []
    if not targets:
        raise ConfigError("nothing to evaluate", where="RUN_OR_CHECKPOINT", remedy="give a run, or --suite FILE")
    keeps = {name: target.experiment.asks_copies for target in targets for name in _datasets(target)}
    opened = DataRoot(data.absolute())
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


def evaluation_settings(texts: list[str] | None) -> dict[str, Any]:
    """Return `--set` as values by path. Raises ConfigError for what would change the model."""
    values = parse_overrides(texts or ())
    _check_settings(values, SET)
    return values


def _check_settings(values: Mapping[str, Any], where: str) -> None:
    if wrong := [path for path in values if not path.startswith(_OF_EVALUATION)]:
        raise ConfigError(
            f"{wrong[0]!r} would evaluate another model than the trained one",
            where=where,
            remedy="an evaluation may change evaluation.*, fusion.*, matching.metric and settings of the machine",
        )


def _target(run: Path, runs: Path, methods: tuple[str, ...], changes: Mapping[str, Any], fused: bool) -> Target:
    from orchestration.evaluation.fuse import FUSED, check_fusion_is_of, chosen_fusion
    from orchestration.evaluation.methods import named
    from orchestration.evaluation.questions import Target

    folder, checkpoint = run_and_checkpoint(run, runs)
    experiment = load_resolved(folder / "experiment.yaml")
    if fused:
        check_fusion_is_of(folder)
        experiment = override(experiment, chosen_fusion(folder))
    evaluated = override(experiment, changes)
    label = named(FUSED, experiment.train.regime, experiment, evaluated) if fused else ""
    return Target(folder, evaluated, checkpoint, methods, label)


def _of_suite(
    path: Path, runs: Path, methods: tuple[str, ...], changes: Mapping[str, Any], fused: bool
) -> list[Target]:
    from orchestration.evaluation.suite import read_suite

    targets = []
    for number, entry in enumerate(read_suite(path), 1):
        _check_settings(entry.settings, f"{path}: entry {number}: settings")
        own: dict[str, Any] = {"evaluation.datasets": [entry.dataset]}
        if entry.partition:
            own["evaluation.partition"] = entry.partition
        targets.append(_target(entry.run, runs, methods, {**entry.settings, **changes, **own}, fused))
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
