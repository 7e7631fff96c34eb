"""Keep the records of a published table in one small file, with the tests of their differences and without answers.

The answers of 10,000 episodes take a megabyte a table, and are only needed to test differences. A shipped file holds
the figures of each evaluation, the differences of all methods that answered the same episodes, and the machines. A
table with its bold figures can be written from it as from the runs themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from results.errors import RecordError
from results.records.codec import SCHEMA, plain
from results.records.files import read_checked
from results.records.store import Results, load
from results.statistics.significance import Difference
from results.tables.cells import CELL
from results.tables.evaluated import Answers

NAME = "records.json"
KIND = "shipped"
_FIELDS = [
    *("run", "method", "train_dataset", *CELL, "queries", "episodes", "seed", "accuracy", "ci95", "ci95_classes"),
    *("ci95_videos", "protocol", "leaks_labels", "overlapping", "stale", "n_classes", "n_clips", "episodes_digest"),
    *("experiment_digest", "checkpoint_digest", "command", "created", "revision", "dirty"),
]
_MACHINE = ("cpu", "cpus", "gpus")


class Compared(NamedTuple):
    """Hold what a judge asks of two records: their difference."""

    difference: Difference


class Shipped:
    """Hold evaluation records with the differences between them.

    Attributes:
        records: a row for each evaluation, with the columns of `Results.evaluations` that a table needs; `path` is its
            number.
        machines: facts of the machine of each run, by run: `cpu`, `cpus`, `gpus`.
    """

    def __init__(self, content: Mapping[str, Any]):
        rows = [{**row, "path": str(index)} for index, row in enumerate(content["records"])]
        self.records = pd.DataFrame(rows, columns=[*_FIELDS, "path"])
        self.machines: Mapping[str, Mapping[str, Any]] = content["machines"]
        self._differences = {
            (str(row["a"]), str(row["b"])): Difference(row["mean"], row["over"], row["half_width"], row["p_value"])
            for row in content["differences"]
        }

    def compare(self, a: Mapping[Any, Any], b: Mapping[Any, Any]) -> Compared | None:
        """Return the difference of two records; None if they did not answer the same episodes."""
        if (found := self._differences.get((a["path"], b["path"]))) is not None:
            return Compared(found)
        other = self._differences.get((b["path"], a["path"]))
        return None if other is None else Compared(other._replace(mean=-other.mean))


def shipped_content(loaded: Results) -> dict[str, Any]:
    """Return the content of a shipped file: the evaluations of runs, and the tests of their differences."""
    rows, answers, differences = loaded.evaluations.to_dict("records"), Answers(), []
    for (a, first), (b, second) in itertools.combinations(enumerate(rows), 2):
        if any(first[name] != second[name] for name in (*CELL, "episodes_digest")):
            continue
        compared = answers.compare(first, second)
        if compared is not None:
            differences.append({"a": a, "b": b, **compared.difference._asdict()})
    runs = {row["run"]: row for row in loaded.runs.to_dict("records")}
    machines = {
        run: {name: row[key] for name in _MACHINE if _is_known(row.get(key := f"hardware.{name}"))}
        for run, row in runs.items()
    }
    records = [{name: row[name] if _is_known(row.get(name)) else None for name in _FIELDS} for row in rows]
    content = {"kind": KIND, "schema": SCHEMA, "records": records, "differences": differences, "machines": machines}
    return {name: plain(value) for name, value in content.items()}


def read_shipped(paths: Sequence[Path]) -> Shipped:
    """Return the records of a shipped file or of the folder that holds it; or else of runs, with their differences.

    Raises:
        RecordError: if a path does not exist, or a file is damaged or no shipped file.
    """
    files = [path / NAME if (path / NAME).exists() else path for path in paths]
    if len(files) != 1 or files[0].suffix != ".json":
        return Shipped(shipped_content(load(paths)))
    content = read_checked(files[0])
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise RecordError(f"holds no shipped records: expected kind={KIND!r}", where=str(files[0]), remedy=_REMEDY)
    if content.get("schema", 0) > SCHEMA:
        raise RecordError("was written by a newer version", where=str(files[0]), remedy="update the package")
    try:
        return Shipped(content)
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"lacks a field: {error}", where=str(files[0]), remedy=_REMEDY) from error


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and value != value)


_REMEDY = "write it again: hcl results export FOLDER RUN --format records"
