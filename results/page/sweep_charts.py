"""Draw the figures of one study: history, importances, slices, parallel coordinates, Pareto front.

A trial's marks carry its position in the study (`data-k`), so that the page can highlight it in all of them at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from results.page.charts import Chart
from results.page.panels import Key, Panel, Style, shade
from results.page.scales import Scale, categories, fitting, linear, whole
from results.tables.accuracy import varying_parameters

MOST_SLICES = 12
STATES = ("complete", "pruned", "failed", "running")


def sweep_charts(sweep: Mapping[str, Any], trials: pd.DataFrame) -> list[Chart]:
    """Return the figures that the trials of a study allow.

    Args:
        sweep: a row of `Results.sweeps`.
        trials: its rows of `Results.trials`, in order; the index is not used.
    """
    trials = trials.reset_index(drop=True)
    valued = trials.dropna(subset=["value"])
    if valued.empty:
        return []
    importances: dict[str, float] = _dict(sweep.get("importances"))
    parameters = _dict(_dict(sweep.get("space")).get("parameters"))
    logs = {f"params.{path}": _dict(parameter).get("log") for path, parameter in parameters.items()}
    names = sorted(varying_parameters(valued), key=lambda name: -importances.get(name.removeprefix("params."), 0.0))
    figures = [
        history(valued, len(trials)),
        importances_chart(importances),
        pareto(sweep, valued),
        slices(valued, names, logs),
        parallel(valued, names, logs),
    ]
    return [chart for chart in figures if chart is not None]


def history(valued: pd.DataFrame, n_trials: int) -> Chart:
    """Draw the objective, trial by trial, with the best so far."""
    values = valued["value"].astype(float)
    is_least = _is_least(valued)
    best = values.cummin() if is_least else values.cummax()
    objective = str(valued["objective"].iloc[0])
    panel = Panel(
        whole([1, n_trials]), linear(values), f"{objective} of {len(valued)} trials in order; "
        f"best {(values.min() if is_least else values.max()):.4g}",
        x_title="trial", y_title=objective, width=1080, height=270, margins=(60, 12, 12, 38),
    )  # fmt: skip
    panel.line(list(zip(best.index + 1, best, strict=True)), "best", stepped=True)
    shown = [state for state in STATES if (valued["state"] == state).any()]
    for index, state, value in zip(valued.index, valued["state"], values, strict=True):
        style = Style(shown.index(state))
        panel.mark((index + 1, value), style.classes, marker=style.marker, size=3.5, key=index)
    legend = [Key(state, Style(place)) for place, state in enumerate(shown)] if len(shown) > 1 else []
    return Chart("History: every trial, and the best so far", [panel], legend, is_wide=True)


def importances_chart(importances: Mapping[str, float]) -> Chart | None:
    """Draw each parameter's share in the objective's variation, as computed at the end of the study."""
    ranked = sorted(importances.items(), key=lambda path_and_share: -path_and_share[1])[:20]
    if not ranked:
        return None
    top = f"{ranked[0][0]} with {100 * ranked[0][1]:.0f}%"
    panel = Panel(
        linear([0, 100 * ranked[0][1]], floor=0, pad=0.12), categories([name for name, _ in ranked]),
        f"Importances of {len(ranked)} parameters; first is {top}", x_title="share of the variation (%)", width=560,
        height=52 + 24 * len(ranked), margins=(190, 6, 40, 38), y_first=True,
    )  # fmt: skip
    for row, (name, share) in enumerate(ranked):
        tip = f"{name}: {100 * share:.1f}%"
        panel.box((0, row - 0.3), (max(100 * share, 0.01), row + 0.3), "fill c0", tip=tip)
        panel.text((100 * share, row), f"{100 * share:.0f}%", dx=5)
    notes = ["Share of each parameter in the objective's variation over the complete trials, as Optuna estimates it."]
    return Chart("Importance of parameters", [panel], notes=notes)


def slices(valued: pd.DataFrame, names: Sequence[str], logs: Mapping[str, bool | None]) -> Chart | None:
    """Draw the objective against each varying parameter, with later trials in stronger colours."""
    panels = []
    for name in names[:MOST_SLICES]:
        present = valued.dropna(subset=[name])
        scale, places = fitting(present[name].tolist(), is_log=logs.get(name))
        path = name.removeprefix("params.")
        panel = Panel(
            scale, linear(valued["value"].astype(float)), f"{valued['objective'].iloc[0]} against {path}",
            title=path, width=300, height=210, margins=(50, 8, 10, 44 if scale.names else 26),
        )  # fmt: skip
        for place, index, value in zip(places, present.index, present["value"].astype(float), strict=True):
            panel.mark((place, value), shade(index / max(1, valued.index[-1])), size=3, key=index)
        panels.append(panel)
    if not panels:
        return None
    notes = ["Later trials have stronger colours; point at one to highlight it in every figure of the study."]
    if len(names) > MOST_SLICES:
        notes.append(f"The {MOST_SLICES} most important of {len(names)} parameters.")
    return Chart(f"{valued['objective'].iloc[0]} against each parameter", panels, notes=notes)


def parallel(valued: pd.DataFrame, names: Sequence[str], logs: Mapping[str, bool | None]) -> Chart | None:
    """Draw a line for each trial across the parameters, from the objective on; better trials stronger and on top."""
    names = names[:MOST_SLICES]
    if len(names) < 2:
        return None
    values = valued["value"].astype(float)
    columns: list[tuple[str, Scale, dict[Any, float]]] = [
        (str(valued["objective"].iloc[0]), linear(values), dict(zip(valued.index, values, strict=True)))
    ]
    for name in names:
        present = valued[name].dropna()
        scale, places = fitting(present.tolist(), is_log=logs.get(name))
        columns.append((name.removeprefix("params."), scale, dict(zip(present.index, places, strict=True))))
    labels = [label for label, _, _ in columns]
    panel = Panel(
        Scale(0, len(columns) - 1), Scale(0, 1), f"Parallel coordinates of {len(valued)} trials over "
        f"{', '.join(labels)}", width=1080, height=340, margins=(48, 46, 72, 12),
        has_axes=False,  # every parameter has its own axis
    )  # fmt: skip
    ranks = values.rank(ascending=not _is_least(valued), pct=True)
    for index in ranks.sort_values(kind="stable").index:
        points = [
            (place, scale.at(by_trial[index]))
            for place, (_, scale, by_trial) in enumerate(columns)
            if index in by_trial
        ]
        is_top = ranks[index] > 1 - max(0.1, 3 / len(ranks))  # the best tenth, drawn last
        kind = "top q6" if is_top else f"{'crowd ' if len(ranks) > 60 else ''}{shade(0.6 * ranks[index])}"
        panel.line(points, f"trial {kind}", key=index)
    for place, (label, scale, _) in enumerate(columns):
        panel.bar((place, 0), (place, 1), "rule")
        panel.text((place, 1.07 if place % 2 == 0 else 1.13), label, anchor="middle", classes="title")
        for value, text in scale.ticks(4):
            if 0 <= (at := scale.at(value)) <= 1:
                panel.text((place, at), text, dx=4, classes="halo")
    return Chart("Parallel coordinates: one line per trial, the best tenth strongest", [panel], is_wide=True)


def pareto(sweep: Mapping[str, Any], valued: pd.DataFrame) -> Chart | None:
    """Draw the first two of several objectives against each other, with the front; None for a single objective."""
    metrics = [name for name in valued.columns if name.startswith("values.") and valued[name].notna().any()]
    if len(metrics) < 2:
        return None
    first, second = (name.removeprefix("values.") for name in metrics[:2])
    drawn = valued.dropna(subset=metrics[:2])
    front = set(sweep["pareto"]) if isinstance(sweep.get("pareto"), list) else set()
    panel = Panel(
        linear(drawn[metrics[0]]), linear(drawn[metrics[1]]), f"{second} against {first} of {len(drawn)} trials; "
        f"{len(front)} on the front", x_title=first, y_title=second, width=560, height=330, margins=(60, 12, 12, 38),
    )  # fmt: skip
    points = dict(zip(drawn.index, zip(drawn[metrics[0]], drawn[metrics[1]], strict=True), strict=True))
    best = sorted(
        (points[index] for index in drawn.index if drawn["trial"][index] in front), key=lambda point: point[0]
    )
    if len(metrics) == 2:
        panel.line(best, "best")
    for is_best in (False, True):
        for index in drawn.index:
            if (drawn["trial"][index] in front) == is_best:
                style = Style(1 if is_best else 0)
                panel.mark(points[index], style.classes, marker=style.marker, size=4.5 if is_best else 3.2, key=index)
    aims = _aims(sweep)
    notes = [f"{name}: {'less' if aims.get(name) == 'min' else 'more'} is better." for name in (first, second)]
    notes += (
        [f"The first two of {len(metrics)} objectives are drawn; the front is that of all."] if len(metrics) > 2 else []
    )
    legend = [Key("on the front: no other trial is better in all objectives", Style(1)), Key("other trials", Style(0))]
    return Chart("Pareto front", [panel], legend, notes)


def tips(trials: pd.DataFrame) -> list[str]:
    """Return the text for pointing at each trial, by its position in the study."""
    names = varying_parameters(trials)
    others = [name for name in trials.columns if name.startswith("values.")]
    texts = []
    for row in trials.to_dict("records"):
        parts = [f"{row['trial']}: {row['objective']} {_short(row['value'])}"]
        shown = [(name.partition(".")[2], row[name]) for name in (*others, *names)]
        parts += [f"{path} {_short(value)}" for path, value in shown if _short(value)]
        texts.append("\n".join(parts))
    return texts


def _is_least(trials: pd.DataFrame) -> bool:
    return bool((trials["mode"] == "min").all())


def _aims(sweep: Mapping[str, Any]) -> dict[str, str]:
    """Return for each objective whether more or less is better, from the study's space."""
    space = _dict(sweep.get("space"))
    others = space.get("trade_offs")
    aims = [space.get("objective"), *(others if isinstance(others, list) else [])]
    return {str(aim.get("metric")): str(aim.get("mode")) for aim in aims if isinstance(aim, dict)}


def _short(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _dict(value: Any) -> dict[Any, Any]:
    """Return a record's nested value, or nothing if it has another type: spaces are written by another package."""
    return value if isinstance(value, dict) else {}
