"""`hcl evaluate`: methods x data sets x shots, encoded and scored by Ray actors, each clip and each pair once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import results
from hcl import build
from hcl.config import Experiment
from hcl.effective import effective_partition
from hcl.episodes import Episodes, sample_episodes
from hcl.errors import ConfigError
from hcl.scores import Levels, accuracies, fused, look_up, look_up_global, metric_of
from hcl.splits import read_partition
from orchestration.grids import ensure_grids
from orchestration.runs import BEST
from orchestration.runtime import connect
from orchestration.scoring import ensure_tables, mixed_levels
from orchestration.tables import Cell

METHODS = {
    "hcl": "the run's best checkpoint",
    "untrained": "the same model before training: pretrained backbone, random heads",
    "random": "the same model with random weights everywhere",
    "prototype": "the backbone's frame features in order, without learning: nearest class mean",
}
"""What can be evaluated of a run. The method's name in records; `hcl` marks what the others are compared with.

A run of another regime has that regime's name in the place of `hcl`: see `methods_of`.
"""


def methods_of(experiment: Experiment) -> tuple[str, ...]:
    """What can be evaluated of a run of this experiment; first its best checkpoint by its own regime's matcher."""
    return (experiment.train.regime, *(name for name in METHODS if name != "hcl"))


_BLOCK = 1000  # episodes looked up at a time


@dataclass(frozen=True)
class Question:
    """One cell of the table: a method on the episodes of a data set at one shot."""

    cell: Cell
    episodes: Episodes
    record: dict[str, Any]


def evaluate(
    folder: Path,
    experiment: Experiment,
    *,
    data_root: Path,
    runs: Path,
    methods: Sequence[str] = (),
    checkpoint: Path | None = None,
    address: str | None = None,
    on_cell: Callable[[list[results.EvaluationRecord]], None] | None = None,
) -> list[results.EvaluationRecord]:
    """Accuracy of a run on `experiment.evaluation`; records are written into the run's folder as they are found.

    Args:
        folder: of the run.
        experiment: the run's, with what `--set` changed about the evaluation.
        methods: of `methods_of(experiment)`; none: the run's own.
        on_cell: called with the records of a method on a data set, all shots, as they are found.
        checkpoint: of the run's own method; the run's best by default.

    Raises:
        ConfigError: a method that this run does not have.
        DataError, SplitError, EpisodeError: the data sets cannot provide the episodes; nothing has been computed then.
        CheckpointError: there is none, or it is of another model.
    """
    folder, data_root, runs = (Path(one).absolute() for one in (folder, data_root, runs))  # actors work elsewhere
    known = methods_of(experiment)
    if unknown := [method for method in methods if method not in known]:
        raise ConfigError(
            f"method {unknown[0]!r} cannot be evaluated of this run, which was trained as {experiment.train.regime}",
            where=str(folder),
            remedy=f"one of {', '.join(known)}",
        )
    questions = list(_questions(folder, experiment, data_root, methods or known[:1], checkpoint))
    mixed = list(dict.fromkeys(question.cell for question in questions if _reason(question)))
    pairwise = list(dict.fromkeys(question.cell for question in questions if not _reason(question)))
    found = []
    with connect(address):
        ensure_grids([job for cell in dict.fromkeys(pairwise + mixed) if (job := cell.grid_job())], runs)
        ensure_tables(pairwise, runs, mixed=mixed)
        for _, group in itertools.groupby(questions, key=lambda question: question.cell):
            records = [_record(question, _levels(question, runs)) for question in group]
            for record in records:
                results.write_evaluation(folder, record)
            found += records
            if on_cell is not None:
                on_cell(records)
    return found


def encodings(experiment: Experiment, n_clips: int, n_methods: int) -> str:
    """How many clips are encoded, beside the number that evaluation episode by episode would encode."""
    evaluation = experiment.evaluation
    each = evaluation.way * evaluation.episodes * max(1, len(evaluation.datasets)) * n_methods
    naive = sum(each * (shot + evaluation.queries) for shot in evaluation.shots)
    return f"{n_clips * n_methods:,} clips encoded, each once; episode by episode it would be {naive:,}"


