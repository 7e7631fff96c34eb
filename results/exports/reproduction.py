"""Is a result what it was? What it was made with against what is here, and its figures against new ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from results.errors import RecordError
from results.records.outcomes import read_outcomes
from results.records.provenance import code_state, versions_of
from results.records.records import EvaluationRecord
from results.tables.cells import MISSING

SAME, DIFFERS, UNTOLD, UNRECORDED = "same", "DIFFERS", "not told", "not recorded"


class Check(NamedTuple):
    """One thing that a result depends on, as recorded and as it is here; empty texts where it is not known."""

    what: str
    recorded: str
    here: str
    why: str = ""  # nothing is told here

    @property
    def verdict(self) -> str:
        if not self.recorded or not self.here:
            return UNTOLD if self.recorded else UNRECORDED
        return SAME if self.recorded == self.here else DIFFERS


class Repeated(NamedTuple):
    """A record, the one that was made again, and where each lies."""

    old: EvaluationRecord
    new: EvaluationRecord
    old_file: Path
    new_file: Path

    @property
    def points(self) -> float:
        """By how much the accuracies differ."""
        return 100 * abs(self.new.accuracy - self.old.accuracy)

    def share_alike(self) -> float | None:
        """Of the queries, how many got the same answer; None where answers are missing or the episodes differ."""
        try:
            old = read_outcomes(self.old_file, self.old.episodes_digest, self.old.accuracy)
            new = read_outcomes(self.new_file, self.new.episodes_digest, self.new.accuracy)
        except RecordError:
            return None
        if old is None or new is None or self.old.episodes_digest != self.new.episodes_digest:
            return None
        return float((old.answers == new.answers).mean())


def code_checks(what: str, revision: str | None, dirty: bool | None, versions: Mapping[str, str]) -> list[Check]:
    """Of the code and the packages that made something, against those that run now; packages that are alike are one.

    Args:
        what: what they made, such as "training".
    """
    state = code_state()
    found = versions_of(tuple(versions))
    why = f"{state.why} -> {state.remedy}" if state.remedy else state.why
    recorded, here = _state(revision, dirty), _state(state.revision, state.dirty)
    if dirty is None or state.dirty is None:  # of the same commit it is open whether files were changed
        here = "" if revision == state.revision else here
        why = why or "it was not recorded whether files were changed"
    checks = [Check(f"{what}: revision", recorded, here, why)]
    packages = [Check(f"{what}: {name}", version, found.get(name, "absent")) for name, version in versions.items()]
    alike = [one for one in packages if one.verdict == SAME]
    if alike:
        checks.append(Check(f"{what}: packages", f"{len(alike)} versions", f"{len(alike)} versions"))
    return [*checks, *(one for one in packages if one.verdict != SAME)]


def checks_table(checks: Sequence[Check]) -> pd.DataFrame:
    """One row a check."""
    rows = [
        {"what": one.what, "recorded": one.recorded or MISSING, "here": one.here or one.why or MISSING, "": one.verdict}
        for one in checks
    ]
    return pd.DataFrame(rows, columns=["what", "recorded", "here", ""])


def figures_table(pairs: Sequence[Repeated], tolerance: float) -> pd.DataFrame:
    """One row a record: both accuracies, their difference, and the share of queries answered alike.

    Args:
        tolerance: points of accuracy that the two may differ by.
    """
    rows = []
    for pair in pairs:
        alike = pair.share_alike()
        rows.append(
            {
                "method": pair.old.method,
                "data set": f"{pair.old.dataset} {pair.old.partition}",
                "shot": pair.old.shot,
                "recorded": f"{100 * pair.old.accuracy:.2f}",
                "again": f"{100 * pair.new.accuracy:.2f}",
                "points": f"{pair.points:.2f}",
                "answered alike": MISSING if alike is None else f"{100 * alike:.2f}%",
                "": SAME if pair.points <= tolerance else DIFFERS,
            }
        )
    table = pd.DataFrame(rows)
    table.attrs["caption"] = f"Accuracies in percent; they may differ by {tolerance:g} points."
    return table


def epochs_table(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], tolerance: float) -> pd.DataFrame:
    """One row an epoch that was recorded: accuracy on val and total loss, as recorded and again.

    Only the accuracies are judged: sums in another order move a loss in its last digits.
    """
    again = {row["epoch"]: row for row in new}
    rows = []
    for row in old:
        other = again.get(row["epoch"], {})
        points = 100 * abs(_number(row, "val_accuracy") - _number(other, "val_accuracy"))
        rows.append(
            {
                "epoch": row["epoch"],
                "val recorded": _percent(_number(row, "val_accuracy")),
                "val again": _percent(_number(other, "val_accuracy")),
                "loss recorded": f"{_number(row, 'loss_total'):.5g}",
                "loss again": f"{_number(other, 'loss_total'):.5g}",
                "": SAME if points <= tolerance else DIFFERS,  # NaN, of an epoch that is missing, is not within
            }
        )
    table = pd.DataFrame(rows)
    table.attrs["caption"] = f"Accuracies on val in percent; they may differ by {tolerance:g} points."
    return table


def agrees(table: pd.DataFrame) -> bool:
    """Whether nothing in a table of figures differs."""
    return "" not in table or not (table[""] == DIFFERS).any()


def _state(revision: str | None, dirty: bool | None) -> str:
    return "" if revision is None else revision[:12] + (" with changes" if dirty else "")


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    return math.nan if value is None else float(value)


def _percent(value: float) -> str:
    return MISSING if math.isnan(value) else f"{100 * value:.2f}"
