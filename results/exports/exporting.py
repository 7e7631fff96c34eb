"""Frames and tables as files for other programs: CSV, Parquet, JSON, LaTeX, Markdown."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from results.errors import RecordError
from results.records.codec import SCHEMA, plain
from results.records.files import read_json, write_atomically, write_json
from results.records.provenance import now
from results.records.settings import NAME
from results.records.store import Results
from results.tables.ablation import ablations
from results.tables.accuracy import accuracy_table, levels_table, trials_table
from results.tables.evaluated import Evaluated
from results.tables.markup import to_csv, to_latex, to_markdown
from results.tables.published import published_table

Format = Literal["csv", "parquet", "json", "latex", "markdown"]
FRAMES = ("runs", "epochs", "evaluations", "episodes", "sweeps", "trials")
MANIFEST = "export.json"
"""Names every file of an export with its rows, the schema of the records, and what could not be read."""


def all_tables(
    found: Results, ignored: Collection[str] = (NAME,), evaluated: Evaluated | None = None
) -> dict[str, pd.DataFrame]:
    """Make every table that there is something for, by name.

    Args:
        ignored: settings in which runs of an ablation may differ, such as those of the machine.
        evaluated: the evaluations of `found`, where other parts of a report use them, too.
    """
    evaluated = evaluated or Evaluated(found.evaluations)
    tables = {"accuracy": accuracy_table(evaluated)}
    if len(evaluated.records):
        tables |= {"levels": levels_table(evaluated), "published": published_table(evaluated)}
    of_terms = ablations(found, ignored=ignored, answers=evaluated.answers)
    tables |= {f"ablation-{number}": one for number, one in enumerate(of_terms, 1)}
    if len(found.trials):
        tables["trials"] = trials_table(found.trials)
    return {name: table for name, table in tables.items() if len(table)}


def export(found: Results, folder: Path | str, form: Format, ignored: Collection[str] = (NAME,)) -> list[Path]:
    """Write the tidy frames and the tables, `table-NAME`, and a manifest; LaTeX and Markdown have the tables only.

    Files of an earlier export are replaced. Nested values become JSON texts where a format has no place for
    them, and are left as they are in JSON.

    Raises:
        RecordError: a folder that cannot be written, or holds a file of one of these names that no export has written.
    """
    folder, (ending, write_frame, write_table) = Path(folder), _WRITERS[form]
    frames: dict[str, pd.DataFrame] = {}
    if write_frame is not None:
        frames = {name: getattr(found, name) for name in FRAMES}
    tables = {f"table-{name}": table for name, table in all_tables(found, ignored).items()}
    written = {f"{name}.{ending}": write_frame(frame) for name, frame in frames.items() if write_frame is not None}
    written |= {f"{name}.{ending}": write_table(table) for name, table in tables.items()}
    earlier = _earlier(folder)
    if foreign := [name for name in (*written, MANIFEST) if name not in earlier and (folder / name).exists()]:
        raise RecordError(
            f"holds {foreign[0]}, which no export has written",
            where=str(folder),
            remedy="name another folder, or move the file away",
        )
    files = sorted(
        {*earlier, *written, MANIFEST}
    )  # named before they are written: a kill leaves none of unknown origin
    about: dict[str, Any] = {"kind": "export", "schema": SCHEMA, "created": now(), "rows": {}, "files": files}
    write_json(folder / MANIFEST, about)
    paths = [write_atomically(folder / name, content) for name, content in written.items()]
    skipped = [*found.skipped, *(found.episodes.attrs["skipped"] if frames else ())]
    about["rows"] = {f"{name}.{ending}": len(one) for name, one in (frames | tables).items()}
    about["skipped"] = [one._asdict() for one in skipped]
    return [*paths, write_json(folder / MANIFEST, about)]


def _earlier(folder: Path) -> set[str]:
    """Return the names of the files that earlier exports have written into a folder."""
    if not (folder / MANIFEST).exists():
        return set()
    content = read_json(folder / MANIFEST)
    if not isinstance(content, dict) or content.get("kind") != "export":
        return set()
    return {MANIFEST, *map(str, content.get("rows", ())), *map(str, content.get("files", ()))}


def write_tables(
    found: Results, folder: Path | str, ignored: Collection[str] = (NAME,), evaluated: Evaluated | None = None
) -> list[Path]:
    """Write what stands beside a page: results.md and results.tex with all tables, results.csv with the accuracies, and
    evaluations.csv with every record, unrounded. Arguments as of `all_tables`."""
    folder, tables = Path(folder), all_tables(found, ignored, evaluated)
    first = tables.pop("accuracy", None)
    first = accuracy_table(found.evaluations) if first is None else first
    texts = {
        "results.md": "\n".join(map(to_markdown, [first, *tables.values()])),
        "results.csv": to_csv(first),
        "results.tex": "\n".join(map(to_latex, [first, *tables.values()])),
        "evaluations.csv": to_csv(found.evaluations),
    }
    return [write_atomically(folder / name, _bytes(text)) for name, text in texts.items()]


TABLES = ("results.md", "results.csv", "results.tex", "evaluations.csv")


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of one kind each: where texts, numbers and nested values meet, all of them become JSON texts."""
    flat = frame.copy()
    flat.attrs = {}
    for position, name in enumerate(frame.columns):
        if pd.api.types.is_object_dtype(flat.dtypes.iloc[position]):
            known = [value for value in frame[name] if not _is_missing(value)]
            if len({_kind(value) for value in known}) > 1 or any(_kind(value) is object for value in known):
                flat[name] = [None if _is_missing(value) else json.dumps(plain(value)) for value in frame[name]]
    return flat


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _kind(value: Any) -> type:
    """bool, float (any number), str, or object for what is nested."""
    if isinstance(value, bool):
        return bool
    return float if isinstance(value, (int, float)) else str if isinstance(value, str) else object


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(_flat(frame), preserve_index=False), buffer)
    return buffer.getvalue()


def _json_frame(frame: pd.DataFrame) -> bytes:
    """A list of objects, one a row; what is missing is null."""
    return _bytes(json.dumps(plain(frame.to_dict("records")), ensure_ascii=False, allow_nan=False))


def _json_table(table: pd.DataFrame) -> bytes:
    """Caption, columns, rows, footnotes, and the cells (row, column) that are bold."""
    about = {name: table.attrs.get(name, []) for name in ("footnotes", "bold")}
    content = {"caption": table.attrs.get("caption", ""), "columns": list(table.columns), **about}
    return _bytes(json.dumps(plain({**content, "rows": table.values.tolist()}), ensure_ascii=False, indent=1))


_Writer = Callable[[pd.DataFrame], bytes]
_WRITERS: dict[str, tuple[str, _Writer | None, _Writer]] = {
    "csv": ("csv", lambda frame: _bytes(to_csv(_flat(frame))), lambda table: _bytes(to_csv(table))),
    "parquet": ("parquet", _parquet, _parquet),
    "json": ("json", _json_frame, _json_table),
    "latex": ("tex", None, lambda table: _bytes(to_latex(table))),
    "markdown": ("md", None, lambda table: _bytes(to_markdown(table))),
}
"""By format: a file's ending, what writes a frame (None: frames are not written), what writes a table."""