def _questions(
    folder: Path, experiment: Experiment, data_root: Path, methods: Sequence[str], checkpoint: Path | None
) -> Iterator[Question]:
    evaluation = experiment.evaluation
    for dataset in evaluation.datasets or (experiment.data.dataset,):
        partition = effective_partition(data_root, read_partition(data_root, dataset, evaluation.partition))
        episodes = {
            shot: sample_episodes(
                partition.labels,
                way=evaluation.way,
                shot=shot,
                queries=evaluation.queries,
                episodes=evaluation.episodes,
                seed=evaluation.seed,
                class_names=partition.classes,
                overlapping=evaluation.overlapping,
            )
            for shot in evaluation.shots
        }
        for method in methods:
            weights = (checkpoint or folder / BEST) if method == experiment.train.regime else None
            cell = Cell(method, experiment, data_root, partition, weights)
            cell.embeddings()  # a class without a name's embedding is told now
            for shot, questions in episodes.items():
                yield Question(cell, questions, _known(folder, cell, questions, shot))


def _known(folder: Path, cell: Cell, episodes: Episodes, shot: int) -> dict[str, Any]:
    """What a record says beside its figures."""
    experiment, evaluation = cell.experiment, cell.experiment.evaluation
    return {
        "run": folder.name,
        "method": cell.method,
        "train_dataset": experiment.data.dataset,
        "dataset": cell.partition.dataset,
        "partition": cell.partition.name,
        "way": evaluation.way,
        "shot": shot,
        "queries": evaluation.queries,
        "episodes": len(episodes),
        "seed": evaluation.seed,
        "protocol": experiment.data.protocol,
        "mode": experiment.mode,
        "leaks_labels": cell.method != "prototype" and build.defects(experiment).misplaced_semantics,
        "metric": _metric(cell, shot),
        "episodes_digest": episodes.digest(),
        "experiment_digest": experiment.digest(),
        "checkpoint": str(cell.checkpoint or ""),
        "checkpoint_digest": cell.checkpoint_digest,
        "n_clips": len(cell.partition.videos),
        "n_classes": len(cell.partition.classes),
    }


def _metric(cell: Cell, shot: int) -> str:
    """What similarities are compared by; a regime's head has a way of its own."""
    if cell.is_pooled:
        return ""
    return "euclidean" if cell.method == "prototype" else metric_of(cell.experiment.matching.metric, shot)


def _reason(question: Question) -> str | None:
    """Why a question cannot be answered from pairs; see `hcl.evaluation.Defects`."""
    if question.cell.method == "prototype":
        return None
    if question.cell.is_pooled:
        return "a regime's head sees all supports of an episode at once"
    return build.defects(question.cell.experiment).reason(question.episodes.shot)


def _levels(question: Question, runs: Path) -> Levels:
    cell, episodes = question.cell, question.episodes
    if _reason(question):
        return mixed_levels(cell, episodes, runs)
    table = cell.table(runs).read()
    matching = cell.experiment.matching
    parts = []
    for start in range(0, len(episodes), _BLOCK):
        rows = slice(start, start + _BLOCK)
        part = Episodes(episodes.classes[rows], episodes.support[rows], episodes.query[rows])
        if cell.method == "prototype":
            global_ = look_up_global(table["global"], part, "euclidean")
            parts.append(Levels(global_, np.zeros_like(global_), np.zeros_like(global_)))
        else:
            parts.append(look_up(table, part, metric=matching.metric, tuple_sizes=matching.tuple_sizes))
    return Levels(*(np.concatenate(level) for level in zip(*parts, strict=True)))


def _record(question: Question, levels: Levels) -> results.EvaluationRecord:
    queries = question.episodes.query.shape[2]
    if question.cell.method == "prototype" or question.cell.is_pooled:
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
