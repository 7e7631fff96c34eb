"""Files that are whole or absent: atomic writing, and reading that names what is wrong."""

from __future__ import annotations

import io
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from results.errors import RecordError


class Skipped(NamedTuple):
    """A file that was left out, and why."""

    file: str
    reason: str

    @classmethod
    def of(cls, file: Path, error: RecordError) -> Skipped:
        field = (error.where or "").removeprefix(str(file)).removeprefix(": ")
        return cls(str(file), f"{field}: {error.problem}" if field else error.problem)


def write_atomically(path: Path, content: bytes) -> Path:
    """Write under a temporary name in the same folder, then rename; readers see the old file or the new one."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RecordError(
            f"cannot be written: {error.strerror or error}",
            where=str(path),
            remedy="check permissions and free space, or choose another folder",
        ) from error
    return path


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise RecordError(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=str(path)) from error


def write_json(path: Path, payload: Mapping[str, Any]) -> Path:
    text = json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False)
    return write_atomically(path, (text + "\n").encode("utf-8", errors="backslashreplace"))


def read_json(path: Path) -> Any:
    content = read_bytes(path)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"is not JSON: {error}", where=str(path), remedy=_REMEDY) from error


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows to one parquet file; its columns are all the names that occur, in order of first appearance."""
    names = dict.fromkeys(name for row in rows for name in row)
    try:
        table = pa.table({name: [row.get(name) for row in rows] for name in names})
    except (pa.ArrowException, OverflowError, UnicodeError) as error:
        raise RecordError(
            f"a column cannot be stored: {error}",
            where=str(path),
            remedy="give each name values of one kind: numbers or text",
        ) from error
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return write_atomically(path, buffer.getvalue())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a parquet file, read without pandas metadata, so that nothing but plain values comes in."""
    content = io.BytesIO(read_bytes(path))
    try:
        # read_table() would take "a=b" in a folder's name for a partition column
        return pq.ParquetFile(content).read().to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # text and times are looked at last
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecordError(f"is not a parquet file: {reason}", where=str(path), remedy=_REMEDY) from error


_REMEDY = "move it away; the command that wrote it makes it again"
