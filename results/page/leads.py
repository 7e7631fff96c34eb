"""Find each cell's best method and its lead over the others, with intervals, on the same episodes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd

from results.tables.accuracy import CELL, MISSING
from results.tables.cells import marks
from results.tables.evaluated import Answers, Evaluated


class Behind(NamedTuple):
    """Hold how far a method is behind the best of its cell, as shares.

    Attributes:
        episodes, classes: half widths of the difference's intervals; None if answers are not kept, the episodes differ,
            or there are too few classes.
        p_value: p-value of the test over classes.
    """

    name: str
    accuracy: float
    difference: float
    episodes: float | None = None
    classes: float | None = None
    p_value: float | None = None

    @property
    def is_told_apart(self) -> bool | None:
        """Return whether the interval over classes excludes zero; None if there is none."""
        return None if self.classes is None else abs(self.difference) > self.classes


class Lead(NamedTuple):
    """Hold the best of a cell and the others, next best first. `cell`: the columns `CELL`; `best`: its record."""

    cell: dict[str, Any]
    name: str
    best: dict[str, Any]
    others: list[Behind]


def leads(evaluations: pd.DataFrame | Evaluated) -> list[Lead]:
    """Return the lead of each cell. A method with a sign (`results.tables.cells`) leads only if all have one."""
    evaluated = Evaluated.of(evaluations)
    cells, series = evaluated.latest, evaluated.series
    all_leads = []
    for values, group in cells.groupby(CELL, sort=True):
        rows = group.assign(series=series[group.index]).sort_values("accuracy", ascending=False).to_dict("records")
        plain = [row for row in rows if not marks({**row, "evaluation_protocol": None})] or rows
        best = plain[0]
        others = [_behind(row, best, evaluated.answers) for row in plain[1:]]
        all_leads.append(
            Lead(
                dict(zip(CELL, values, strict=True)),
                best["series"],
                {str(name): value for name, value in best.items()},
                others,
            )
        )
    return all_leads


def leads_table(all_leads: list[Lead]) -> pd.DataFrame:
    """Return a row for each method that is not the best of its cell, in points."""
    rows = []
    for lead in all_leads:
        about = {"data set": f"{lead.cell['dataset']} {lead.cell['partition']}", "shots": lead.cell["shot"]}
        for behind in lead.others:
            row = {**about, "best": lead.name, "other": behind.name, "behind by": f"{100 * behind.difference:.1f}"}
            row |= {"± episodes": _points(behind.episodes), "± classes": _points(behind.classes)}
            rows.append(row | {"p (classes)": MISSING if behind.p_value is None else f"{behind.p_value:.3f}"})
    columns = ["data set", "shots", "best", "other", "behind by", "± episodes", "± classes", "p (classes)"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["caption"] = (
        "Difference of every method to the best of its cell, in points, paired by episode, with 95% intervals: "
        "over episodes (of these classes and videos) and over classes (for claims about other actions)."
    )
    return table


def _behind(row: dict[Any, Any], best: dict[Any, Any], answers: Answers) -> Behind:
    plain = Behind(row["series"], row["accuracy"], best["accuracy"] - row["accuracy"])
    compared = answers.compare(best, row)
    if compared is None:
        return plain
    half = compared.episodes.ci95
    return plain._replace(
        difference=compared.a - compared.b,
        episodes=None if math.isnan(half) else half,
        classes=compared.half_width,
        p_value=compared.p_value,
    )


def _points(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f}"
