"""`hcl evaluate`: any number of checkpoints, data sets and shots in one job, each clip encoded once, each pair once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import results
from hcl import build
from hcl.config import Experiment
from hcl.effective import effective_partition
from hcl.episode_files import EpisodeList, lists_for
from hcl.episodes import sample_episodes
from hcl.scores import Levels, accuracies, fused, look_up, look_up_global, metric_of
from hcl.splits import Partition, read_partition
from orchestration.grids import ensure_grids
from orchestration.runtime import connect
from orchestration.scoring import Mixed, ensure_tables
from orchestration.tables import Cell
from orchestration.worker import BEST

METHODS = {
    "hcl": "the run's best checkpoint, or the one that was named",
    "untrained": "the same model before training: pretrained backbone, random heads",
    "random": "the same model with random weights everywhere",
    "prototype": "the backbone's frame features in order, without learning: nearest class mean",
}
"""What can be evaluated of a run. The method's name in records; `hcl` marks what the others are compared with."""

_BLOCK = 1000  # episodes looked up at a time


@dataclass(frozen=True)
class Target:
    """What is evaluated: a run on the data sets, partition and shots of `experiment.evaluation`.

    Attributes:
        folder: of the run; its records are written there.
        experiment: the run's, with what was changed about the evaluation.
        checkpoint: of `hcl`; None: the run's best.
        methods: keys of `METHODS`.
    """

    folder: Path
    experiment: Experiment
    checkpoint: Path | None = None
    methods: tuple[str, ...] = ("hcl",)


@dataclass(frozen=True)
class Question:
    """One cell of the table: a method on the episodes of a data set at one shot."""

    folder: Path
    cell: Cell
    asked: EpisodeList
    record: dict[str, Any]

    def reason(self) -> str | None:
        """Why it cannot be answered from pairs; see `hcl.evaluation.Defects`."""
        if self.cell.method == "prototype":
            return None
        return build.defects(self.cell.experiment).reason(self.asked.episodes.shot)


class Answers(NamedTuple):
    records: list[results.EvaluationRecord]
    n_encoded: int  # views of clips that were encoded now; others were there already


def questions_of(
    targets: Sequence[Target], data_root: Path, *, episodes: Sequence[EpisodeList] | None = None
) -> list[Question]:
    """Every question about the targets, checked: nothing is computed, and nothing is written.

    Args:
        episodes: ask these, in place of those that `experiment.evaluation` would sample.

    Raises:
        DataError, SplitError, EpisodeError: the data sets cannot provide the episodes.
        CheckpointError: there is none.
    """
    data_root = Path(data_root).absolute()  # actors work elsewhere
    questions = []
    for target in targets:
        evaluation = target.experiment.evaluation
        for dataset in evaluation.datasets or (target.experiment.data.dataset,):
            partition = effective_partition(data_root, read_partition(data_root, dataset, evaluation.partition))
            lists = _sampled(target.experiment, partition) if episodes is None else lists_for(partition, episodes)
            for method in target.methods:
                cell = Cell(method, target.experiment, data_root, partition, _weights(target, method))
                questions += [
                    Question(target.folder.absolute(), cell, asked, _known(target, cell, asked)) for asked in lists
                ]
    return questions


def evaluate(
    questions: Sequence[Question],
    *,
    runs: Path,
    address: str | None = None,
    on_cell: Callable[[list[results.EvaluationRecord]], None] | None = None,
) -> Answers:
    """Answer all questions in one job; records are written into the runs' folders as they are found.

    Repeated after whatever stopped it, it does what is missing.

    Args:
        runs: score tables and features lie in its `cache/`.
        on_cell: called with the records of a method on a data set, all shots, as they are found.
    """
    runs = Path(runs).absolute()
    mixed = [question for question in questions if question.reason()]
    cells = dict.fromkeys(question.cell for question in questions)
    found = []
    with connect(address):
        ensure_grids([job for cell in cells if (job := cell.grid_job())], runs)
        outcome = ensure_tables(
            [question.cell for question in questions if not question.reason()],
            runs,
            mixed=[Mixed(question.cell, question.asked.episodes) for question in mixed],
        )
    one_by_one = {id(question): levels for question, levels in zip(mixed, outcome.mixed, strict=True)}
    for cell, group in itertools.groupby(questions, key=lambda question: question.cell):
        asked = list(group)
        table = cell.table(runs).read() if any(id(question) not in one_by_one for question in asked) else {}
        records = []
        for question in asked:
            levels = one_by_one[id(question)] if id(question) in one_by_one else _looked_up(question, table)
            records.append(_record(question, levels))
            results.write_evaluation(question.folder, records[-1])
        found += records
        if on_cell is not None:
            on_cell(records)
    return Answers(found, outcome.n_encoded)


