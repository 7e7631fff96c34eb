"""Evaluate any number of checkpoints, data sets and shots in one job, encoding each clip and scoring each pair once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import results
from hcl.evaluation.methods import Scores
from hcl.evaluation.scores import accuracies
from orchestration.evaluation import outcomes
from orchestration.evaluation.questions import Question
from orchestration.evaluation.scoring import Mixed, ensure_tables
from orchestration.runtime.connect import connect
from orchestration.training.grids import ensure_grids

_BLOCK = 1000  # episodes that are looked up at a time


class Answers(NamedTuple):
    records: list[results.EvaluationRecord]
    n_encoded: int  # views of clips that were encoded in this call


def evaluate(
    questions: Sequence[Question],
    *,
    runs: Path,
    address: str | None = None,
    command: str = "",
    on_cell: Callable[[list[results.EvaluationRecord]], None] | None = None,
) -> Answers:
    """Answer all questions in one job, and write records into the runs' folders as they are found.

    A repeated call after an interruption does only the missing work.

    Args:
        runs: the folder of runs; its `cache/` holds score tables and features.
        command: the command line, for the records.
        on_cell: called with the records of a method on a data set, for all shots, as they are found.
    """
    runs = Path(runs).absolute()
    mixed = [question for question in questions if question.reason()]
    cells = dict.fromkeys(question.cell for question in questions)
    all_records = []
    origin = results.collect_provenance(command)
    with connect(address):
        ensure_grids([job for cell in cells if (job := cell.grid_job())], runs)
        outcome = ensure_tables(
            [question.cell for question in questions if not question.reason()],
            runs,
            mixed=[Mixed(question.cell, question.asked.episodes) for question in mixed],
        )
    scores_of_mixed = {id(question): scores for question, scores in zip(mixed, outcome.mixed, strict=True)}
    for cell, group in itertools.groupby(questions, key=lambda question: question.cell):
        of_cell = list(group)
        table = cell.table(runs).read() if any(id(question) not in scores_of_mixed for question in of_cell) else {}
        share = outcome.seconds.pop(cell, 0.0) / len(of_cell)
        records = []
        for question in of_cell:
            began = time.perf_counter()
            scores = scores_of_mixed[id(question)] if id(question) in scores_of_mixed else _looked_up(question, table)
            records.append(_answer(question, scores, share, began, origin))
        all_records += records
        for _, of_method in itertools.groupby(records, key=lambda record: record.method):
            if on_cell is not None:
                on_cell(list(of_method))
    return Answers(all_records, outcome.n_encoded)


def _looked_up(question: Question, table: Mapping[str, np.ndarray]) -> Scores:
    parts = [question.cell.pairwise.look_up(table, episodes) for episodes in question.asked.episodes.parts(_BLOCK)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _answer(
    question: Question, scores: Scores, share: float, began: float, origin: results.Provenance
) -> results.EvaluationRecord:
    """Return the record of a question, and write it with the answers that it rests on.

    Args:
        share: seconds that the actors worked on it.
        began: start time of answering it.
        origin: provenance of the job.
    """
    asked, how = question.asked, question.cell.how
    answered = outcomes.outcomes_of(how.fuse(scores), asked, question.cell.partition.classes)
    by_level = {name: float(accuracies(level, asked.episodes.n_queries).mean()) for name, level in scores.items()}
    figures = outcomes.figures_of(answered)
    record = results.EvaluationRecord(
        **question.record,
        **figures,
        levels=by_level if len(scores) > 1 else {},
        seconds=share + time.perf_counter() - began,
        created=results.now(),
        command=origin.command,
        revision=origin.revision,
        dirty=origin.dirty,
        versions=origin.versions,
    )
    outcomes.write(question.folder, record, answered)
    return record
