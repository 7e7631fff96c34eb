"""Describe runs and studies: settings, data, machines, time and cost; and their failures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from results.page.costs import Cost, evaluation_cost, is_known, sweep_cost, training_cost
from results.records.moments import duration, seconds_between
from results.records.store import Results


class Setting(NamedTuple):
    """Describe a setting that differs from its default."""

    path: str
    value: str
    default: str
    meaning: str = ""


Changed = Mapping[str, Sequence[Setting]]
"""Settings that differ from the defaults, by folder of a run or study; the caller knows the defaults and provides them.
"""

States = Mapping[str, str]
"""The state of runs and studies in one line, by folder; the caller, who knows their locks, provides it."""

_FACTS = ("resources", "hardware", "versions", "seeds", "digests", "data")
_NON_FINITE, _FAILED = "non_finite.json", "failed.json"  # files in which a run explains why it stopped


def runs_overview(results: Results, changed: Changed, states: States | None = None) -> list[dict[str, Any]]:
    """Return a description of every run and study, in the order of the results."""
    sweeps = {row["path"]: row for row in records(results.sweeps)}
    descriptions = []
    for row in records(results.runs):
        fields = {name: value for name, value in row.items() if is_known(value)}
        run, sweep = fields["run"], sweeps.get(fields["path"])
        mine = results.evaluations[results.evaluations["run"] == run]
        costs: dict[str, Cost | None] = {}
        if sweep is None:
            costs["training"] = training_cost(fields, results.epochs[results.epochs["run"] == run])
        else:
            costs["trials"] = sweep_cost(sweep, results.trials[results.trials["sweep"] == sweep["sweep"]], fields)
        costs["evaluation"] = evaluation_cost(mine)
        revision = str(fields.get("revision", ""))[:10]
        lasted = seconds_between(fields.get("started"), fields.get("finished"))
        descriptions.append(
            {
                "name": run,
                "kind": "run" if sweep is None else "study",
                "path": fields["path"],
                "extended": [(_extension(one), str(one.get("command", ""))) for one in fields.get("extended", [])],
                "tags": fields.get("tags", "").split(),
                "note": fields.get("note", ""),
                "state": (states or {}).get(fields["path"], ""),
                "command": fields.get("command", ""),
                "started": fields.get("started", ""),
                "duration": "" if lasted is None else duration(lasted),
                "revision": f"{revision} + changes" if revision and fields.get("dirty") else revision,
                "hardware": _hardware(fields),
                "costs": {name: cost for name, cost in costs.items() if cost is not None},
                "facts": {part: facts for part in _FACTS if (facts := _part(fields, part))},
                "settings": list(changed.get(fields["path"], ())),
                "are_settings_known": fields["path"] in changed,
                "experiment": fields.get("experiment"),
            }
        )
    return descriptions


def _extension(extension: Mapping[str, Any]) -> str:
    """Return a sentence on a run that was trained for more epochs than it was started with."""
    after, old, new = (extension.get(name, "?") for name in ("after", "from", "to"))
    return f"Trained further after epoch {after}: from {old} to {new} epochs."


def total_cost(runs: Sequence[Mapping[str, Any]]) -> Cost | None:
    """Return the cost of all runs and studies; None if no record holds seconds."""
    costs = [cost for run in runs for cost in run["costs"].values()]
    total = Cost()
    for cost in costs:
        total = total.plus(cost)
    return total if costs else None


def failures(results: Results) -> list[dict[str, str]]:
    """Return the failures: failed trials, and runs that wrote why they stopped."""
    failed = []
    for trial in records(results.trials):
        if trial["state"] == "failed" or is_known(trial["error"]):
            error = trial["error"] if is_known(trial["error"]) else "no error was recorded"
            log = trial["log"] if is_known(trial["log"]) else ""
            failed.append({"what": f"{trial['sweep']}, trial {trial['trial']}", "error": str(error), "log": str(log)})
    for run in records(results.runs):
        folder = Path(run["path"])
        if content := _json(folder / _FAILED):
            error = str(content.get("problem", "no error was recorded"))
            failed.append({"what": run["run"], "error": error, "log": str(folder / _FAILED)})
        elif content := _json(folder / _NON_FINITE):
            error = f"the loss was not finite in epoch {content.get('epoch')}, step {content.get('step')}"
            failed.append({"what": run["run"], "error": error, "log": str(folder / _NON_FINITE)})
    return failed


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as dicts by column name."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _hardware(known: Mapping[str, Any]) -> str:
    said = [str(known["hardware.host"])] if "hardware.host" in known else []
    said += [f"{known['hardware.cpus']:g} CPUs"] if isinstance(known.get("hardware.cpus"), (int, float)) else []
    said += [f"{known['hardware.memory_gib']} GiB"] if "hardware.memory_gib" in known else []
    gpus = known.get("hardware.gpus")
    return ", ".join([*said, *(map(str, gpus) if isinstance(gpus, list) else [])])


def _part(fields: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return the facts of one part; whole numbers without the decimal point that columns with gaps give them."""
    facts = {name.removeprefix(f"{part}."): value for name, value in fields.items() if name.startswith(f"{part}.")}
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in facts.items()
    }


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
