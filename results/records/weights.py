"""Check whether a run still has the weights behind a result, by digests of its checkpoints that are kept beside them.

A checkpoint is read once. `checkpoints/.<name>.digest` keeps its digest with the size and the time of the file, and is
written again if the file has another size or time.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from results.errors import RecordError
from results.records.files import write_atomically


class Weights:
    """Recognise stale results; digests are cached in memory, because there may be thousands of records."""

    def __init__(self) -> None:
        self._present: dict[Path, str] = {}

    def is_stale(self, run_dir: Path | str, checkpoint: str, digest: str) -> bool:
        """Return whether the run now has other weights than those of this digest.

        The result is False if this is unknown: no digest was recorded, the run's checkpoints were left out when it was
        copied or deleted to save space, or the file cannot be read.

        Args:
            checkpoint: the file that was evaluated; only its name is used, because the run may have moved.
        """
        if not digest or not checkpoint:
            return False
        file = Path(run_dir) / "checkpoints" / Path(checkpoint).name
        if file not in self._present:
            self._present[file] = _present(file)
        return self._present[file] not in ("", digest)


def read_digest(file: Path) -> str:
    """Return the digest of the file's present content, twelve hexadecimal digits, and keep it for `Weights`.

    Raises OSError.
    """
    with file.open("rb") as content:
        digest, stat = hashlib.file_digest(content, "sha256").hexdigest()[:12], os.fstat(content.fileno())
    kept = {"digest": digest, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    if _kept(file) != kept:
        with suppress(RecordError):  # in somebody else's folder, it is read again next time
            write_atomically(_note(file), json.dumps(kept).encode())
    return digest


def _present(file: Path) -> str:
    """Return a checkpoint's present digest; empty if it is unknown, "gone" if only other checkpoints are left."""
    try:
        stat = file.stat()
        kept = _kept(file)
        if (kept.get("size"), kept.get("mtime_ns")) == (stat.st_size, stat.st_mtime_ns):
            return str(kept.get("digest", ""))
        return read_digest(file)
    except FileNotFoundError:
        return "gone" if any(file.parent.glob("[!.]*.pt")) else ""
    except OSError:
        return ""


def _kept(file: Path) -> dict[str, object]:
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(_note(file).read_bytes())
        return content if isinstance(content, dict) else {}
    return {}


def _note(file: Path) -> Path:
    return file.with_name(f".{file.name}.digest")
