"""Explain accuracies by classes, confusions and single queries, for the page."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pandas as pd

from results.page.charts import Chart
from results.page.panels import Panel
from results.page.scales import categories
from results.records.explanations import ExplanationRecord, read_explanations
from results.records.outcomes import Outcomes
from results.records.weights import Weights
from results.tables.cells import footnotes
from results.tables.details import class_table, confusion_rates, confusion_table, outcomes_of
from results.tables.evaluated import Evaluated

MOST_METHODS, MOST_OF_MANY_CLASSES = 4, 2
"""Numbers of methods whose confusions are drawn, the most accurate ones; the table of classes has all."""
MANY_CLASSES, MOST_CLASSES = 12, 60
MOST_EXAMPLES = 3
"""Number of right queries, and of wrong ones, for each run."""


def class_cells(evaluations: pd.DataFrame | Evaluated) -> list[dict[str, Any]]:
    """Return accuracy by class and confusions of the best methods, for each data set at its smallest shot."""
    evaluated = Evaluated.of(evaluations)
    cells, series = evaluated.latest, evaluated.series
    by_dataset = []
    for (dataset, partition), group in cells.groupby(["dataset", "partition"], sort=True):
        smallest = group[group["shot"] == group["shot"].min()].sort_values("accuracy", ascending=False)
        by_path = dict(zip(smallest["path"], series[smallest.index], strict=True))
        named = [
            (str(by_path[record["path"]]), outcomes) for record, outcomes in outcomes_of(smallest, evaluated.answers)
        ]
        same = [pair for pair in named if pair[1].questions.class_names == named[0][1].questions.class_names]
        if not same:
            continue
        n_drawn = MOST_METHODS if len(same[0][1].questions.class_names) <= MANY_CLASSES else MOST_OF_MANY_CLASSES
        table = class_table(same)
        table.attrs["footnotes"] = footnotes(smallest)
        by_dataset.append(
            {
                "name": f"{dataset} {partition}, {smallest['shot'].iloc[0]}-shot",
                "classes": table,
                "confusions": [
                    (name, confusion_chart(outcomes, name), confusion_table(outcomes))
                    for name, outcomes in same[:n_drawn]
                ],
            }
        )
    return by_dataset


def confusion_chart(outcomes: Outcomes, name: str) -> Chart | None:
    """Draw a confusion matrix, with the hardest class first; None with too many classes.

    Rows are a query's class, columns the predicted class. Right answers and mistakes have a colour each. A mistake is
    stronger the more often it was made where it was possible, with both classes in the episode.
    """
    names = outcomes.questions.class_names
    if len(names) > MOST_CLASSES:
        return None
    rates, right = confusion_rates(outcomes), outcomes.by_class()
    order = np.argsort(np.where(np.isnan(right), 2, right), kind="stable")
    ordered = [names[index] for index in order]
    side = max(15, min(34, 560 // len(names)))
    below = min(104, 24 + int(4.3 * max(map(len, names))))  # room for names at an angle
    panel = Panel(
        categories(ordered), categories(ordered), f"Confusions of {name}: the hardest class is {ordered[0]} with "
        f"{100 * right[order[0]]:.0f}% right; the most frequent mistakes are in the table of pairs",
        width=150 + side * len(names), height=6 + below + side * len(names), margins=(140, 6, 10, below),
        y_first=True, has_grid=False,
    )  # fmt: skip
    mistakes = rates.copy()
    np.fill_diagonal(mistakes, 0)
    most = max(float(mistakes.max()), 0.3)  # keeps rare mistakes faint
    for row, actual in enumerate(order):
        for column, answer in enumerate(order):
            rate = float(rates[actual, answer])
            is_right = actual == answer
            strength = rate if is_right else rate / most
            tip = f"{names[actual]} taken for {names[answer]}: {100 * rate:.1f}%"
            corners = (column - 0.46, row - 0.46), (column + 0.46, row + 0.46)
            panel.box(*corners, "right" if is_right else "wrong", opacity=0.04 + 0.9 * strength, tip=tip)
            if side >= 24 and rate >= 0.005:
                kind = "cell strong" if strength > 0.6 else "cell"
                panel.text((column, row), f"{100 * rate:.0f}", anchor="middle", classes=kind)
    notes = [
        "Rows: the query's class, hardest first. Columns: the predicted class. Blue: right; orange: mistakes, in "
        "percent of the queries in episodes with both classes."
    ]
    return Chart(f"Confusions: {name}", [panel], notes=notes)


def examples(run_dir: str) -> list[dict[str, Any]]:
    """Return the explanations that `hcl explain` left in a run's folder, some right and some wrong, with pictures."""
    explanations, weights, chosen = read_explanations(run_dir), Weights(), []
    for is_right in (True, False):
        chosen += [pair for pair in explanations if pair[0].is_right == is_right][-MOST_EXAMPLES:]
    return [
        {
            "query": record.query,
            "taken_for": record.taken_for,
            "is_right": record.is_right,
            "is_stale": weights.is_stale(run_dir, "best.pt", record.checkpoint_digest),
            "scores": list(record.scores.items()),
            "support": record.support,
            "about": _about(record),
            "command": record.command,
            "picture": "data:image/webp;base64," + base64.b64encode(picture).decode(),
        }
        for record, picture in chosen
    ]


def _about(record: ExplanationRecord) -> str:
    """Return a description of the picture."""
    rival = next((name for name in record.scores if name != record.class_name), "another class")
    return (
        f"Frames of the query {record.query} above frames of support clips of its own class, {record.class_name}, and "
        f"below it of {rival}: outlined patches and lines between frames show the matches."
    )
