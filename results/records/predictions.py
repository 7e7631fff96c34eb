"""Keep the predictions of a set of queries: one record with a row a query, as JSON and as CSV.

- `predictions.json`: a `PredictionsRecord`
- `predictions.csv`: its rows for a spreadsheet
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from results.records.codec import SCHEMA, decode, encode
from results.records.files import read_checked, write_atomically, write_checked

JSON, CSV = "predictions.json", "predictions.csv"
OK = "ok"
COLUMNS = ("query", "status", "answer", "score", "margin", "confidence", "best_class", "second_class")
"""The first columns of the CSV file; one for each level, `frames` and `reason` follow."""


@dataclass(frozen=True, kw_only=True)
class PredictionsRecord:
    """Describe the predictions of some queries with the classes of a support.

    Attributes:
        run: name of the run.
        support: the clips of each class.
        rows: a row a query, with `query` and `status`. Of status `ok`: `answer` (a class, or `none`), `is_none`,
            `best_class`, `second_class`, `score`, `margin` (the best score minus the second), `confidence` (or None),
            `scores` by class, `levels` of the best class by name, `frames`, `nearest` (the support clip that matches
            best). Otherwise: `reason`. Any may have a `note`.
        none: the answer for a query that belongs to none of the classes.
        calibration: how confidences and the threshold were fitted and measured; empty without.
        uncalibrated: why there is no calibration.
        checkpoint_digest: digest of the weights.
        settings: settings that differ from the run's.
        frame_options: the frames that were made of videos.
    """

    KIND: ClassVar[str] = "predictions"

    run: str
    support: dict[str, list[str]]
    rows: list[dict[str, Any]]
    none: str = ""
    calibration: dict[str, Any] = field(default_factory=dict)
    uncalibrated: str = ""
    metric: str = ""
    checkpoint: str = ""
    checkpoint_digest: str = ""
    settings: list[str] = field(default_factory=list)
    frame_options: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    created: str = ""
    schema: int = SCHEMA


def write_predictions(folder: Path, record: PredictionsRecord) -> None:
    """Write the record and its CSV file into a folder. Raises UnwritableError."""
    import pandas as pd

    from results.tables.markup import to_csv

    levels = list(dict.fromkeys(name for row in record.rows for name in row.get("levels", {})))
    flat = [
        {
            **{name: row.get(name) for name in COLUMNS},
            **{name: row.get("levels", {}).get(name) for name in levels},
            "frames": row.get("frames"),
            "reason": row.get("reason") or row.get("note"),
        }
        for row in record.rows
    ]
    frame = pd.DataFrame(flat, columns=[*COLUMNS, *levels, "frames", "reason"])
    frame["frames"] = frame["frames"].astype("Int64")
    write_atomically(folder / CSV, to_csv(frame).encode("utf-8", errors="backslashreplace"))
    write_checked(folder / JSON, encode(record))


def read_predictions(folder: Path) -> PredictionsRecord:
    """Read the record of a folder. Raises RecordError."""
    return decode(PredictionsRecord, read_checked(folder / JSON), where=str(folder / JSON))
