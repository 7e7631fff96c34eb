"""Write frames and tables as files for other programs: CSV, Parquet, JSON, LaTeX, Markdown."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from results.errors import RecordError
from results.exports import shipped
from results.exports.choices import Format
from results.records.codec import SCHEMA, plain
from results.records.files import checked, read_json, write_atomically, write_json
from results.records.provenance import now
from results.records.settings import NAME
from results.records.store import Results
from results.tables.ablation import ablations
from results.tables.accuracy import accuracy_table, levels_table, trials_table
from results.tables.evaluated import Evaluated
from results.tables.markup import to_csv, to_latex, to_markdown
from results.tables.published import published_table

FRAMES = ("runs", "epochs", "evaluations", "episodes", "sweeps", "trials")
MANIFEST = "export.json"
"""File that lists every file of an export with its rows, the schema of the records, and unreadable files."""


def all_tables(
    loaded: Results, ignored: Collection[str] = (NAME,), evaluated: Evaluated | None = None
) -> dict[str, pd.DataFrame]:
    """Return every table that is not empty, by name.

    Args:
        ignored: settings in which runs of an ablation may differ, such as those of the machine.
        evaluated: the evaluations of `found`, where other parts of a report use them, too.
    """
    evaluated = evaluated or Evaluated(loaded.evaluations)
    tables = {"accuracy": accuracy_table(evaluated)}
    if len(evaluated.records):
        tables |= {"levels": levels_table(evaluated), "published": published_table(evaluated)}
    of_terms = ablations(loaded, ignored=ignored, answers=evaluated.answers)
    tables |= {f"ablation-{number}": table for number, table in enumerate(of_terms, 1)}
    if len(loaded.trials):
        tables["trials"] = trials_table(loaded.trials)
    return {name: table for name, table in tables.items() if len(table)}


def export(loaded: Results, folder: Path | str, form: Format, ignored: Collection[str] = (NAME,)) -> list[Path]:
    """Write the tidy frames, the tables as `table-NAME`, and a manifest; LaTeX and Markdown get only the tables.

    `records` writes only one small file of the evaluations and their differences (`results.exports.shipped`).
    Files of an earlier export are replaced. Nested values become JSON texts in formats that cannot hold them, and stay
    nested in JSON.

    Raises:
        RecordError: if the folder cannot be written, or holds a file of one of these names that no export wrote.
    """
    folder = Path(folder)
    if form == "records":
        written, rows = {shipped.NAME: _shipped(loaded)}, {shipped.NAME: len(loaded.evaluations)}
    else:
        written, rows = _frames_and_tables(loaded, form, ignored)
    earlier = _earlier(folder)
    if foreign := [name for name in (*written, MANIFEST) if name not in earlier and (folder / name).exists()]:
        raise RecordError(
            f"holds {foreign[0]}, which no export has written",
            where=str(folder),
            remedy="choose another folder, or move the file away",
        )
    # The files are listed before they are written, so that a kill leaves no unlisted file.
    files = sorted({*earlier, *written, MANIFEST})
    about: dict[str, Any] = {"kind": "export", "schema": SCHEMA, "created": now(), "rows": {}, "files": files}
    write_json(folder / MANIFEST, about)
    paths = [write_atomically(folder / name, content) for name, content in written.items()]
    skipped = [*loaded.skipped, *(loaded.episodes.attrs["skipped"] if "episodes" in loaded.__dict__ else ())]
    about["rows"] = rows
    about["skipped"] = [file._asdict() for file in skipped]
    return [*paths, write_json(folder / MANIFEST, about)]


def _frames_and_tables(
    loaded: Results, form: Format, ignored: Collection[str]
) -> tuple[dict[str, bytes], dict[str, int]]:
    """Return the content of the files of an export, and the numbers of their rows, by name."""
    ending, write_frame, write_table = _WRITERS[form]
    frames: dict[str, pd.DataFrame] = {}
    if write_frame is not None:
        frames = {name: getattr(loaded, name) for name in FRAMES}
    tables = {f"table-{name}": table for name, table in all_tables(loaded, ignored).items()}
    written = {f"{name}.{ending}": write_frame(frame) for name, frame in frames.items() if write_frame is not None}
    written |= {f"{name}.{ending}": write_table(table) for name, table in tables.items()}
    return written, {f"{name}.{ending}": len(frame) for name, frame in (frames | tables).items()}


def _shipped(loaded: Results) -> bytes:
    return _bytes(json.dumps(checked(shipped.shipped_content(loaded)), ensure_ascii=False, indent=1) + "\n")


def _earlier(folder: Path) -> set[str]:
    """Return the names of the files that earlier exports have written into a folder."""
    if not (folder / MANIFEST).exists():
        return set()
    content = read_json(folder / MANIFEST)
    if not isinstance(content, dict) or content.get("kind") != "export":
        return set()
    return {MANIFEST, *map(str, content.get("rows", ())), *map(str, content.get("files", ()))}


def write_tables(
    loaded: Results, folder: Path | str, ignored: Collection[str] = (NAME,), evaluated: Evaluated | None = None
) -> list[Path]:
    """Write the tables beside a page; the arguments are those of `all_tables`.

    results.md and results.tex hold all tables, results.csv the accuracies, evaluations.csv every record, unrounded.
    """
    folder, tables = Path(folder), all_tables(loaded, ignored, evaluated)
    first = tables.pop("accuracy", None)
    first = accuracy_table(loaded.evaluations) if first is None else first
    texts = {
        "results.md": "\n".join(map(to_markdown, [first, *tables.values()])),
        "results.csv": to_csv(first),
        "results.tex": "\n".join(map(to_latex, [first, *tables.values()])),
        "evaluations.csv": to_csv(loaded.evaluations),
    }
    return [write_atomically(folder / name, _bytes(text)) for name, text in texts.items()]


TABLES = ("results.md", "results.csv", "results.tex", "evaluations.csv")


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with one kind of values per column: mixed and nested values all become JSON texts."""
    flat = frame.copy()
    flat.attrs = {}
    for position, name in enumerate(frame.columns):
        if pd.api.types.is_object_dtype(flat.dtypes.iloc[position]):
            present = [value for value in frame[name] if not _is_missing(value)]
            if len({_kind(value) for value in present}) > 1 or any(_kind(value) is object for value in present):
                flat[name] = [None if _is_missing(value) else json.dumps(plain(value)) for value in frame[name]]
    return flat


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _kind(value: Any) -> type:
    """Return bool, float (any number), str, or object for nested values."""
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
    """Return a list of objects, one for each row; missing values are null."""
    return _bytes(json.dumps(plain(frame.to_dict("records")), ensure_ascii=False, allow_nan=False))


def _json_table(table: pd.DataFrame) -> bytes:
    """Return caption, columns, rows, footnotes, and the bold cells (row, column)."""
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
"""By format: the ending of files, the writer of frames (None: not written), and the writer of tables."""
