"""Draw the figures of accuracies, as panels that the page lays out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from results.page.panels import Key, Panel, Style
from results.page.scales import Scale, categories, linear, whole
from results.tables.cells import footnotes, marked, wider_interval
from results.tables.evaluated import Evaluated
from results.tables.published import charted_figures

MOST_PANELS = 6
"""Largest number of panels of intervals; above it only each data set's smallest shot is drawn."""


@dataclass(frozen=True)
class Chart:
    """Hold panels side by side, their common legend, and notes below them."""

    title: str
    panels: list[Panel]
    legend: list[Key] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_wide: bool = False  # one panel as wide as the page


def accuracy_chart(evaluations: pd.DataFrame | Evaluated, printed: pd.DataFrame | None = None) -> Chart:
    """Draw accuracy over shots: a panel a data set, a line a row of the table, chance dotted, printed figures dashed.

    Args:
        printed: figures of others, in the form of `published_figures`; default: the shipped ones that a chart shows.
    """
    evaluated = Evaluated.of(evaluations)
    cells, series = evaluated.latest, evaluated.series
    printed = charted_figures() if printed is None else printed
    styles = _styles(cells, series)
    n = cells[["dataset", "partition"]].drop_duplicates().shape[0]
    is_wide = n == 1 and cells["shot"].nunique() > 3
    size = (1080, 340) if is_wide else (520, 400) if n == 1 else (520, 300) if n == 2 else (340, 300)
    heights = _heights(cells, printed)
    sources: dict[str, Style] = {}
    methods_by_source: dict[str, dict[str, None]] = {}  # published methods of each source
    notes = ["Thick bars: 95% interval over episodes; thin bars: over classes, for claims about other actions."]
    panels = []
    for (dataset, partition), group in cells.groupby(["dataset", "partition"], sort=True):
        ways = sorted(set(group["way"]))
        theirs = printed[(printed["dataset"] == dataset) & printed["way"].isin(ways)]
        panel = _accuracy_panel(group, theirs, f"{dataset} {partition}", heights, size)
        for way in ways:
            panel.bar((panel.x.low, 100 / way), (panel.x.high, 100 / way), "chance", tip=f"chance: {100 / way:.3g}%")
        for method, line in theirs.groupby(theirs.apply(marked, axis=1) if len(theirs) else [], sort=True):
            style = sources.setdefault(str(method), Style(len(sources), is_printed=True))
            _printed_line(panel, line, str(method), style)
            for source in line["source"]:
                methods_by_source.setdefault(source, {})[str(method)] = None
        lines = dict(list(group.groupby(series[group.index])))
        for place, name in enumerate(name for name in styles if name in lines):
            shift = (place / max(1, len(lines) - 1) - 0.5) * min(0.5, 0.06 * (len(lines) - 1))
            _accuracy_line(panel, lines[name], name, styles[name], shift)
        panels.append(panel)
    notes += [f"Published: {', '.join(methods)}: {source}." for source, methods in methods_by_source.items()]
    notes += footnotes(printed[printed["dataset"].isin(cells["dataset"])])
    legend = [Key(name, style) for name, style in styles.items()]
    legend += [Key(f"{name}, published", style) for name, style in sources.items()]
    return Chart("Accuracy over shots", panels, legend, notes, is_wide)


def intervals_chart(evaluations: pd.DataFrame | Evaluated) -> Chart | None:
    """Draw every accuracy with both intervals, one row a method, best first; one panel a data set and shot."""
    evaluated = Evaluated.of(evaluations)
    cells, series = evaluated.latest, evaluated.series
    styles = _styles(cells, series)
    keys = ["dataset", "partition", "shot"]
    if cells[keys].drop_duplicates().shape[0] > MOST_PANELS:
        smallest = cells.groupby(keys[:2])["shot"].transform("min")
        cells = cells[cells["shot"] == smallest]
    scale = linear([100 * (row["accuracy"] + sign * _widest(row)) for _, row in cells.iterrows() for sign in (-1, 1)])
    left = min(170, 24 + 6 * max(map(len, styles)))  # room for the longest name
    panels = []
    for (dataset, partition, shot), group in cells.groupby(keys, sort=True):
        group = group.assign(series=series[group.index]).sort_values("accuracy", ascending=False)
        if len(group) < 2:
            continue
        panel = Panel(
            scale, categories([str(name) for name in group["series"]]),
            f"Accuracies with intervals on {dataset} {partition}, {shot}-shot: {_spoken(group)}",
            title=f"{dataset} {partition}, {shot}-shot", x_title="accuracy (%)", width=460,
            height=58 + 24 * len(group), margins=(left, 6, 14, 38), y_first=True,
        )  # fmt: skip
        for row, cell in enumerate(group.to_dict("records")):
            style = styles[cell["series"]]
            _whiskers(panel, cell, style, at=lambda value, row=row: (value, row))
            panel.mark((100 * cell["accuracy"], row), style.classes, marker=style.marker, tip=_tip(cell))
        panels.append(panel)
    return Chart("Every accuracy with its intervals, best first", panels) if panels else None


