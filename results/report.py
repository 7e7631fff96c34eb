"""One self-contained HTML page: what was run, the tables, the curves, the sweeps, and how sure we are."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from results import charts, details, tables
from results.exporting import write_tables
from results.files import write_atomically
from results.marks import footnotes, marked
from results.markup import numeric_columns
from results.provenance import now
from results.store import Results

MOST_CURVES = 24
"""Runs whose learning curves are drawn; the tables hold all of them."""


def write_report(results: Results, destination: Path | str, *, title: str = "HCL results") -> Path:
    """Write the page to `destination` (a .html file, or a folder for its index.html) and return its path.

    It needs no network and no other file. Whatever comes from data is shown as text.
    """
    path = Path(destination)
    path = path if path.suffix.lower() in (".html", ".htm") else path / "index.html"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["when"] = _when
    page = environment.get_template("report.html.j2").render(_context(results, title))
    return write_atomically(path, page.encode("utf-8", errors="backslashreplace"))


def _context(results: Results, title: str) -> dict[str, Any]:
    figures = _Figures()
    evaluations = results.evaluations
    return {
        "title": title,
        "created": now(),
        "counts": _counts(results),
        "runs": [_run(row) for row in _rows(results.runs)],
        "accuracy": _table(tables.accuracy_table(evaluations)) if len(evaluations) else None,
        "levels": _table(tables.levels_table(evaluations)) if len(evaluations) else None,
        "accuracy_figure": figures.add(
            charts.accuracy_chart(evaluations) if len(evaluations) else None,
            "Accuracy over shots for each data set, with 95% intervals; the numbers are in the table above.",
        ),
        "confidence": _confidence(evaluations),
        "classes": _classes(evaluations),
        "comparison_figure": figures.add(charts.comparison_chart(results.epochs), "Accuracy of all runs over epochs."),
        "curves": _curves(results.epochs, figures),
        "n_curves_left_out": max(0, results.epochs["run"].nunique() - MOST_CURVES),
        "sweeps": [_sweep(row, results.trials, figures) for row in _rows(results.sweeps)],
        "skipped": results.skipped,
        "figures": figures.as_json(),
        "plotly": Markup(get_plotlyjs()) if figures.specs else "",
    }


class _Figures:
    """The page's figures, numbered; the page holds their data as JSON that no markup can end."""

    def __init__(self) -> None:
        self.specs: list[str] = []

    def add(self, figure: go.Figure | None, description: str) -> dict[str, Any] | None:
        if figure is None:
            return None
        self.specs.append(to_json_plotly(figure.to_plotly_json()))
        return {"id": f"figure-{len(self.specs) - 1}", "description": description, "height": figure.layout.height}

    def as_json(self) -> Markup:
        text = "[" + ",".join(self.specs) + "]"
        return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _counts(results: Results) -> str:
    counted = (
        (len(results.runs), "run"), (len(results.evaluations), "evaluation record"),
        (len(results.sweeps), "sweep"), (len(results.trials), "trial"), (len(results.skipped), "skipped file"),
    )  # fmt: skip
    said = [f"{n:,} {noun}{'' if n == 1 else 's'}" for n, noun in counted if n]
    return ", ".join(said) if said else "nothing found"


def _run(row: dict[str, Any]) -> dict[str, Any]:
    known = {name: value for name, value in row.items() if _is_known(value)}
    revision = str(known.get("revision", ""))[:12]
    return {
        "name": known["run"],
        "command": known.get("command", ""),
        "revision": f"{revision} + changes" if revision and known.get("dirty") else revision,
        "started": known.get("started", ""),
        "duration": _duration(known.get("started"), known.get("finished")),
        "experiment": known.get("experiment"),
        "facts": {
            part: {name.removeprefix(f"{part}."): value for name, value in known.items() if name.startswith(f"{part}.")}
            for part in ("versions", "hardware", "seeds", "digests")
        },
        "path": known["path"],
    }


def _table(frame: pd.DataFrame) -> dict[str, Any] | None:
    if frame.empty:
        return None
    described = {str(name): value for name, value in frame.attrs.items()}
    rows = [list(row) for row in frame.itertuples(index=False)]
    return {
        "caption": "",
        "footnotes": [],
        **described,
        "columns": list(frame.columns),
        "rows": rows,
        "numeric": numeric_columns(frame),
    }


