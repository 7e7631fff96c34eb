"""Define the cell that an accuracy belongs to, and choose the records for the rows of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

if TYPE_CHECKING:
    import pandas as pd

DAGGER, DOUBLE_DAGGER, SECTION, PARALLEL, LOZENGE = "†", "‡", "§", "‖", "◊"
FOOTNOTE = f"{DAGGER} published protocol: trained on train and val, checkpoint chosen on test; optimistic."
ASKED_AS_PUBLISHED = (
    f"{DOUBLE_DAGGER} evaluated as the published results: 3,000 episodes of random frames, which may share a clip "
    "between support and query, and never draw the first class."
)
LEAK_FOOTNOTE = (
    f"{SECTION} the matcher read the class names of the queries, as released, so this is no few-shot result."
)
OVERLAP_FOOTNOTE = (
    f"{PARALLEL} support and queries are drawn independently, as released; a query may be its own support; optimistic."
)
STALE_FOOTNOTE = f"{LOZENGE} made from weights that the run no longer has; repeat `hcl evaluate RUN`."


class Mark(NamedTuple):
    """Hold a sign, the value of a column that it marks, and its meaning."""

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
"""Columns that distinguish rows by a mark behind the method's name instead of by a column of their own."""


def marks(record: Mapping[Any, Any]) -> str:
    """Return the signs for a record's `MARKED` columns; a record that was just made is not `stale`."""
    return "".join(mark.sign for name, mark in MARKED.items() if record.get(name) == mark.value)


def marked(record: Mapping[Any, Any]) -> str:
    """Return the method of a record with its signs."""
    return f"{record['method']} {marks(record)}".rstrip()


def footnotes(evaluations: pd.DataFrame) -> list[str]:
    """Return the meanings of the signs in a table of these records."""
    return [mark.note for name, mark in MARKED.items() if (evaluations[name] == mark.value).any()]


CELL = ["dataset", "partition", "way", "shot", "evaluation_protocol"]
"""The columns that define the cell of an accuracy; accuracies of the same cell can be compared between methods."""
MISSING = "–"


def row_keys(evaluations: pd.DataFrame) -> list[str]:
    """Return the columns that distinguish the table's rows: the usual ones, and others if two rows were equal."""
    keys = ["train_dataset", "dataset", "method", *MARKED]
    keys += [name for name in ("partition", "way") if evaluations[name].nunique() > 1]
    for name in ("run", "mode", "queries", "episodes", "seed", "metric", "checkpoint", "experiment_digest"):
        if not evaluations.duplicated([*keys, "shot"]).any():
            break
        if (evaluations.groupby([*keys, "shot"], dropna=False)[name].nunique(dropna=False) > 1).any():
            keys.append(name)
    return keys


def latest_cells(evaluations: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return one record for each cell: the latest of several with the same keys and shot."""
    return evaluations.sort_values("created", kind="stable").drop_duplicates([*keys, "shot"], keep="last")


def cell_text(accuracy: float | None, ci95: float | None = None, wider: WiderInterval | None = None) -> str:
    """Return an accuracy in percent with its intervals: `47.7 ± 0.9 (± 3.1)`, with a `v` for one over videos."""
    if not _is_known(accuracy):
        return MISSING
    parts = [f"{100 * accuracy:.1f}"]
    if _is_known(ci95):
        parts.append(f"± {100 * ci95:.1f}")
    if wider is not None:
        parts.append(f"(± {100 * wider.half_width:.1f}{' v' if wider.over == 'videos' else ''})")
    return " ".join(parts)


class WiderInterval(NamedTuple):
    """Hold the half width of a record's interval beyond its episodes, and what it is over: `classes` or `videos`."""

    half_width: float
    over: str


def wider_interval(record: Mapping[Any, Any]) -> WiderInterval | None:
    """Return a record's interval over classes or, where there is none, over videos; None if it has neither."""
    for over in ("classes", "videos"):
        if _is_known(half_width := record.get(f"ci95_{over}")):
            return WiderInterval(half_width, over)
    return None


def record_text(record: Mapping[Any, Any]) -> str:
    """Return the accuracy of a record with its intervals, as `cell_text` writes it."""
    return cell_text(record["accuracy"], record["ci95"], wider_interval(record))


def wider_intervals(evaluations: pd.DataFrame) -> list[str]:
    """Return the parts of a caption that explain the brackets of these records; empty if there are none."""
    over = {wider.over for record in evaluations.to_dict("records") if (wider := wider_interval(record))}
    if over == {"classes"}:
        return ["in brackets the one over classes and their videos"]
    of_videos = "over the videos of these classes, where none over classes exists"
    if over == {"videos"}:
        return [f"in brackets, with a v, the one {of_videos}"]
    return [f"in brackets the one over classes and their videos or, with a v, {of_videos}"] if over else []


def points(share: float | None, decimals: int = 1) -> str:
    """Return a share or a half width in points, or a dash if there is none."""
    return f"{100 * share:.{decimals}f}" if _is_known(share) else MISSING


def p_text(p_value: float | None) -> str:
    """Return a p-value as text, or a dash if there is no test."""
    if p_value is None:
        return MISSING
    return f"{p_value:.3f}" if p_value >= 0.001 else "< 0.001"


def _is_known(value: Any) -> TypeGuard[float]:
    return value is not None and not math.isnan(value)
