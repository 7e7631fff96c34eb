"""Find each cell's best method and its lead over the others on the same episodes, with the verdict on each lead."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from results.statistics.significance import RULE, Difference, Verdict
from results.tables.best import judged_cell
from results.tables.cells import CELL, MARKED, marks, p_text, points
from results.tables.comparison import half_widths
from results.tables.evaluated import Evaluated


class Behind(NamedTuple):
    """Hold how far a method is behind the best of its cell.

    Attributes:
        verdict: on the difference; it has no test if answers are not kept, the episodes or the marks differ, or the
            result is stale.
        episodes: half width of the difference's interval over episodes; None without a test.
    """

    name: str
    accuracy: float
    verdict: Verdict
    episodes: float | None = None


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
        best, others = plain[0], []
        alike = [row for row in plain if all(row[name] == best[name] for name in MARKED)]
        _, verdicts = judged_cell(alike, evaluated.answers)
        for row in plain[1:]:
            verdict = verdicts.get(row["path"], Verdict(Difference(best["accuracy"] - row["accuracy"]), None))
            compared = evaluated.answers.compare(best, row) if verdict.p_value is not None else None
            others.append(Behind(row["series"], row["accuracy"], verdict, compared.ci95 if compared else None))
        all_leads.append(
            Lead(
                dict(zip(CELL, values, strict=True)),
                best["series"],
                {str(name): value for name, value in best.items()},
                others,
            )
        )
    return all_leads


def against(behind: Behind) -> dict[str, str]:
    """Return the sentence of a tile about the next method: its name, with the texts before and after it.

    Only a significant lead is called one.
    """
    verdict = behind.verdict
    difference = verdict.difference
    if verdict.p_value is None:
        texts = ("next:", f" with {100 * behind.accuracy:.1f}%", "(significance unknown)")
        return dict(zip(("before", "after", "figures"), texts, strict=True)) | {"name": behind.name}
    figures = f"({points(difference.mean)} ± {points(difference.half_width)}, p {p_text(verdict.p_value)})"
    before = f"{points(difference.mean)} points ahead of" if verdict.is_significant else f"{verdict.words} to"
    after = f": {verdict.words}" if verdict.is_significant else ""
    return {"before": before, "name": behind.name, "after": after, "figures": figures}


def leads_table(all_leads: list[Lead]) -> pd.DataFrame:
    """Return a row for each method that is not the best of its cell, in points."""
    rows = []
    for lead in all_leads:
        about = {"data set": f"{lead.cell['dataset']} {lead.cell['partition']}", "shots": lead.cell["shot"]}
        for behind in lead.others:
            difference = behind.verdict.difference
            row = {**about, "best": lead.name, "other": behind.name, "behind by": points(difference.mean)}
            row |= {"± episodes": points(behind.episodes), **half_widths(difference)}
            rows.append(row | {"p": p_text(behind.verdict.p_value), "verdict": behind.verdict.words})
    columns = ["data set", "shots", "best", "other", "behind by", "± episodes", "± classes", "± videos"]
    columns += ["p", "verdict"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["caption"] = (
        "Difference of every method to the best of its cell, in points, paired by episode, with 95% intervals: over "
        "episodes (of these classes and videos; no basis for a claim) and over classes or, where that does not exist, "
        f"over videos. The verdict is that of the paired t-test over classes or videos, {RULE} for the methods of a "
        "cell. The intervals are not corrected."
    )
    return table
