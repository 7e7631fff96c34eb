"""The report's figures, as plotly figures without fonts' or grids' colours: the page sets these, light or dark.

Plotly reads `<b>` and `<a href>` in its texts, so every name that comes from data is escaped and shortened here.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from results.marks import MARKED, marks
from results.markup import visible
from results.tables import latest_cells, row_keys, varying_parameters

COLOURS = ("#2f7fd1", "#e07b00", "#1f9e77", "#c2559d", "#8b6fd6", "#b08a00", "#d1495b", "#5f8f9b")
"""Told apart by colour-blind readers, and readable on white and on near black."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x")


def accuracy_chart(evaluations: pd.DataFrame) -> go.Figure:
    """Accuracy over shots with intervals: one panel a data set, one line a row of the table, chance dotted."""
    keys = row_keys(evaluations)
    cells = latest_cells(evaluations, keys)
    series_keys = _told_apart(cells, [key for key in keys if key not in ("dataset", *MARKED)], always="method")
    datasets = sorted(cells["dataset"].unique())
    figure, places = _panels(datasets, "accuracy (%)", "shots")
    names = {values: index for index, values in enumerate(cells.groupby([*series_keys, *MARKED], dropna=False).groups)}
    shown = set()
    for (dataset, *values), line in cells.groupby(["dataset", *series_keys, *MARKED], dropna=False):
        index, line = names[tuple(values)], line.sort_values("shot")
        named = " · ".join(str(value) for value in values[: len(series_keys)])
        label = f"{named} {marks(line.iloc[0].to_dict())}".rstrip()
        row, column = places[str(dataset)]
        figure.add_scatter(
            x=line["shot"], y=100 * line["accuracy"], mode="lines+markers",
            name=label_text(label), legendgroup=str(index), showlegend=index not in shown,
            line=_line(index), marker=_marker(index), row=row, col=column,
            error_y={"array": 100 * line["ci95"].astype(float).fillna(0), "thickness": 1.2},
            hovertemplate="%{x}-shot: %{y:.1f} ± %{error_y.array:.1f}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
        shown.add(index)
    for dataset, group in cells.groupby("dataset"):
        row, column = places[str(dataset)]
        for way in group["way"].unique():
            figure.add_hline(y=100 / way, line={"dash": "dot", "width": 1, "color": "#888"}, row=row, col=column)
    figure.update_xaxes(tickvals=sorted(cells["shot"].unique()))
    return _with_room_for_legend(figure)


def learning_chart(epochs: pd.DataFrame, run: str) -> go.Figure | None:
    """One run's loss terms (left) and accuracies (right) over its epochs; None where it recorded neither."""
    history = epochs[epochs["run"] == run].sort_values("epoch")
    losses, accuracies = metric_columns(history, "loss"), metric_columns(history, "accuracy")
    if not losses and not accuracies:
        return None
    figure = make_subplots(
        cols=2, column_widths=[0.62, 0.38], horizontal_spacing=0.08, subplot_titles=["loss terms", "accuracy (%)"]
    )
    for column, names in enumerate((losses, accuracies), start=1):
        for place, name in enumerate(names):
            index = place if column == 1 else place + len(losses)
            factor = 1 if column == 1 else 100
            figure.add_scatter(
                x=history["epoch"], y=factor * history[name].astype(float), name=label_text(name), row=1, col=column,
                mode="lines+markers", line=_line(index), marker=_marker(index, size=5),
                hovertemplate="epoch %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
            )  # fmt: skip
    figure.update_xaxes(title="epoch", **_whole_ticks(len(history)))
    return _with_room_for_legend(_finish(figure, height=340))


def comparison_chart(epochs: pd.DataFrame) -> go.Figure | None:
    """Accuracy on the selection partition of all runs together; None with fewer than two runs that have it."""
    names = [name for name in metric_columns(epochs, "accuracy") if "val" in name] or metric_columns(epochs, "accuracy")
    if not names or epochs.dropna(subset=[names[0]])["run"].nunique() < 2:
        return None
    figure = go.Figure()
    for index, (run, history) in enumerate(epochs.dropna(subset=[names[0]]).groupby("run", sort=False)):
        history = history.sort_values("epoch")
        figure.add_scatter(
            x=history["epoch"], y=100 * history[names[0]].astype(float), name=label_text(str(run)),
            mode="lines+markers", line=_line(index), marker=_marker(index, size=5),
            hovertemplate="epoch %{x}: %{y:.1f}%<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.update_xaxes(title="epoch", **_whole_ticks(epochs["epoch"].nunique()))
    figure.update_yaxes(title=f"{label_text(names[0])} (%)")
    return _with_room_for_legend(_finish(figure, height=340))


def history_chart(trials: pd.DataFrame) -> go.Figure | None:
    """One sweep's objective, trial by trial, with the best so far; None where no trial has a value."""
    order = pd.Series(range(1, len(trials) + 1), index=trials.index)
    valued = trials.dropna(subset=["value"])
    if valued.empty:
        return None
    values = valued["value"].astype(float)
    best = values.cummin() if (trials["mode"] == "min").all() else values.cummax()
    figure = go.Figure()
    for index, (state, group) in enumerate(valued.groupby("state", sort=True)):
        figure.add_scatter(
            x=order[group.index], y=group["value"], mode="markers", name=label_text(str(state)),
            marker=_marker(index, size=9),
            text=[label_text(str(trial)) for trial in group["trial"]],
            hovertemplate="%{text}: %{y:.4g}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=order[valued.index],
        y=best,
        mode="lines",
        name="best so far",
        line={"shape": "hv", "color": "#888", "width": 2},
        hoverinfo="skip",
    )
    figure.update_xaxes(title="trial", **_whole_ticks(len(trials)))
    figure.update_yaxes(title=label_text(str(trials["objective"].iloc[0])))
    return _finish(figure, height=340)


def slices_chart(trials: pd.DataFrame) -> go.Figure | None:
    """One sweep's objective against each parameter that varies; later trials darker."""
    valued = trials.dropna(subset=["value"])
    names = varying_parameters(valued)
    if not names:
        return None
    figure, places = _panels(
        [name.removeprefix("params.") for name in names], str(trials["objective"].iloc[0]), "", columns=4
    )
    for name in names:
        row, column = places[name.removeprefix("params.")]
        known = valued.dropna(subset=[name])
        numeric = known[name].map(lambda value: isinstance(value, (int, float)) and not isinstance(value, bool)).all()
        values = known[name].astype(float) if numeric else known[name].map(lambda value: label_text(str(value), 24))
        figure.add_scatter(
            x=values, y=known["value"].astype(float), mode="markers", showlegend=False, row=row, col=column,
            marker={"size": 8, "color": list(range(len(known))), "colorscale": [[0, "#a9cdf0"], [1, "#1b5fa8"]],
                    "line": {"width": 0.5, "color": "#888"}},
            text=[label_text(str(trial)) for trial in known["trial"]],
            hovertemplate="%{text}: %{x} → %{y:.4g}<extra></extra>",
        )  # fmt: skip
        if not numeric:
            figure.update_xaxes(type="category", range=[-0.5, values.nunique() - 0.5], row=row, col=column)
        elif values.min() > 0 and values.max() / values.min() >= 50:
            figure.update_xaxes(type="log", dtick=1, exponentformat="power", row=row, col=column)
    return figure


def metric_columns(epochs: pd.DataFrame, word: str) -> list[str]:
    """Numeric columns of the epochs whose name holds `word` and that hold a value."""
    named = epochs[[name for name in epochs.columns if word in str(name).lower()]]
    return [str(name) for name in named.select_dtypes(["number"]).columns if named[name].notna().any()]


def label_text(name: str, longest: int = 44) -> str:
    """A name as plotly may show it: shortened in the middle, its markup escaped, its direction kept to itself."""
    name = visible(name)
    if len(name) > longest:
        name = f"{name[: longest // 2]}…{name[-(longest // 2 - 1) :]}"
    escaped = html.escape(name, quote=False).replace("$", "&#36;")  # a pair of $ would ask for MathJax
    return escaped if name.isascii() else f"\u2068{escaped}\u2069"


Places = dict[str, tuple[int, int]]


def _panels(names: Sequence[str], y_title: str, x_title: str, columns: int = 5) -> tuple[go.Figure, Places]:
    """A grid of panels that share their y axis, and where each name's panel is (row, column; from 1)."""
    columns = min(columns, max(2, math.ceil(len(names) / math.ceil(len(names) / columns))))
    n_rows = math.ceil(len(names) / columns)
    figure = make_subplots(
        rows=n_rows, cols=columns, shared_yaxes="all", subplot_titles=[label_text(name, 28) for name in names],
        horizontal_spacing=0.14 / columns, vertical_spacing=0.3 / n_rows,
    )  # fmt: skip
    places = {name: (index // columns + 1, index % columns + 1) for index, name in enumerate(names)}
    figure.update_yaxes(title=label_text(y_title), col=1)
    if x_title:
        figure.update_xaxes(title=x_title, row=n_rows)
    return _finish(figure, height=130 + 230 * n_rows), places


def _finish(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        template="none", height=height, margin={"l": 60, "r": 16, "t": 62, "b": 50}, hoverlabel={"namelength": 44},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"size": 13},
        legend={"orientation": "h", "y": 1.0, "yref": "container", "yanchor": "top", "x": 0, "xanchor": "left"},
    )  # fmt: skip
    figure.update_annotations(font_size=13)
    figure.update_xaxes(title_font_size=13)
    figure.update_yaxes(title_font_size=13)
    return figure


def _with_room_for_legend(figure: go.Figure, width: int = 1040) -> go.Figure:
    """The figure, taller by the rows of its legend beyond the first: plotly lays it out over what lies there."""
    entries = [40 + 7.5 * len(html.unescape(trace.name)) for trace in figure.data if trace.showlegend is not False]
    n_rows = 1 if sum(entries) <= width else math.ceil(len(entries) / max(1, width // max(entries)))
    more = 30 * (n_rows - 1)  # pixels a row, as plotly.js lays it out at this size
    return figure.update_layout(height=figure.layout.height + more, margin_t=figure.layout.margin.t + more)


def _whole_ticks(n: int) -> dict[str, int]:
    return {"dtick": 1} if n <= 12 else {}  # there is no epoch 0.5


def _told_apart(cells: pd.DataFrame, keys: list[str], *, always: str) -> list[str]:
    return [key for key in keys if key == always or cells[key].nunique(dropna=False) > 1]


def _line(index: int) -> dict[str, object]:
    return {"color": COLOURS[index % len(COLOURS)], "dash": DASHES[index // len(COLOURS) % len(DASHES)], "width": 2}


def _marker(index: int, size: int = 7) -> dict[str, object]:
    # shape as well as colour: prints in grey, and for who cannot tell colours
    return {"color": COLOURS[index % len(COLOURS)], "symbol": MARKERS[index % len(MARKERS)], "size": size}
