"""Write files atomically, and read them with errors that name the problem."""

from __future__ import annotations

import io
import json
import os
import secrets
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from results.errors import RecordError, UnwritableError


class Skipped(NamedTuple):
    """Hold a file that was left out, with the reason."""

    file: str
    reason: str

    @classmethod
    def of(cls, file: Path, error: RecordError) -> Skipped:
        field = (error.where or "").removeprefix(str(file)).removeprefix(": ")
        return cls(str(file), f"{field}: {error.problem}" if field else error.problem)


def write_atomically(path: Path, content: bytes) -> Path:
    """Write under a temporary name in the same folder, then rename, so that readers see the old file or the new one."""
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
        raise UnwritableError(
            f"cannot be written: {error.strerror or error}",
            where=str(path),
            remedy="check permissions and free space, or choose another folder",
        ) from error
    return path


def read_bytes(path: Path) -> bytes:
    """Read a file. Raises RecordError."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise RecordError(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=str(path)) from error


def write_json(path: Path, payload: Mapping[str, Any]) -> Path:
    """Write an object as indented JSON. Raises UnwritableError."""
    text = json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False)
    return write_atomically(path, (text + "\n").encode("utf-8", errors="backslashreplace"))


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises RecordError for one that cannot be read or is no JSON."""
    content = read_bytes(path)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"is not JSON: {error}", where=str(path), remedy=_REMEDY) from error


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows to one parquet file. Its columns are all the names that occur, in order of first appearance.

    Raises:
        RecordError: values of one name are not of one kind.
        UnwritableError: as `write_atomically`.
    """
    import pyarrow as pa  # here, because most records are JSON, and most commands read no rows
    import pyarrow.parquet as pq

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
    marked = table.replace_schema_metadata({_CHECKSUM: checksum(table.to_pylist())})
    pq.write_table(marked, buffer)
    return write_atomically(path, buffer.getvalue())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a parquet file, without pandas metadata, so that only plain values come in.

    Raises RecordError for a damaged file. Parquet's own checksums do not cover names and counts, so the file also holds
    a checksum of its rows; files of older versions have none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = io.BytesIO(read_bytes(path))
    try:
        # read_table() would take "a=b" in a folder's name for a partition column
        # One thread: a pool that a command starts just before it ends can abort the process at its exit.
        table = pq.ParquetFile(content).read(use_threads=False)
        rows = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # text and times are converted last
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecordError(f"is not a parquet file: {reason}", where=str(path), remedy=_REMEDY) from error
    written = (table.schema.metadata or {}).get(_CHECKSUM.encode())
    if written is not None and written != checksum(rows).encode():
        raise RecordError(_CHANGED, where=str(path), remedy=_REMEDY)
    return rows


def checksum(content: Any) -> str:
    """Return the CRC-32 of plain values in hexadecimal, which does not depend on their form on disk."""
    return f"{zlib.crc32(json.dumps(content, sort_keys=True, default=str).encode()):08x}"


def write_checked(path: Path, payload: Mapping[str, Any]) -> Path:
    """Write an object as JSON, with a checksum of its other fields as the last field."""
    return write_json(path, checked(payload))


def checked(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with a checksum of its other fields as the last field."""
    plain = json.loads(json.dumps(payload, allow_nan=False))
    return {**payload, _CHECKSUM: checksum(plain)}


def read_checked(path: Path) -> Any:
    """Read a file of `write_checked`, or JSON of an older version. Raises RecordError if it has changed since."""
    content = read_json(path)
    check_content(content, path)
    return content


def check_content(content: Any, path: Path) -> None:
    """Raise RecordError for an object whose checksum, if it has one, does not match its other fields."""
    if not isinstance(content, dict) or _CHECKSUM not in content:
        return
    rest = {name: value for name, value in content.items() if name != _CHECKSUM}
    if content[_CHECKSUM] != checksum(rest):
        raise RecordError(
            _CHANGED, where=str(path), remedy=f"{_REMEDY}; to keep a change by hand, remove `{_CHECKSUM}`"
        )


_CHECKSUM = "crc32"
_CHANGED = "is damaged: its checksum does not match its content"
_REMEDY = "move it away; the command that wrote it will write it again"
