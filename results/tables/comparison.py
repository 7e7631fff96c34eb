"""Compare two methods on the same episodes: their differences, with intervals and p-values."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from results.errors import RecordError
from results.records.outcomes import Outcomes, read_outcomes
from results.statistics.episodes import PairedDifference, paired_difference
from results.statistics.resampling import Floats, Ints, class_values, over_classes
from results.tables.cells import CELL, MARKED, MISSING, footnotes


class Comparison:
    """The difference a - b of two methods on the same episodes; each test is made when it is first asked for.

    Attributes:
        episodes: interval and sign-flip test over episodes, for other episodes of the same classes and videos.
        half_width, p_value: over classes, by bootstrap and by sign flips of the classes' values, for other classes with
            their videos. None if the partition has too few classes.
    """

    def __init__(self, a: Floats, b: Floats, classes: Ints):
        self._a, self._b, self._classes = a, b, classes
        self.a, self.b = float(a.mean()), float(b.mean())

    @property
    def difference(self) -> float:
        """The mean over episodes."""
        return float((self._a - self._b).mean())

    @cached_property
    def episodes(self) -> PairedDifference:
        """Interval and sign-flip test over episodes: for other episodes of the same classes and videos."""
        return paired_difference(self._a, self._b)

    @cached_property
    def half_width(self) -> float | None:
        """Over classes, by bootstrap: for other classes and their videos; None where there are too few classes."""
        interval = over_classes(self._a - self._b, self._classes)
        return None if interval is None else interval.half_width

    @cached_property
    def p_value(self) -> float | None:
        """Over classes, by sign flips of the classes' values; None where there are too few classes.

        The values of classes are tested, not of episodes: those that share a class are one piece of evidence.
        """
        values = class_values(self._a - self._b, self._classes)
        return None if values is None else paired_difference(values, np.zeros(len(values))).p_value

    @property
    def test(self) -> tuple[float, str]:
        """The two-sided p-value, over classes or else over episodes, and which of the two."""
        return (self.episodes.p_value, "episodes") if self.p_value is None else (self.p_value, "classes")


def compare_outcomes(a: Outcomes, b: Outcomes) -> Comparison:
    """Compare two methods' answers, paired by episode. Raises RecordError if the episodes differ."""
    if a.questions.digest != b.questions.digest:
        raise RecordError(
            f"the methods answered other episodes: {a.questions.digest} and {b.questions.digest}", remedy=_SAME
        )
    return Comparison(a.accuracies, b.accuracies, a.questions.classes)


def comparison_table(first: pd.DataFrame, second: pd.DataFrame, *, names: tuple[str, str]) -> pd.DataFrame:
    """Return a row for each common data set and shot: accuracies in percent, difference, intervals, p-values.

    Args:
        first, second: evaluation records of one method each, with their `path`.
        names: names of the columns of accuracies.

    Raises:
        RecordError: if there is nothing in common, episodes differ, or records have no answers.
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
    rows = []
    for cell in pairs.to_dict("records"):
        comparison = compare_outcomes(*(_outcomes(cell, side) for side in ("a", "b")))
        rows.append(_about(cell) | _row(comparison, names))
    table = pd.DataFrame(rows)
    table.attrs["footnotes"] = footnotes(pd.concat(latest))
    if len(set(pairs["partition"])) == 1:
        table = table.drop(columns="partition")
    table.attrs["caption"] = (
        "Accuracy in percent; difference in points with 95% intervals and two-sided p-values: over episodes (other "
        "episodes of the same classes and videos) and over classes (other classes with their videos)."
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


def _row(comparison: Comparison, names: tuple[str, str]) -> dict[str, Any]:
    over_episodes = comparison.episodes
    return {
        names[0]: f"{100 * comparison.a:.1f}",
        names[1]: f"{100 * comparison.b:.1f}",
        "difference": f"{100 * over_episodes.mean:+.2f}",
        "± episodes": MISSING if math.isnan(over_episodes.ci95) else f"{100 * over_episodes.ci95:.2f}",
        "p": _p(over_episodes.p_value),
        "± classes": MISSING if comparison.half_width is None else f"{100 * comparison.half_width:.2f}",
        "p (classes)": MISSING if comparison.p_value is None else _p(comparison.p_value),
    }


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.001 else "< 0.001"


_SAME = "evaluate both with the same way, queries, episodes and seed on the same split"
_HEADINGS = {"dataset": "data set"}
