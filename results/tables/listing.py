"""List runs, studies and evaluations: a row for each, with values that can be sorted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from results.errors import RecordError
from results.records.settings import regime_in, settings_of
from results.records.store import Results
from results.tables.cells import footnotes, marked

Row = dict[str, Any]


def runs_listing(loaded: Results) -> pd.DataFrame:
    """Return a row for each run: data set, regime, epochs, best accuracy on val in percent, evaluations, start."""
    evaluations = loaded.evaluations["run"].value_counts()
    rows = []
    for run in loaded.runs.to_dict("records"):
        settings = _settings(run)
        epochs = loaded.epochs[loaded.epochs["run"] == run["run"]]
        rows.append(
            {
                "run": run["run"],
                "data set": settings.get("data.dataset"),
                "regime": regime_in(settings),
                "backbone": settings.get("model.backbone"),
                "epochs": epochs["epoch"].max() if len(epochs) else 0,
                "of": settings.get("train.epochs"),
                "val %": 100 * epochs["val_accuracy"].max() if "val_accuracy" in epochs and len(epochs) else None,
                "evaluations": int(evaluations.get(run["run"], 0)),
                "seed": settings.get("seed"),
                "tags": _known(run.get("tags")),
                "note": _known(run.get("note")),
                "started": _known(run.get("started")),
                "revision": (_known(run.get("revision")) or "")[:10] + ("+" if run.get("dirty") is True else ""),
            }
        )
    columns = ["run", "data set", "regime", "backbone", "epochs", "of", "val %", "evaluations", "seed", "tags", "note"]
    return pd.DataFrame(rows, columns=[*columns, "started", "revision"])


def studies_listing(loaded: Results) -> pd.DataFrame:
    """Return a row for each study: its objective, the number of its trials that have ended, and the best of them."""
    rows = []
    for study in loaded.sweeps.to_dict("records"):
        states = loaded.trials.loc[loaded.trials["sweep"] == study["sweep"], "state"]
        rows.append(
            {
                "study": study["sweep"],
                "objective": _known(study["objective"]),
                "aim": {"max": "largest", "min": "smallest"}.get(study["mode"]),
                "ended": int((states != "running").sum()),
                "of": _known(study["n_trials"]),
                "failed": int((states == "failed").sum()),
                "best": _known(study["best_value"]),
                "trial": _known(study["best_trial"]),
                "sampler": _known(study["sampler"]),
                "minutes": study["seconds"] / 60 if _known(study["seconds"]) is not None else None,
                "created": _known(study["created"]),
                "tags": _known(study.get("tags")),
                "note": _known(study.get("note")),
            }
        )
    columns = ["study", "objective", "aim", "ended", "of", "failed", "best", "trial", "sampler", "minutes", "created"]
    columns += ["tags", "note"]
    return pd.DataFrame(rows, columns=columns)


def evaluations_listing(loaded: Results) -> pd.DataFrame:
    """Return a row for each record: method with marks, cell, and accuracy in percent with both intervals."""
    evaluations = loaded.evaluations
    table = pd.DataFrame(
        {
            "run": evaluations["run"],
            "method": [marked(record) for record in evaluations.to_dict("records")],
            "trained on": evaluations["train_dataset"],
            "data set": evaluations["dataset"],
            "partition": evaluations["partition"],
            "way": evaluations["way"],
            "shot": evaluations["shot"],
            "accuracy %": 100 * evaluations["accuracy"].astype(float),
            "± episodes": 100 * evaluations["ci95"].astype(float),
            "± classes": 100 * evaluations["ci95_classes"].astype(float),
            "episodes": evaluations["episodes"],
            "created": evaluations["created"],
        }
    )
    table.attrs["footnotes"] = footnotes(evaluations)
    return table


LISTINGS = {"runs": runs_listing, "studies": studies_listing, "evaluations": evaluations_listing}


def _settings(run: Mapping[Any, Any]) -> Row:
    """Return the settings of a run's experiment.yaml; empty if it is missing or damaged."""
    try:
        return settings_of(run["experiment"]) if isinstance(run["experiment"], str) else {}
    except RecordError:
        return {}


def _known(value: Any) -> Any:
    """Return the value, or None for the missing values of pandas."""
    return None if value is None or value != value else value