def _styles(cells: pd.DataFrame, series: pd.Series) -> dict[str, Style]:
    """Return the style of each line, the most accurate first."""
    order = cells["accuracy"].groupby(series).mean().sort_values(ascending=False, kind="stable")
    return {str(name): Style(index) for index, name in enumerate(order.index)}


def _heights(cells: pd.DataFrame, printed: pd.DataFrame) -> Scale:
    """Return the accuracy axis that all panels share, so that data sets can be compared by eye."""
    theirs = printed[printed["dataset"].isin(cells["dataset"]) & printed["way"].isin(cells["way"])]
    reach = [100 * (row["accuracy"] + sign * _widest(row)) for _, row in cells.iterrows() for sign in (-1, 1)]
    scale = linear([*reach, *(100 * theirs["accuracy"]), *(100 / way for way in set(cells["way"]))])
    return Scale(max(0.0, scale.low), min(100.0, scale.high))


def _accuracy_panel(
    group: pd.DataFrame, theirs: pd.DataFrame, name: str, heights: Scale, size: tuple[int, int]
) -> Panel:
    shots = sorted({*group["shot"], *theirs["shot"]})
    return Panel(
        whole(shots) if len(shots) > 1 else Scale(shots[0] - 1, shots[0] + 1, ticks_at=(float(shots[0]),)),
        heights, f"Accuracy over shots on {name}: {_spoken(group)}",
        title=name, x_title="shots", y_title="accuracy (%)", width=size[0], height=size[1],
    )  # fmt: skip


def _accuracy_line(panel: Panel, line: pd.DataFrame, name: str, style: Style, shift: float) -> None:
    """Draw one method's line, shifted sideways by `shift` so that intervals do not hide each other."""
    cells = [{**cell, "series": name} for cell in line.sort_values("shot").to_dict("records")]
    panel.line([(cell["shot"] + shift, 100 * cell["accuracy"]) for cell in cells], style.classes)
    for cell in cells:
        place = cell["shot"] + shift
        _whiskers(panel, cell, style, at=lambda value, place=place: (place, value))
        panel.mark((place, 100 * cell["accuracy"]), style.classes, marker=style.marker, tip=_tip(cell))


def _printed_line(panel: Panel, line: pd.DataFrame, name: str, style: Style) -> None:
    rows = line.sort_values("shot").to_dict("records")
    panel.line([(row["shot"], 100 * row["accuracy"]) for row in rows], style.classes)
    if len(rows) == 1:  # draws a short level at its shot
        shot, level = rows[0]["shot"], 100 * rows[0]["accuracy"]
        panel.line([(max(panel.x.low, shot - 0.5), level), (min(panel.x.high, shot + 0.5), level)], style.classes)
    for row in rows:
        tip = f"{name}, published, {row['shot']}-shot: {100 * row['accuracy']:.2f}%"
        panel.mark((row["shot"], 100 * row["accuracy"]), style.classes, marker=style.marker, size=3.4, tip=tip)


def _whiskers(panel: Panel, cell: Mapping[Any, Any], style: Style, at: Any) -> None:
    wider = wider_interval(cell)
    for half, kind in ((wider.half_width if wider else None, "thin"), (cell["ci95"], "thick")):
        if half is not None and _known(half):
            low, high = (100 * (cell["accuracy"] + sign * half) for sign in (-1, 1))
            panel.bar(at(low), at(high), f"{kind} {style.classes.split()[0]}")


def _tip(cell: Mapping[Any, Any]) -> str:
    text = f"{cell['series']}, {cell['shot']}-shot: {100 * cell['accuracy']:.1f}"
    text += f" ± {100 * cell['ci95']:.1f}" if _known(cell["ci95"]) else ""
    wider = wider_interval(cell)
    return text + (f" (± {100 * wider.half_width:.1f} over {wider.over})" if wider else "")


def _spoken(group: pd.DataFrame) -> str:
    best = group.iloc[int(group["accuracy"].to_numpy().argmax())].to_dict()
    return (
        f"{marked(best)} is best with {100 * best['accuracy']:.1f}% at {best['shot']}-shot; the table has all values."
    )


def _widest(row: Any) -> float:
    wider = wider_interval(row)
    return max(float(row["ci95"]) if _known(row["ci95"]) else 0.0, wider.half_width if wider else 0.0)


def _known(value: Any) -> bool:
    return value is not None and not math.isnan(value)
