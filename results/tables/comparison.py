"""Compare two methods on the same episodes: their differences, with intervals and the verdict on each."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from results.errors import RecordError
from results.records.codec import plain
from results.records.outcomes import Outcomes, read_outcomes
from results.statistics.episodes import mean_and_ci95
from results.statistics.significance import RULE, Difference, judged, paired_t_test
from results.tables.cells import CELL, MARKED, footnotes, p_text, points


class Comparison:
    """Hold the difference a - b of two methods on the same episodes; each statistic is computed on first use.

    Raises:
        RecordError: if the two answered different episodes.
    """

    def __init__(self, a: Outcomes, b: Outcomes):
        if a.questions.digest != b.questions.digest:
            raise RecordError(
                f"the methods answered other episodes: {a.questions.digest} and {b.questions.digest}", remedy=_SAME
            )
        self._questions = a.questions
        self._differences = a.right.astype(np.float64) - b.right

    @cached_property
    def ci95(self) -> float:
        """The half width of the 95% interval over episodes of the same classes and videos; NaN for one episode."""
        return mean_and_ci95(self._differences.mean(axis=(1, 2))).ci95

    @cached_property
    def difference(self) -> Difference:
        """The mean difference, with its test over classes or else over videos."""
        questions = self._questions
        return paired_t_test(self._differences, questions.classes, questions.support, questions.query)


def comparison_table(first: pd.DataFrame, second: pd.DataFrame, *, names: tuple[str, str]) -> pd.DataFrame:
    """Return a row for each common data set and shot: accuracies in percent, difference, intervals, p-value, verdict.

    Args:
        first, second: evaluation records of one method each, with their `path`.
        names: names of the columns of accuracies.

    Raises:
        RecordError: if there is nothing in common, episodes differ, or records have no answers.

    `attrs["records"]` holds the rows with unrounded values, shares from 0 to 1.
    """
    latest = [
        frame.sort_values("created", kind="stable").drop_duplicates(CELL, keep="last") for frame in (first, second)
    ]
    pairs = latest[0].merge(latest[1], on=CELL, suffixes=("_a", "_b")).sort_values(CELL)
    if pairs.empty:
        raise RecordError(
            "no data set and shot that both were evaluated on",
            remedy="evaluate both on the same data sets and shots: hcl evaluate",
        )
    _check_digests(pairs)
    rows, records = [], []
    for cell in pairs.to_dict("records"):
        comparison = Comparison(*(_outcomes(cell, side) for side in ("a", "b")))
        records.append(_record(cell, comparison))
        accuracies = {name: f"{100 * cell[f'accuracy_{side}']:.1f}" for name, side in zip(names, "ab", strict=True)}
        rows.append(_about(cell) | accuracies | _row(comparison))
    table = pd.DataFrame(rows)
    table.attrs["footnotes"] = footnotes(pd.concat(latest))
    if len(set(pairs["partition"])) == 1:
        table = table.drop(columns="partition")
    table.attrs["records"] = records
    table.attrs["caption"] = (
        "Accuracy in percent; difference in points with 95% intervals: over episodes (other episodes of the same "
        "classes and videos; no basis for a claim) and over classes (other classes with their videos) or, where every "
        "episode holds all classes, over videos (other videos of these classes). The p-value and the verdict are those "
        f"of the paired t-test over classes or videos ({RULE}, which changes nothing for the one comparison of a row)."
    )
    return table


def _check_digests(pairs: pd.DataFrame) -> None:
    wrong = pairs[(pairs["episodes_digest_a"] != pairs["episodes_digest_b"]) | (pairs["episodes_digest_a"] == "")]
    for cell in wrong.to_dict("records"):
        raise RecordError(
            f"the episodes differ: {cell['episodes_digest_a'] or 'no digest'} in {cell['path_a']}, "
            f"{cell['episodes_digest_b'] or 'no digest'} in {cell['path_b']}",
            where=f"{cell['dataset']} {cell['partition']}, {cell['shot']}-shot",
            remedy=_SAME,
        )


def _outcomes(cell: dict[Any, Any], side: str) -> Outcomes:
    path = Path(cell[f"path_{side}"])
    outcomes = read_outcomes(path, cell[f"episodes_digest_{side}"], cell[f"accuracy_{side}"])
    if outcomes is None:
        raise RecordError(
            "has no answers beside it", where=str(path), remedy="evaluate again, because older versions kept none"
        )
    return outcomes


def _about(cell: dict[Any, Any]) -> dict[str, Any]:
    """Return the data set with the signs of both sides, partition, way and shot."""
    both = {name: {cell.get(name), cell.get(f"{name}_a"), cell.get(f"{name}_b")} for name in MARKED}
    signs = "".join(mark.sign for name, mark in MARKED.items() if mark.value in both[name])
    shown = {_HEADINGS.get(name, name): cell[name] for name in CELL if name not in MARKED}
    return shown | {"data set": f"{cell['dataset']} {signs}".rstrip()}


def _record(cell: dict[Any, Any], comparison: Comparison) -> dict[str, Any]:
    """Return a row of the table with unrounded values: accuracies, difference and half widths from 0 to 1."""
    difference = comparison.difference
    [verdict] = judged([difference])
    sides = {f"{name}_{side}": cell[f"{name}_{side}"] for side in "ab" for name in ("run", "method", "accuracy")}
    return {name: cell[name] for name in CELL} | plain(
        {
            **sides,
            "difference": difference.mean,
            "ci95": comparison.ci95,
            **{
                f"ci95_{over}": difference.half_width if difference.over == over else None
                for over in ("classes", "videos")
            },
            "p_value": verdict.p_value,
            "verdict": verdict.words,
        }
    )


def _row(comparison: Comparison) -> dict[str, Any]:
    difference = comparison.difference
    [verdict] = judged([difference])
    return {
        "difference": f"{100 * difference.mean:+.2f}",
        "± episodes": points(comparison.ci95, 2),
        **half_widths(difference, 2),
        "p": p_text(verdict.p_value),
        "verdict": verdict.words,
    }


def half_widths(difference: Difference, decimals: int = 1) -> dict[str, str]:
    """Return the columns of the interval over classes and of that over videos, of which a difference has one."""
    return {
        f"± {over}": points(difference.half_width if difference.over == over else None, decimals)
        for over in ("classes", "videos")
    }


_SAME = "evaluate both with the same way, queries, episodes and seed on the same split"
_HEADINGS = {"dataset": "data set"}
