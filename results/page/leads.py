"""Who leads, by how much, and how sure that is: each cell's best method beside the others, on the same episodes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd

from results.tables.accuracy import CELL, MISSING
from results.tables.cells import marks
from results.tables.evaluated import Answers, Evaluated


class Behind(NamedTuple):
    """How far a method lies behind the best of its cell, as shares.

    Attributes:
        episodes, classes: half widths of the difference's intervals; None where the answers are not kept, the
            episodes differ, or the classes are too few.
        p_value: over classes.
    """

    name: str
    accuracy: float
    difference: float
    episodes: float | None = None
    classes: float | None = None
    p_value: float | None = None

    @property
    def is_told_apart(self) -> bool | None:
        """Tells whether the interval over classes leaves out zero; None where there is none."""
        return None if self.classes is None else abs(self.difference) > self.classes


class Lead(NamedTuple):
    """The best of a cell and the others, next best first. `cell`: the columns `CELL`; `best`: its record."""

    cell: dict[str, Any]
    name: str
    best: dict[str, Any]
    others: list[Behind]


def leads(evaluations: pd.DataFrame | Evaluated) -> list[Lead]:
    """Return one lead a cell. A method with a sign (`results.tables.cells`) leads only where all have one."""
    evaluated = Evaluated.of(evaluations)
    cells, series = evaluated.latest, evaluated.series
    found = []
    for values, group in cells.groupby(CELL, sort=True):
        rows = group.assign(series=series[group.index]).sort_values("accuracy", ascending=False).to_dict("records")
        plain = [row for row in rows if not marks({**row, "evaluation_protocol": None})] or rows
        best = plain[0]
        others = [_behind(row, best, evaluated.answers) for row in plain[1:]]
        found.append(
            Lead(
                dict(zip(CELL, values, strict=True)),
                best["series"],
                {str(name): value for name, value in best.items()},
                others,
            )
        )
    return found


def leads_table(found: list[Lead]) -> pd.DataFrame:
    """Make a table of one row a method that is not the best of its cell, in points."""
    rows = []
    for lead in found:
        about = {"data set": f"{lead.cell['dataset']} {lead.cell['partition']}", "shots": lead.cell["shot"]}
        for one in lead.others:
            row = {**about, "best": lead.name, "other": one.name, "behind by": f"{100 * one.difference:.1f}"}
            row |= {"± episodes": _points(one.episodes), "± classes": _points(one.classes)}
            rows.append(row | {"p (classes)": MISSING if one.p_value is None else f"{one.p_value:.3f}"})
    columns = ["data set", "shots", "best", "other", "behind by", "± episodes", "± classes", "p (classes)"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["caption"] = (
        "Every method behind the best of its cell, in points, paired by episode, with 95% intervals of the difference: "
        "over episodes (of these classes and videos) and over classes (for claims about other actions)."
    )
    return table


def _behind(row: dict[Any, Any], best: dict[Any, Any], answers: Answers) -> Behind:
    plain = Behind(row["series"], row["accuracy"], best["accuracy"] - row["accuracy"])
    found = answers.compare(best, row)
    if found is None:
        return plain
    half = found.episodes.ci95
    return plain._replace(
        difference=found.a - found.b,
        episodes=None if math.isnan(half) else half,
        classes=found.half_width,
        p_value=found.p_value,
    )


def _points(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f}"
