"""Check whether a result is reproduced: its recorded origin against the present state, its figures against new ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from results.errors import RecordError
from results.records.codec import plain
from results.records.outcomes import read_outcomes
from results.records.provenance import code_state, versions_of
from results.records.records import EvaluationRecord
from results.tables.cells import MISSING

SAME, DIFFERS, UNTOLD, UNRECORDED = "same", "DIFFERS", "unknown here", "not recorded"


class Check(NamedTuple):
    """Hold one dependency of a result, as recorded and as it is here; texts are empty if unknown."""

    what: str
    recorded: str
    here: str
    why: str = ""  # why it is unknown here

    @property
    def verdict(self) -> str:
        if not self.recorded or not self.here:
            return UNTOLD if self.recorded else UNRECORDED
        return SAME if self.recorded == self.here else DIFFERS


class Repeated(NamedTuple):
    """Hold a record, the new one of its reproduction, and the files of both."""

    old: EvaluationRecord
    new: EvaluationRecord
    old_file: Path
    new_file: Path

    @property
    def points(self) -> float:
        """Return the difference of the accuracies in points."""
        return 100 * abs(self.new.accuracy - self.old.accuracy)

    def share_alike(self) -> float | None:
        """Return the share of queries with the same answer; None if answers are missing or the episodes differ."""
        try:
            old = read_outcomes(self.old_file, self.old.episodes_digest, self.old.accuracy)
            new = read_outcomes(self.new_file, self.new.episodes_digest, self.new.accuracy)
        except RecordError:
            return None
        if old is None or new is None or self.old.episodes_digest != self.new.episodes_digest:
            return None
        return float((old.answers == new.answers).mean())


def code_checks(what: str, revision: str | None, dirty: bool | None, versions: Mapping[str, str]) -> list[Check]:
    """Check the recorded code and packages against those that run now; equal packages share a row.

    Args:
        what: the step that they ran, such as "training".
    """
    state = code_state()
    present = versions_of(tuple(versions))
    why = f"{state.why} -> {state.remedy}" if state.remedy else state.why
    recorded, here = _state(revision, dirty), _state(state.revision, state.dirty)
    if dirty is None or state.dirty is None:  # for the same commit it is unknown whether files were changed
        here = "" if revision == state.revision else here
        why = why or "it was not recorded whether files were changed"
    checks = [Check(f"{what}: revision", recorded, here, why)]
    packages = [Check(f"{what}: {name}", version, present.get(name, "absent")) for name, version in versions.items()]
    alike = [check for check in packages if check.verdict == SAME]
    if alike:
        checks.append(Check(f"{what}: packages", f"{len(alike)} versions", f"{len(alike)} versions"))
    return [*checks, *(check for check in packages if check.verdict != SAME)]


def checks_table(checks: Sequence[Check]) -> pd.DataFrame:
    """Return one row for each check."""
    rows = [
        {
            "what": check.what,
            "recorded": check.recorded or MISSING,
            "here": check.here or check.why or MISSING,
            "": check.verdict,
        }
        for check in checks
    ]
    return pd.DataFrame(rows, columns=["what", "recorded", "here", ""])


def figures_table(pairs: Sequence[Repeated], tolerance: float) -> pd.DataFrame:
    """Return a row for each record: both accuracies, their difference, and the share of equal answers.

    Args:
        tolerance: points of accuracy by which the two may differ.
    """
    rows, records = [], []
    for pair in pairs:
        alike = pair.share_alike()
        cell = {name: getattr(pair.old, name) for name in ("method", "dataset", "partition", "way", "shot")}
        accuracies = {"recorded": pair.old.accuracy, "reproduced": pair.new.accuracy, "equal_answers": alike}
        records.append({**cell, **accuracies, "agrees": pair.points <= tolerance})
        rows.append(
            {
                "method": pair.old.method,
                "data set": f"{pair.old.dataset} {pair.old.partition}",
                "shot": pair.old.shot,
                "recorded": f"{100 * pair.old.accuracy:.2f}",
                "reproduced": f"{100 * pair.new.accuracy:.2f}",
                "points": f"{pair.points:.2f}",
                "equal answers": MISSING if alike is None else f"{100 * alike:.2f}%",
                "": SAME if pair.points <= tolerance else DIFFERS,
            }
        )
    table = pd.DataFrame(rows)
    table.attrs["records"] = records
    table.attrs["caption"] = f"Accuracies in percent; they may differ by {tolerance:g} points."
    return table


def epochs_table(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], tolerance: float) -> pd.DataFrame:
    """Return a row for each recorded epoch: accuracy on val and total loss, as recorded and reproduced.

    Only the accuracies are judged, because sums in another order change a loss in its last digits.
    """
    new_by_epoch = {row["epoch"]: row for row in new}
    rows, records = [], []
    for row in old:
        other = new_by_epoch.get(row["epoch"], {})
        points = 100 * abs(_number(row, "val_accuracy") - _number(other, "val_accuracy"))
        numbers = {
            f"{name}_{which}": _number(of, name)
            for name in ("val_accuracy", "loss_total")
            for which, of in (("recorded", row), ("reproduced", other))
        }
        records.append(plain({"epoch": row["epoch"], **numbers, "agrees": points <= tolerance}))
        rows.append(
            {
                "epoch": row["epoch"],
                "val recorded": _percent(_number(row, "val_accuracy")),
                "val reproduced": _percent(_number(other, "val_accuracy")),
                "loss recorded": f"{_number(row, 'loss_total'):.5g}",
                "loss reproduced": f"{_number(other, 'loss_total'):.5g}",
                "": SAME if points <= tolerance else DIFFERS,  # NaN, for a missing epoch, differs
            }
        )
    table = pd.DataFrame(rows)
    table.attrs["records"] = records
    table.attrs["caption"] = f"Accuracies on val in percent; they may differ by {tolerance:g} points."
    return table


def agrees(table: pd.DataFrame) -> bool:
    """Return whether no row in a table of figures differs."""
    return "" not in table or not (table[""] == DIFFERS).any()


def _state(revision: str | None, dirty: bool | None) -> str:
    return "" if revision is None else revision[:12] + (" with changes" if dirty else "")


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    return math.nan if value is None else float(value)


def _percent(value: float) -> str:
    return MISSING if math.isnan(value) else f"{100 * value:.2f}"
