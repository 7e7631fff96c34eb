"""Write one self-contained HTML page: results, their uncertainty, explanations, and the runs behind them.

This module collects the content from `overview`, `leads`, `evidence` and the charts; `templates/` lays it out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from results.page import charts, leads, learning_charts, sweep_charts
from results.page.costs import Cost, is_known
from results.page.environment import TEMPLATES, page_environment, page_style
from results.page.evidence import class_cells, examples
from results.page.overview import Changed, States, failures, records, runs_overview, total_cost
from results.page.page_tables import best_first, page_table, without_shared
from results.records.files import write_atomically
from results.records.moments import duration
from results.records.provenance import now
from results.records.store import Results
from results.statistics.significance import RULE
from results.tables import accuracy
from results.tables.cells import wider_interval
from results.tables.evaluated import Evaluated
from results.tables.published import published_table
from results.tables.trials import lead_of_best, lead_text

MOST_CURVES = 24
"""Number of runs whose learning curves are drawn; the tables hold all of them."""
MOST_TILES = 6


def write_report(
    results: Results,
    destination: Path | str,
    *,
    title: str = "HCL results",
    changed: Changed | None = None,
    states: States | None = None,
    command: str = "",
    evaluated: Evaluated | None = None,
) -> Path:
    """Write the page to `destination` (a .html file, or a folder for its index.html) and return its path.

    The page needs no network and no other file, and no script for reading. Texts from data are shown as text only.

    Args:
        changed: settings that differ from the defaults, by folder; other folders are shown without settings.
        states: the state of runs and studies at this time, by folder; others are shown without one.
        command: the command that makes this page again.
    """
    path = Path(destination)
    path = path if path.suffix.lower() in (".html", ".htm") else path / "index.html"
    environment = page_environment()
    environment.filters["hours"] = _hours
    evaluated = evaluated or Evaluated(results.evaluations)
    context = _context(results, evaluated, title, runs_overview(results, changed or {}, states), command)
    page = environment.get_template("report.html.j2").render(context)
    return write_atomically(path, page.encode("utf-8", errors="backslashreplace"))


def is_page(file: Path) -> bool:
    """Return whether a file is a page of `write_report`, by the security policy at its beginning."""
    with file.open("rb") as content:
        return b"content=\"default-src 'none'; style-src" in content.read(2000)


def _context(
    results: Results, evaluated: Evaluated, title: str, runs: list[dict[str, Any]], command: str
) -> dict[str, Any]:
    epochs = results.epochs
    curves = [
        (run, learning_charts.learning_chart(epochs, run)) for run in list(dict.fromkeys(epochs["run"]))[:MOST_CURVES]
    ]
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    return {
        "title": title,
        "created": now(),
        "command": command,
        "counts": _counts(results),
        "style": page_style(),
        "script": Markup(script),
        "cost": total_cost(runs),
        "runs": runs,
        "commands": {run["name"]: [run["command"]] if run["command"] else [] for run in runs},
        **(_of_evaluations(evaluated) if len(evaluated.records) else {"accuracy": None, "classes": []}),
        "comparison": learning_charts.comparison_chart(epochs),
        "curves": [(run, chart) for run, chart in curves if chart is not None],
        "n_curves_left_out": max(0, epochs["run"].nunique() - MOST_CURVES),
        "examples": [(run["name"], examples(run["path"])) for run in runs if run["kind"] == "run"],
        "sweeps": [_sweep(row, results.trials) for row in records(results.sweeps)],
        "failures": failures(results),
        "skipped": results.skipped,
    }


def _of_evaluations(evaluations: Evaluated) -> dict[str, Any]:
    """Return the accuracies: the best methods, tables, figures, and their uncertainty."""
    all_leads = leads.leads(evaluations)
    commands = [text for text in dict.fromkeys(evaluations.records["command"]) if is_known(text)]
    cells = class_cells(evaluations)
    return {
        "evaluation_commands": commands,
        "tiles": [_tile(lead) for lead in _chosen(all_leads)],
        "accuracy": page_table(best_first(without_shared(accuracy.accuracy_table(evaluations)))),
        "printed": page_table(published_table(evaluations)),
        "levels": page_table(accuracy.levels_table(evaluations)),
        "accuracy_chart": charts.accuracy_chart(evaluations),
        "intervals_chart": charts.intervals_chart(evaluations),
        "leads": page_table(leads.leads_table(all_leads)),
        "confidence": _confidence(evaluations),
        "classes": [
            {
                **cell,
                "classes": page_table(cell["classes"]),
                "confusions": [(name, chart, page_table(pairs)) for name, chart, pairs in cell["confusions"]],
            }
            for cell in cells
        ],
    }


def _chosen(all_leads: list[leads.Lead]) -> list[leads.Lead]:
    """Return the cells to show first: each data set at its smallest shot and, if there is room, at its largest."""
    by_dataset: dict[tuple[str, str], list[leads.Lead]] = {}
    for lead in all_leads:
        by_dataset.setdefault((lead.cell["dataset"], lead.cell["partition"]), []).append(lead)
    ends = [lead for cells in by_dataset.values() for lead in (cells if len(cells) < 3 else [cells[0], cells[-1]])]
    return ends if len(ends) <= MOST_TILES else [cells[0] for cells in by_dataset.values()][:MOST_TILES]


def _tile(lead: leads.Lead) -> dict[str, Any]:
    best, rival = lead.best, lead.others[0] if lead.others else None
    return {
        "where": f"{lead.cell['dataset']} {lead.cell['partition']}",
        "what": f"{lead.cell['way']}-way {lead.cell['shot']}-shot",
        "accuracy": f"{100 * best['accuracy']:.1f}",
        "episodes": f"{100 * best['ci95']:.1f}" if is_known(best["ci95"]) else "",
        "wider": wider_interval(best),
        "method": lead.name,
        "rival": leads.against(rival) if rival else None,
    }


def _sweep(row: dict[str, Any], trials: pd.DataFrame) -> dict[str, Any]:
    mine = trials[trials["sweep"] == row["sweep"]]
    figures = sweep_charts.sweep_charts(row, mine)
    return {
        "name": row["sweep"],
        "objective": row["objective"] if is_known(row.get("objective")) else "objective",
        "mode": "smallest" if row.get("mode") == "min" else "largest",
        "best": row["best_trial"] if is_known(row.get("best_trial")) else None,
        "best_value": accuracy.number(row.get("best_value")),
        "lead": _lead_of_best(row, mine),
        "sampler": row["sampler"] if is_known(row.get("sampler")) else "",
        "commands": [row["command"]] if is_known(row.get("command")) else [],
        "duration": duration(row["seconds"]) if is_known(row.get("seconds")) else "",
        "order": _order(row),
        "states": mine["state"].value_counts().to_dict(),
        "table": page_table(accuracy.trials_table(mine)) if len(mine) else None,
        "charts": figures,
        "tips": _as_json(sweep_charts.tips(mine)) if figures else Markup("[]"),
    }


def _order(row: dict[str, Any]) -> str:
    """Return a sentence on whether a study can be repeated; empty for a study of an earlier version."""
    if not is_known(row.get("reproducible")):
        return ""
    if not row["reproducible"]:
        return "Not reproducible: its trials were chosen and stopped as results came."
    seed = f"seed {int(row['seed'])}" if is_known(row.get("seed")) else "its seed"
    return f"Reproducible by {seed}" + (f" and lag {int(row['lag'])}." if is_known(row.get("lag")) else ".")


def _lead_of_best(row: dict[str, Any], trials: pd.DataFrame) -> str:
    """Return a sentence about the best trial's lead; empty for fewer than two trials or for several objectives."""
    ended = trials[trials["state"].isin(("complete", "pruned"))].dropna(subset=["value"])
    lead = lead_of_best(dict(zip(ended["trial"], ended["value"].astype(float), strict=True)), str(row.get("mode")))
    has_front = isinstance(row.get("pareto"), list) and bool(row["pareto"])
    return lead_text(lead, str(row.get("objective"))) if lead and not has_front else ""


