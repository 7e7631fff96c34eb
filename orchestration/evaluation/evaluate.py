"""`hcl evaluate`: any number of checkpoints, data sets and shots in one job, each clip encoded once, each pair once."""

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

_BLOCK = 1000  # episodes looked up at a time


class Answers(NamedTuple):
    records: list[results.EvaluationRecord]
    n_encoded: int  # views of clips that were encoded now; others were there already


def evaluate(
    questions: Sequence[Question],
    *,
    runs: Path,
    address: str | None = None,
    command: str = "",
    on_cell: Callable[[list[results.EvaluationRecord]], None] | None = None,
) -> Answers:
    """Answer all questions in one job; records are written into the runs' folders as they are found.

    Repeated after whatever stopped it, it does what is missing.

    Args:
        runs: score tables and features lie in its `cache/`.
        command: as typed.
        on_cell: called with the records of a method on a data set, all shots, as they are found.
    """
    runs = Path(runs).absolute()
    mixed = [question for question in questions if question.reason()]
    cells = dict.fromkeys(question.cell for question in questions)
    found = []
    origin = results.collect_provenance(command)
    with connect(address):
        ensure_grids([job for cell in cells if (job := cell.grid_job())], runs)
        outcome = ensure_tables(
            [question.cell for question in questions if not question.reason()],
            runs,
            mixed=[Mixed(question.cell, question.asked.episodes) for question in mixed],
        )
    one_by_one = {id(question): scores for question, scores in zip(mixed, outcome.mixed, strict=True)}
    for cell, group in itertools.groupby(questions, key=lambda question: question.cell):
        asked = list(group)
        table = cell.table(runs).read() if any(id(question) not in one_by_one for question in asked) else {}
        share = outcome.seconds.pop(cell, 0.0) / len(asked)
        records = []
        for question in asked:
            began = time.perf_counter()
            scores = one_by_one[id(question)] if id(question) in one_by_one else _looked_up(question, table)
            records.append(_answer(question, scores, share, began, origin))
        found += records
        for _, of_method in itertools.groupby(records, key=lambda record: record.method):
            if on_cell is not None:
                on_cell(list(of_method))
    return Answers(found, outcome.n_encoded)


def _looked_up(question: Question, table: Mapping[str, np.ndarray]) -> Scores:
    parts = [question.cell.pairwise.look_up(table, part) for part in question.asked.episodes.parts(_BLOCK)]
    return {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}


def _answer(
    question: Question, scores: Scores, share: float, began: float, origin: results.Provenance
) -> results.EvaluationRecord:
    """The record of a question, written with the answers behind it.

    Args:
        share: seconds of the actors' work on it.
        began: when answering it did.
        origin: of the job.
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
