"""JSON files that are whole or absent, with a checksum against bits that turn over."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hcl.errors import StorageError
from hcl.files.atomic import write_atomically

_CHECKSUM = "crc32"


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write an object as an indented JSON file. Raises StorageError, as `whole_file`."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    return write_atomically(path, f"{text}\n".encode("utf-8", errors="backslashreplace"))


def write_checked_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write an object as JSON, with the CRC-32 of its other fields as the last. Raises StorageError."""
    return write_json(path, {**content, _CHECKSUM: checksum(json.loads(json.dumps(content, allow_nan=False)))})


def read_json(path: Path, *, remedy: str) -> Any:
    """Read a JSON file, and compare its checksum where it has one: older files, and those of people, have none.

    Returns:
        The content without its checksum.

    Raises:
        StorageError: the file is missing or no JSON, or its content has changed since it was written.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise StorageError(f"cannot be read: {error.strerror or error}", where=str(path), remedy=remedy) from error
    except (ValueError, RecursionError) as error:
        raise StorageError(f"is not JSON: {error}", where=str(path), remedy=remedy) from error
    if not isinstance(content, dict) or _CHECKSUM not in content:
        return content
    if content.pop(_CHECKSUM) != checksum(content):
        raise StorageError(
            "is damaged: its checksum is that of other content",
            where=str(path),
            remedy=f"{remedy}; a change by hand counts once `{_CHECKSUM}` is taken out",
        )
    return content


def checksum(content: Any) -> str:
    """Return the CRC-32 of plain values in hexadecimal: the same for the same values, however they lie on disk."""
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"
