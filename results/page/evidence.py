"""Why an accuracy is what it is: classes, confusions, and single queries, as the page shows them."""

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
"""Whose confusions are drawn, the most accurate ones; the table of classes holds all."""
MANY_CLASSES, MOST_CLASSES = 12, 60
MOST_EXAMPLES = 3
"""Right ones, and wrong ones, of a run."""


def class_cells(evaluations: pd.DataFrame | Evaluated) -> list[dict[str, Any]]:
    """Return accuracy by class and confusions of the best methods, for each data set at its smallest shot."""
    evaluated = Evaluated.of(evaluations)
    cells, series = evaluated.latest, evaluated.series
    found = []
    for (dataset, partition), group in cells.groupby(["dataset", "partition"], sort=True):
        smallest = group[group["shot"] == group["shot"].min()].sort_values("accuracy", ascending=False)
        by_path = dict(zip(smallest["path"], series[smallest.index], strict=True))
        named = [
            (str(by_path[record["path"]]), outcomes) for record, outcomes in outcomes_of(smallest, evaluated.answers)
        ]
        same = [(name, one) for name, one in named if one.questions.class_names == named[0][1].questions.class_names]
        if not same:
            continue
        n_drawn = MOST_METHODS if len(same[0][1].questions.class_names) <= MANY_CLASSES else MOST_OF_MANY_CLASSES
        table = class_table(same)
        table.attrs["footnotes"] = footnotes(smallest)
        found.append(
            {
                "name": f"{dataset} {partition}, {smallest['shot'].iloc[0]}-shot",
                "classes": table,
                "confusions": [
                    (name, confusion_chart(one, name), confusion_table(one)) for name, one in same[:n_drawn]
                ],
            }
        )
    return found


def confusion_chart(outcomes: Outcomes, name: str) -> Chart | None:
    """Draw confusions, a query's class by what it was taken for, hardest class first; None with too many classes.

    Right answers and mistakes have a colour each; a mistake is the stronger, the more often it was made where it could
    be: when both classes were in the episode.
    """
    names = outcomes.questions.class_names
    if len(names) > MOST_CLASSES:
        return None
    rates, right = confusion_rates(outcomes), outcomes.by_class()
    order = np.argsort(np.where(np.isnan(right), 2, right), kind="stable")
    ordered = [names[index] for index in order]
    side = max(15, min(34, 560 // len(names)))
    below = min(104, 24 + int(4.3 * max(map(len, names))))  # names stand there at an angle
    panel = Panel(
        categories(ordered), categories(ordered), f"Confusions of {name}: the hardest class is {ordered[0]} with "
        f"{100 * right[order[0]]:.0f}% right; the table of pairs holds the most frequent mistakes",
        width=150 + side * len(names), height=6 + below + side * len(names), margins=(140, 6, 10, below),
        y_first=True, has_grid=False,
    )  # fmt: skip
    mistakes = rates.copy()
    np.fill_diagonal(mistakes, 0)
    most = max(float(mistakes.max()), 0.3)  # rare mistakes stay faint
    for row, asked in enumerate(order):
        for column, answer in enumerate(order):
            rate = float(rates[asked, answer])
            is_right = asked == answer
            strength = rate if is_right else rate / most
            said = f"{names[asked]} taken for {names[answer]}: {100 * rate:.1f}%"
            corners = (column - 0.46, row - 0.46), (column + 0.46, row + 0.46)
            panel.box(*corners, "right" if is_right else "wrong", opacity=0.04 + 0.9 * strength, tip=said)
            if side >= 24 and rate >= 0.005:
                kind = "cell strong" if strength > 0.6 else "cell"
                panel.text((column, row), f"{100 * rate:.0f}", anchor="middle", classes=kind)
    notes = [
        "Rows: the query's class, hardest first. Columns: what it was taken for. Blue: right; orange: mistakes, in "
        "percent of the queries that could be taken so, because both classes were in the episode."
    ]
    return Chart(f"Confusions: {name}", [panel], notes=notes)


def examples(run_dir: str) -> list[dict[str, Any]]:
    """Return explanations that `hcl explain` left in a run's folder: some right, some wrong, with inline pictures."""
    found, weights, chosen = read_explanations(run_dir), Weights(), []
    for is_right in (True, False):
        chosen += [one for one in found if one[0].is_right == is_right][-MOST_EXAMPLES:]
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
    """Describe the picture in words."""
    rival = next((name for name in record.scores if name != record.class_name), "another class")
    return (
        f"Frames of the query {record.query} above frames of support clips of its own class, {record.class_name}, and "
        f"below it of {rival}: outlined patches and lines between frames show what was matched."
    )
