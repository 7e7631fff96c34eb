"""What was run: settings, data, machines, time and cost of runs and studies; and what of it failed."""

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
    """A setting that is not at its default."""

    path: str
    value: str
    default: str
    meaning: str = ""


Changed = Mapping[str, Sequence[Setting]]
"""By a run's or a study's folder: its settings that differ from the defaults. Who knows the defaults makes it."""

_FACTS = ("resources", "hardware", "versions", "seeds", "digests", "data")
_NON_FINITE, _FAILED = "non_finite.json", "failed.json"  # a run's own words for why it stopped


def runs_overview(results: Results, changed: Changed) -> list[dict[str, Any]]:
    """Every run and every study, in the order of the results."""
    sweeps = {row["path"]: row for row in records(results.sweeps)}
    found = []
    for row in records(results.runs):
        known = {name: value for name, value in row.items() if is_known(value)}
        run, sweep = known["run"], sweeps.get(known["path"])
        mine = results.evaluations[results.evaluations["run"] == run]
        costs: dict[str, Cost | None] = {}
        if sweep is None:
            costs["training"] = training_cost(known, results.epochs[results.epochs["run"] == run])
        else:
            costs["trials"] = sweep_cost(sweep, results.trials[results.trials["sweep"] == sweep["sweep"]], known)
        costs["evaluation"] = evaluation_cost(mine)
        revision = str(known.get("revision", ""))[:10]
        lasted = seconds_between(known.get("started"), known.get("finished"))
        found.append(
            {
                "name": run,
                "kind": "run" if sweep is None else "study",
                "path": known["path"],
                "command": known.get("command", ""),
                "started": known.get("started", ""),
                "duration": "" if lasted is None else duration(lasted),
                "revision": f"{revision} + changes" if revision and known.get("dirty") else revision,
                "hardware": _hardware(known),
                "costs": {name: cost for name, cost in costs.items() if cost is not None},
                "facts": {part: facts for part in _FACTS if (facts := _part(known, part))},
                "settings": list(changed.get(known["path"], ())),
                "are_settings_known": known["path"] in changed,
                "experiment": known.get("experiment"),
            }
        )
    return found


def total_cost(runs: Sequence[Mapping[str, Any]]) -> Cost | None:
    """Of all runs and studies; None where no record holds seconds."""
    costs = [cost for run in runs for cost in run["costs"].values()]
    total = Cost()
    for cost in costs:
        total = total.plus(cost)
    return total if costs else None


def failures(results: Results) -> list[dict[str, str]]:
    """What failed: trials, and runs that left word of why they stopped."""
    found = []
    for trial in records(results.trials):
        if trial["state"] == "failed" or is_known(trial["error"]):
            said = trial["error"] if is_known(trial["error"]) else "no error was recorded"
            log = trial["log"] if is_known(trial["log"]) else ""
            found.append({"what": f"{trial['sweep']}, trial {trial['trial']}", "error": str(said), "log": str(log)})
    for run in records(results.runs):
        folder = Path(run["path"])
        if content := _json(folder / _FAILED):
            said = str(content.get("problem", "no error was recorded"))
            found.append({"what": run["run"], "error": said, "log": str(folder / _FAILED)})
        elif content := _json(folder / _NON_FINITE):
            said = f"the loss was not finite in epoch {content.get('epoch')}, step {content.get('step')}"
            found.append({"what": run["run"], "error": said, "log": str(folder / _NON_FINITE)})
    return found


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, by the columns' names."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _hardware(known: Mapping[str, Any]) -> str:
    said = [str(known["hardware.host"])] if "hardware.host" in known else []
    said += [f"{known['hardware.cpus']:g} CPUs"] if isinstance(known.get("hardware.cpus"), (int, float)) else []
    said += [f"{known['hardware.memory_gib']} GiB"] if "hardware.memory_gib" in known else []
    gpus = known.get("hardware.gpus")
    return ", ".join([*said, *(map(str, gpus) if isinstance(gpus, list) else [])])


def _part(known: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The facts of one part; whole numbers without a decimal point, which the frame gives columns with gaps."""
    found = {name.removeprefix(f"{part}."): value for name, value in known.items() if name.startswith(f"{part}.")}
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in found.items()
    }


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
