"""Draw the figures of learning: loss terms and accuracies over epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from results.page.charts import Chart
from results.page.panels import Key, Panel, Style
from results.page.scales import linear, whole


def learning_chart(epochs: pd.DataFrame, run: str) -> Chart | None:
    """Draw one run's loss terms and accuracies over its epochs; None if it recorded neither."""
    history = epochs[epochs["run"] == run].sort_values("epoch")
    losses, accuracies = metric_columns(history, "loss"), metric_columns(history, "accuracy")
    styles = {name: Style(index) for index, name in enumerate([*losses, *accuracies])}
    panels = []
    if losses:
        panels.append(_history_panel(history, losses, styles, 1, "loss terms", f"Loss terms of {run} over its epochs"))
    if accuracies:
        description = f"Accuracies of {run} over its epochs"
        panel = _history_panel(history, accuracies, styles, 100, "accuracy (%)", description)
        for name in accuracies:
            interval = name.replace("accuracy", "ci95")
            if interval != name and interval in history and history[interval].notna().any():
                rows_with_both = history.dropna(subset=[name, interval])
                intervals = zip(
                    rows_with_both["epoch"], 100 * rows_with_both[name], 100 * rows_with_both[interval], strict=True
                )
                panel.band([(x, y - half, y + half) for x, y, half in intervals], styles[name].classes)
        selected = next((name for name in accuracies if "val" in name), None)
        if selected is not None and len(history) > 1:
            best = history["epoch"].iloc[int(history[selected].astype(float).to_numpy().argmax())]
            panel.bar((best, panel.y.low), (best, panel.y.high), "chance", tip=f"best {selected}: epoch {best}")
        panels.append(panel)
    return (
        Chart("Loss terms and accuracies", panels, [Key(name, style) for name, style in styles.items()])
        if panels
        else None
    )


def comparison_chart(epochs: pd.DataFrame) -> Chart | None:
    """Draw the accuracy on the selection partition of all runs together; None with fewer than two runs."""
    names = metric_columns(epochs, "accuracy")
    name = next((name for name in names if "val" in name), names[0] if names else None)
    if name is None or (recorded := epochs.dropna(subset=[name]))["run"].nunique() < 2:
        return None
    runs = list(dict.fromkeys(recorded["run"]))
    values = 100 * recorded[name].astype(float)
    panel = Panel(
        whole(recorded["epoch"]), linear(values, floor=0), f"{name} of {len(runs)} runs over their epochs",
        x_title="epoch", y_title=f"{name} (%)", width=1080, height=290,
    )  # fmt: skip
    for index, run in enumerate(runs):
        history = recorded[recorded["run"] == run].sort_values("epoch")
        points = list(zip(history["epoch"], 100 * history[name].astype(float), strict=True))
        _curve(panel, points, Style(index), f"{run}, epoch {{x}}: {{y:.1f}}%")
    legend = [Key(str(run), Style(index)) for index, run in enumerate(runs)]
    return Chart("All runs", [panel], legend, is_wide=True)


def metric_columns(epochs: pd.DataFrame, word: str) -> list[str]:
    """Return the numeric columns of the epochs whose name contains `word` and that have a value."""
    named = epochs[[name for name in epochs.columns if word in str(name).lower()]]
    return [str(name) for name in named.select_dtypes(["number"]).columns if named[name].notna().any()]


def _history_panel(
    history: pd.DataFrame, names: list[str], styles: Mapping[str, Style], factor: float, y_title: str, description: str
) -> Panel:
    values = [factor * value for name in names for value in history[name].dropna().astype(float)]
    panel = Panel(
        whole(history["epoch"]), linear(values, floor=0), description, x_title="epoch", y_title=y_title, width=440
    )
    for name in names:
        recorded = history.dropna(subset=[name])
        points = list(zip(recorded["epoch"], factor * recorded[name].astype(float), strict=True))
        _curve(panel, points, styles[name], f"{name}, epoch {{x}}: {{y:.4g}}")
    return panel


def _curve(panel: Panel, points: list[tuple[Any, float]], style: Style, tip: str, most_markers: int = 40) -> None:
    panel.line(points, style.classes)
    for x, y in points if len(points) <= most_markers else points[:: math.ceil(len(points) / most_markers)]:
        panel.mark((x, y), style.classes, marker=style.marker, size=2.6, tip=tip.format(x=x, y=y))