def _confidence(evaluations: Evaluated) -> dict[str, Any]:
    """Return what can be said of the intervals from the records themselves."""
    latest = evaluations.latest
    compared = latest.groupby(accuracy.CELL).filter(lambda group: len(group) > 1)
    digests = compared.groupby(accuracy.CELL)["episodes_digest"]
    same = (digests.nunique() == 1) & (digests.min() != "")  # an empty digest proves nothing
    only_videos = [wider is not None and wider.over == "videos" for wider in map(wider_interval, records(latest))]
    widest = {name: latest[name].max() for name in ("ci95", "ci95_classes")}
    return {
        "n_compared": len(same),
        "n_same": int(same.sum()),
        "widest": {name: 100 * float(value) if is_known(value) else None for name, value in widest.items()},
        "n_only_videos": sum(only_videos),
        "rule": RULE,
        "n_published": int((latest["protocol"] == "published").sum()),
        "fewest_classes": int(latest["n_classes"].min()) if latest["n_classes"].notna().any() else None,
    }


def _counts(results: Results) -> str:
    counted = (
        (len(results.runs), "run", "runs"), (len(results.evaluations), "evaluation record", "evaluation records"),
        (len(results.sweeps), "study", "studies"), (len(results.trials), "trial", "trials"),
        (len(results.skipped), "skipped file", "skipped files"),
    )  # fmt: skip
    counts = [f"{n:,} {singular if n == 1 else plural}" for n, singular, plural in counted if n]
    return ", ".join(counts) if counts else "nothing found"


def _as_json(value: Any) -> Markup:
    """Return JSON in which no character can end its element."""
    text = json.dumps(value, ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _hours(cost: Cost) -> str:
    """Return CPU- and GPU-hours, such as `0.42 CPU-hours`, with a prefix if they are a bound."""
    hours = [f"{cost.cpu_hours:.2g} CPU-hours" if cost.cpu_hours < 10 else f"{cost.cpu_hours:,.0f} CPU-hours"]
    if cost.gpu_hours:
        hours.append(f"{cost.gpu_hours:.2g} GPU-hours" if cost.gpu_hours < 10 else f"{cost.gpu_hours:,.0f} GPU-hours")
    return ("at most " if cost.is_bound else "") + ", ".join(hours)