def _confidence(evaluations: pd.DataFrame) -> dict[str, Any] | None:
    """What can be said of the intervals from the records themselves."""
    if evaluations.empty:
        return None
    latest = tables.latest_cells(evaluations, tables.row_keys(evaluations))
    compared = latest.groupby(tables.CELL).filter(lambda group: len(group) > 1)
    digests = compared.groupby(tables.CELL)["episodes_digest"]
    same = (digests.nunique() == 1) & (digests.min() != "")  # an empty digest vouches for nothing
    return {
        "n_compared": len(same),
        "n_same": int(same.sum()),
        "widest": 100 * float(latest["ci95"].max()) if latest["ci95"].notna().any() else None,
        "widest_classes": 100 * float(latest["ci95_classes"].max()) if latest["ci95_classes"].notna().any() else None,
        "n_published": int((latest["protocol"] == "published").sum()),
        "fewest_classes": int(latest["n_classes"].min()) if latest["n_classes"].notna().any() else None,
    }


def _classes(evaluations: pd.DataFrame) -> list[dict[str, Any]]:
    """Accuracy by class and the worst confusions, for each data set at its smallest shot."""
    cells = []
    for (dataset, partition), found in evaluations.groupby(["dataset", "partition"]):
        smallest = found[found["shot"] == found["shot"].min()]
        named = [(f"{r['run']}: {marked(r)}", outcomes) for r, outcomes in details.outcomes_of(smallest)]
        same = [(name, one) for name, one in named if one.questions.class_names == named[0][1].questions.class_names]
        if same:
            confused = [(name, _table(details.confusion_table(one))) for name, one in same]
            cells.append(
                {
                    "name": f"{dataset} {partition}, {smallest['shot'].iloc[0]}-shot",
                    "table": (_table(details.class_table(same)) or {}) | {"footnotes": footnotes(smallest)},
                    "confused": [(name, table) for name, table in confused if table is not None],
                }
            )
    return cells


def _curves(epochs: pd.DataFrame, figures: _Figures) -> list[dict[str, Any]]:
    curves = []
    for run in list(dict.fromkeys(epochs["run"]))[:MOST_CURVES]:
        figure = figures.add(charts.learning_chart(epochs, run), f"Loss terms and accuracies of {run} over its epochs.")
        if figure:
            curves.append({"run": run, "n_epochs": int((epochs["run"] == run).sum()), "figure": figure})
    return curves


def _sweep(row: dict[str, Any], trials: pd.DataFrame, figures: _Figures) -> dict[str, Any]:
    mine = trials[trials["sweep"] == row["sweep"]]
    return {
        "name": row["sweep"],
        "objective": row["objective"] if _is_known(row.get("objective")) else "objective",
        "mode": "smallest" if row.get("mode") == "min" else "largest",
        "best": row["best_trial"] if _is_known(row.get("best_trial")) else None,
        "command": row["command"] if _is_known(row.get("command")) else "",
        "duration": _spelled(row["seconds"]) if _is_known(row.get("seconds")) else "",
        "states": mine["state"].value_counts().to_dict(),
        "table": _table(tables.trials_table(mine)) if len(mine) else None,
        "failures": [(trial["trial"], trial["error"]) for trial in _rows(mine) if _is_known(trial["error"])],
        "history": figures.add(charts.history_chart(mine), "Objective of each trial and the best so far."),
        "slices": figures.add(charts.slices_chart(mine), "Objective against each parameter that varies."),
    }


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _is_known(value: Any) -> bool:
    return value is not None and value == value and value != ""  # NaN is not equal to itself


def _duration(started: str | None, finished: str | None) -> str:
    try:
        lasted = datetime.fromisoformat(finished or "") - datetime.fromisoformat(started or "")
        return _spelled(lasted.total_seconds())
    except (ValueError, TypeError):  # not finished, or written by hand
        return ""


def _when(moment: str) -> str:
    """An ISO time as people write it; anything else as it is."""
    try:
        return datetime.fromisoformat(moment).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return moment


def _spelled(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


__all__ = ["write_report", "write_tables"]
