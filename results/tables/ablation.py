"""Compare runs that differ only in some settings, such as the weights of the loss, side by side."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

import pandas as pd

from results.errors import RecordError
from results.records.codec import plain
from results.records.settings import NAME, TERMS, differing, regime_in, settings_of
from results.records.store import Results
from results.statistics.significance import LEVEL, Difference, Verdict, judged
from results.tables.cells import MARKED, MISSING, footnotes, latest_cells, marks, p_text, record_text, wider_intervals
from results.tables.evaluated import Answers

_QUESTION = ["dataset", "partition", "way", *MARKED]


def ablations(
    loaded: Results,
    *,
    over: str = TERMS,
    ignored: Collection[str] = (NAME,),
    dataset: str | None = None,
    answers: Answers | None = None,
) -> list[pd.DataFrame]:
    """Return one table for each group of runs whose settings differ only in paths that begin with `over`.

    A row is a run, with its values of the differing settings and the accuracy of its own method at each shot. All runs
    are compared with the group's reference, the run with the most terms (of equals the one with the largest weights).
    The table gives the difference in points on the same episodes, with the p-value of `results.statistics.significance`
    in brackets, corrected for the number of runs at each shot. Runs without evaluations are rows as well.

    Args:
        ignored: settings in which the runs may differ, such as those of the machine.
        dataset: use only evaluations on this data set.
    """
    groups: dict[Any, list[tuple[str, dict[str, Any]]]] = {}
    for run in loaded.runs.to_dict("records"):
        try:
            settings = settings_of(run["experiment"]) if isinstance(run["experiment"], str) else {}
        except RecordError:
            continue
        rest = frozenset(
            (path, repr(value)) for path, value in settings.items() if path not in ignored and not path.startswith(over)
        )
        if settings:
            groups.setdefault(rest, []).append((run["run"], settings))
    evaluations = (
        loaded.evaluations if dataset is None else loaded.evaluations[loaded.evaluations["dataset"] == dataset]
    )
    answers = answers or Answers()
    tables = []
    for runs in groups.values():
        paths = [path for path in differing(settings for _, settings in runs) if path.startswith(over)]
        if len(runs) > 1 and paths:
            tables += _tables(runs, paths, evaluations, answers)
    return tables


def _tables(
    runs: list[tuple[str, dict[str, Any]]], paths: list[str], evaluations: pd.DataFrame, answers: Answers
) -> list[pd.DataFrame]:
    """Make a table for each data set, partition, way and protocol that some run was asked; one without any."""
    own = {run: regime_in(settings) or "hcl" for run, settings in runs}
    mine = evaluations[evaluations["method"] == evaluations["run"].map(own)]
    latest = latest_cells(mine, ["run", *_QUESTION])
    weights = {run: [_weight(settings.get(path)) for path in paths] for run, settings in runs}
    ordered = sorted(runs, key=lambda run: (-sum(w > 0 for w in weights[run[0]]), -sum(weights[run[0]])))
    questions = [cell for _, cell in latest.groupby(_QUESTION, dropna=False)] or [latest]
    return [_table(ordered, paths, cell, answers) for cell in questions]


def _table(
    runs: list[tuple[str, dict[str, Any]]], paths: list[str], records: pd.DataFrame, answers: Answers
) -> pd.DataFrame:
    by_cell = {(record["run"], record["shot"]): record for record in records.to_dict("records")}
    shots, reference, rows = sorted(records["shot"].unique()), runs[0][0], []
    verdicts = {shot: _verdicts([run for run, _ in runs[1:]], reference, shot, by_cell, answers) for shot in shots}
    for run, settings in runs:
        row = {"run": run, **{path.rpartition(".")[2]: settings.get(path, MISSING) for path in paths}}
        for shot in shots:
            record = by_cell.get((run, shot))
            row[f"{shot}-shot"] = record_text(record) if record else MISSING
            row[f"Δ {shot}-shot"] = _difference(verdicts[shot].get(run)) if run != reference else ""
        rows.append(row)
    table = pd.DataFrame(rows)
    table.attrs["records"] = _unrounded(runs, paths, by_cell, verdicts)
    if len(records):
        first = records.iloc[0].to_dict()
        about = f"{first['dataset']} {marks(first)}".rstrip() + f", {first['partition']} classes, {first['way']}-way"
        table.attrs["caption"] = (
            f"{', '.join([f'{about}: accuracy in percent, ± over episodes', *wider_intervals(records)])}; Δ is the "
            f"difference to {reference} in points on the same episodes, with the p-value of the paired t-test over "
            f"classes (v: over videos, where none over classes exists) after Holm's correction for the runs of a "
            f"column; p < {LEVEL:g} is significant."
        )
    else:
        table.attrs["caption"] = "None of these runs has been evaluated yet."
    table.attrs["footnotes"] = footnotes(records)
    return table


def _unrounded(
    runs: list[tuple[str, dict[str, Any]]],
    paths: list[str],
    by_cell: dict[Any, dict[Any, Any]],
    verdicts: dict[Any, dict[str, Verdict]],
) -> list[dict[str, Any]]:
    """Return an evaluated cell of a run a row: its settings, accuracy and difference to the reference, from 0 to 1."""
    rows = []
    for (run, settings), shot in itertools.product(runs, verdicts):
        record, verdict = by_cell.get((run, shot)), verdicts[shot].get(run)
        if record is None:
            continue
        row = {"run": run, "reference": runs[0][0], **{path: settings.get(path) for path in paths}}
        row |= {name: record[name] for name in (*_QUESTION, "shot", "accuracy", "ci95", "ci95_classes", "ci95_videos")}
        row |= {"difference": verdict and verdict.difference.mean, "p_value": verdict and verdict.p_value}
        rows.append(plain(row))
    return rows


def _verdicts(
    runs: list[str], reference: str, shot: int, by_cell: dict[Any, dict[Any, Any]], answers: Answers
) -> dict[str, Verdict]:
    """Return the verdicts on the differences of runs to the reference at a shot, where both answered the same episodes.

    Args:
        by_cell: records by run and shot.
    """
    differences: dict[str, Difference] = {}
    for run in runs:
        record, other = by_cell.get((run, shot)), by_cell.get((reference, shot))
        compared = answers.compare(record, other) if record and other else None
        if compared is not None:
            differences[run] = compared.difference
    return dict(zip(differences, judged(list(differences.values())), strict=True))


def _difference(verdict: Verdict | None) -> str:
    """Return a difference in points with its p-value; a dash if the two did not answer the same episodes."""
    if verdict is None:
        return MISSING
    points = f"{100 * verdict.difference.mean:+.1f}"
    if verdict.p_value is None:
        return points
    p_value = p_text(verdict.p_value)
    return f"{points} (p {p_value}{', v' if verdict.difference.over == 'videos' else ''})"


def _weight(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
