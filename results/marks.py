"""Signs behind a method's name: what a reader has to know of a number before comparing it with others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

DAGGER, DOUBLE_DAGGER, SECTION, PARALLEL, LOZENGE = "†", "‡", "§", "‖", "◊"
FOOTNOTE = f"{DAGGER} published protocol: trained on train and val, checkpoint chosen on test; optimistic."
ASKED_AS_PUBLISHED = (
    f"{DOUBLE_DAGGER} asked as the printed results were: 3,000 episodes of random frames, which may share a clip "
    "between support and query and never draw the first class."
)
LEAK_FOOTNOTE = f"{SECTION} the matcher read the class names of the queries, as released: no few-shot result."
OVERLAP_FOOTNOTE = (
    f"{PARALLEL} support and queries drawn independently, as released: a query may be its own support; optimistic."
)
STALE_FOOTNOTE = f"{LOZENGE} made from weights that the run no longer has; repeat `hcl evaluate RUN`."


class Mark(NamedTuple):
    """A sign where a column has a value, and what it means."""

    value: object
    sign: str
    note: str


MARKED = {
    "protocol": Mark("published", DAGGER, FOOTNOTE),
    "evaluation_protocol": Mark("published", DOUBLE_DAGGER, ASKED_AS_PUBLISHED),
    "leaks_labels": Mark(True, SECTION, LEAK_FOOTNOTE),
    "overlapping": Mark(True, PARALLEL, OVERLAP_FOOTNOTE),
    "stale": Mark(True, LOZENGE, STALE_FOOTNOTE),
}
"""Columns that tell rows apart by a mark behind the method's name instead of by a column of their own."""


def marks(record: Mapping[Any, Any]) -> str:
    """Return the signs that a record's `MARKED` columns ask for; one that has just been made is not `stale`."""
    return "".join(mark.sign for name, mark in MARKED.items() if record.get(name) == mark.value)


def marked(record: Mapping[Any, Any]) -> str:
    """The method of a record with its signs."""
    return f"{record['method']} {marks(record)}".rstrip()


def footnotes(evaluations: pd.DataFrame) -> list[str]:
    """What the signs in a table of these records mean."""
    return [mark.note for name, mark in MARKED.items() if (evaluations[name] == mark.value).any()]
