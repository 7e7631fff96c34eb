"""What a disk refuses, in words: full, read only, or not ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hcl.errors import StorageError


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Raise StorageError, which names `path`, for an OSError of the block."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # Of a full disk torch.save says that a position is unexpected, while it handles the system's own error.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise StorageError(
            f"cannot be written: {cause.strerror or cause}",
            where=str(path),
            remedy="free space or mend its permissions, then repeat the command, which goes on where it stopped",
        ) from error
