"""Show details behind the mean: accuracy by class, confusions, and the spread over training runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from results.errors import RecordError
from results.records.codec import plain
from results.records.outcomes import Outcomes
from results.tables.cells import CELL, MARKED, MISSING, footnotes, marked
from results.tables.evaluated import Answers


def outcomes_of(evaluations: pd.DataFrame, answers: Answers | None = None) -> list[tuple[dict[Any, Any], Outcomes]]:
    """Return the records of a frame whose answers can be read, with them.

    Args:
        answers: of the report; default: they are read.
    """
    answers = answers or Answers()
    pairs = [(record, answers.of(record)) for record in evaluations.to_dict("records")]
    return [(record, outcomes) for record, outcomes in pairs if outcomes is not None]


def class_table(named: Sequence[tuple[str, Outcomes]]) -> pd.DataFrame:
    """Return a row for each class, hardest first by the first method, and a column of percents for each method.

    Args:
        named: methods with their answers, all on the same partition.
    """
    columns = {name: outcomes.by_class() for name, outcomes in named}
    first = named[0][1]
    order = np.argsort(columns[named[0][0]], kind="stable")
    table = pd.DataFrame({"class": [first.questions.class_names[index] for index in order]})
    for name, shares in columns.items():
        table[name] = [MISSING if np.isnan(shares[index]) else f"{100 * shares[index]:.1f}" for index in order]
    table.attrs["records"] = plain(
        [
            {"method": name, "class": first.questions.class_names[index], "accuracy": shares[index]}
            for name, shares in columns.items()
            for index in order
        ]
    )
    table.attrs["caption"] = "Share of each class's queries that were right, in percent."
    return table


def confusion_table(outcomes: Outcomes, n: int = 10) -> pd.DataFrame:
    """Return the pairs of classes that are confused most often, relative to the episodes that contain both."""
    rates = confusion_rates(outcomes)
    np.fill_diagonal(rates, 0)
    names = outcomes.questions.class_names
    worst = np.argsort(-rates, axis=None, kind="stable")[:n]
    records = [
        {"class": names[row], "taken for": names[column], "share": float(rates[row, column])}
        for row, column in zip(*np.unravel_index(worst, rates.shape), strict=True)
        if rates[row, column] > 0
    ]
    rows = [{**record, "percent": f"{100 * record['share']:.1f}"} for record in records]
    table = pd.DataFrame(rows, columns=["class", "taken for", "percent"])
    table.attrs["records"] = records
    table.attrs["caption"] = "Most frequent confusions, in percent of the queries in episodes with both classes."
    return table


def confusion_rates(outcomes: Outcomes) -> np.ndarray:
    """Return (class, class): of the row's queries in episodes with the column's class, the share predicted as that
    class."""
    counts, together = outcomes.confusion(), _together(outcomes)
    return np.divide(counts, together, out=np.zeros(counts.shape), where=together > 0)


def runs_table(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return each cell over several training runs: mean and standard deviation over the runs, in percent.

    The sample consists of the runs' mean accuracies, without regard to their own intervals.

    Raises:
        RecordError: if no cell has two runs.
    """
    keys = ["method", *dict.fromkeys([*CELL, *MARKED])]
    latest = evaluations.sort_values("created", kind="stable").drop_duplicates(["run", *keys], keep="last")
    rows, records = [], []
    for values, cells in latest.groupby(keys, sort=True):
        accuracies = cells["accuracy"].to_numpy(dtype=np.float64)
        row = dict(zip(keys, values, strict=True))
        row = {"method": marked(row)} | {name: row[name] for name in CELL if name not in MARKED}
        if len(accuracies) < 2:
            continue
        shares = {"mean": accuracies.mean(), "sd": accuracies.std(ddof=1)}
        shares |= {"lowest": accuracies.min(), "highest": accuracies.max()}
        row["runs"] = len(accuracies)
        records.append(plain(row | shares))
        rows.append(row | {name: f"{100 * share:.1f}" for name, share in shares.items()})
    if not rows:
        raise RecordError(
            "no method was evaluated in the same way in two runs", remedy="give runs that differ in their seed"
        )
    table = pd.DataFrame(rows).rename(columns={"dataset": "data set"})
    if table["partition"].nunique() == 1:
        table = table.drop(columns="partition")
    table.attrs["records"] = records
    table.attrs["caption"] = "Mean accuracy over training runs and its standard deviation over them, in percent."
    table.attrs["footnotes"] = footnotes(latest)
    return table


def _together(outcomes: Outcomes) -> np.ndarray:
    """Return (class, class): the number of the row's queries in episodes that also contain the column's class."""
    classes, n = outcomes.questions.classes, len(outcomes.questions.class_names)
    pairs = classes[:, :, None] * n + classes[:, None, :]
    return np.bincount(pairs.ravel(), minlength=n * n).reshape(n, n) * outcomes.answers.shape[2]