def plan(questions: Sequence[Question], runs: Path) -> list[str]:
    """What `evaluate` would do, a line a cell: clips, pairs, episodes, and the bytes of its features."""
    lines = []
    for cell in dict.fromkeys(question.cell for question in questions):
        table = cell.table(Path(runs).absolute())
        n_pairs = sum(tile.n_pairs for tile in table.missing()) * cell.views
        n_clips = sum(stop - start for start, stop in cell.features(Path(runs).absolute()).missing()) if n_pairs else 0
        n_episodes = sum(len(question.asked.episodes) for question in questions if question.cell == cell)
        lines.append(
            f"{cell.method} on {cell.partition.dataset} {cell.partition.name}: {cell.n_clips:,} clips x {cell.views} "
            f"view(s), {n_clips * cell.views:,} to encode ({cell.feature_bytes() / 1e9:.2f} GB of features), "
            f"{n_pairs:,} pairs to score, {n_episodes:,} episodes to answer; nothing was started"
        )
    return lines


def encodings(questions: Sequence[Question], n_encoded: int) -> str:
    """How many clips were encoded, beside the number that evaluation episode by episode would encode."""
    cells = dict.fromkeys(question.cell for question in questions)
    n_views = sum(cell.n_clips * cell.views for cell in cells)
    naive = sum(
        question.cell.views * (question.asked.episodes.support.size + question.asked.episodes.query.size)
        for question in questions
    )
    what = "clips" if all(cell.views == 1 for cell in cells) else "views of clips"
    return f"encoded {n_encoded:,} of {n_views:,} {what}, the episode-by-episode way would encode {naive:,}"


def one_by_one_notes(questions: Sequence[Question]) -> list[str]:
    """What goes episode by episode, and why."""
    notes = {
        f"{question.cell.method} on {question.cell.partition.dataset}, {question.asked.episodes.shot}-shot goes "
        f"episode by episode: {question.reason()}"
        for question in questions
        if question.reason()
    }
    return sorted(notes)


def _sampled(experiment: Experiment, partition: Partition) -> list[EpisodeList]:
    evaluation = experiment.evaluation
    lists = []
    for shot in evaluation.shots:
        episodes = sample_episodes(
            partition.labels,
            way=evaluation.way,
            shot=shot,
            queries=evaluation.queries,
            episodes=evaluation.episodes,
            seed=evaluation.seed,
            class_names=partition.classes,
            overlapping=evaluation.overlapping,
        )
        lists.append(EpisodeList.of(partition, episodes, seed=evaluation.seed))
    return lists


def _weights(target: Target, method: str) -> Path | None:
    return (target.checkpoint or target.folder / BEST).absolute() if method == "hcl" else None


def _known(target: Target, cell: Cell, asked: EpisodeList) -> dict[str, Any]:
    """What a record says beside its figures."""
    experiment, episodes = cell.experiment, asked.episodes
    is_best = cell.checkpoint is None or cell.checkpoint == (target.folder / BEST).absolute()
    return {
        "run": target.folder.name,
        "method": cell.method if is_best else f"{cell.method} {cell.checkpoint.stem}",  # type: ignore[union-attr]
        "train_dataset": experiment.data.dataset,
        "dataset": cell.partition.dataset,
        "partition": cell.partition.name,
        "way": episodes.way,
        "shot": episodes.shot,
        "queries": episodes.n_queries,
        "episodes": len(episodes),
        "seed": asked.seed,
        "protocol": experiment.data.protocol,
        "evaluation_protocol": experiment.evaluation.protocol,
        "mode": experiment.mode,
        "metric": "euclidean" if cell.method == "prototype" else metric_of(experiment.matching.metric, episodes.shot),
        "episodes_digest": episodes.digest(),
        "experiment_digest": experiment.digest(),
        "checkpoint": str(cell.checkpoint or ""),
        "checkpoint_digest": cell.checkpoint_digest,
        "n_clips": cell.n_clips,
        "n_classes": len(cell.partition.classes),
    }


def _looked_up(question: Question, table: dict[str, np.ndarray]) -> Levels:
    matching = question.cell.experiment.matching
    parts = []
    for part in question.asked.episodes.parts(_BLOCK):
        if question.cell.method == "prototype":
            global_ = look_up_global(table["global"], part, "euclidean")
            parts.append(Levels(global_, np.zeros_like(global_), np.zeros_like(global_)))
        else:
            parts.append(look_up(table, part, metric=matching.metric, tuple_sizes=matching.tuple_sizes))
    return Levels(*(np.concatenate(level) for level in zip(*parts, strict=True)))


def _record(question: Question, levels: Levels) -> results.EvaluationRecord:
    queries = question.asked.episodes.n_queries
    if question.cell.method == "prototype":
        scores, by_level = levels.global_, {}
    else:
        scores = fused(levels, build.sigmas_of_fusion(question.cell.experiment))
        by_level = {
            name: float(accuracies(level, queries).mean())
            for name, level in zip(("global", "temporal", "spatial"), levels, strict=True)
        }
    each = accuracies(scores, queries)
    accuracy, ci95 = results.mean_and_ci95(each)
    return results.EvaluationRecord(
        **question.record,
        accuracy=accuracy,
        ci95=ci95,
        accuracy_std=float(each.std(ddof=1)) if len(each) > 1 else None,
        levels=by_level,
        created=results.now(),
    )
