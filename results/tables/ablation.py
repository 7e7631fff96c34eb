"""Compare runs that differ only in some settings, such as the weights of the loss, side by side."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd

from results.errors import RecordError
from results.records.settings import NAME, TERMS, differing, settings_of
from results.records.store import Results
from results.tables.cells import MARKED, MISSING, cell_text, footnotes, latest_cells, marks
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
    The table gives the difference in points on the same episodes, with the p-value over classes in brackets (over
    episodes if there are too few classes). Runs without evaluations are rows as well.

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
    own = {run: settings.get("train.regime", "hcl") for run, settings in runs}
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
    for run, settings in runs:
        row = {"run": run, **{path.rpartition(".")[2]: settings.get(path, MISSING) for path in paths}}
        for shot in shots:
            record = by_cell.get((run, shot))
            row[f"{shot}-shot"] = (
                cell_text(record["accuracy"], record["ci95"], record["ci95_classes"]) if record else MISSING
            )
            row[f"Δ {shot}-shot"] = (
                _difference(record, by_cell.get((reference, shot)), answers) if run != reference else ""
            )
        rows.append(row)
    table = pd.DataFrame(rows)
    if len(records):
        first = records.iloc[0].to_dict()
        about = f"{first['dataset']} {marks(first)}".rstrip() + f", {first['partition']} classes, {first['way']}-way"
        table.attrs["caption"] = (
            f"{about}:  accuracy in percent with 95% intervals (over episodes; in brackets over classes); Δ is the "
            f"difference to {reference} in points on the same episodes, with the p-value of the paired test over "
            f"classes (e: over episodes), not corrected for the number of tests."
        )
    else:
        table.attrs["caption"] = "None of these runs has been evaluated yet."
    table.attrs["footnotes"] = footnotes(records)
    return table


def _difference(record: dict[Any, Any] | None, reference: dict[Any, Any] | None, answers: Answers) -> str:
    """Return the difference in points with its p-value; a dash if the two did not answer the same episodes."""
    compared = answers.compare(record, reference) if record and reference else None
    if compared is None:
        return MISSING
    p_value, over = compared.test
    mark = "" if over == "classes" else ", e"
    return f"{100 * compared.difference:+.1f} (p {p_value:.3f}{mark})"


def _weight(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
