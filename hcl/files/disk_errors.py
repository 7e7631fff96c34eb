"""Say in words why a disk refuses to write: it is full, read only, or belongs to somebody else."""

from __future__ import annotations

import errno
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
        raise refused(cause, path) from error


def refused(error: OSError, path: Path | str) -> StorageError:
    """Return the error that says why `path` cannot be written, with the remedy for the system's number."""
    return StorageError(
        f"cannot be written: {error.strerror or error}",
        where=str(path),
        remedy=f"{remedy_for(error)}, then repeat the command, which resumes where it stopped",
    )


def remedy_for(error: OSError | int | None) -> str:
    """Say what to do about what the system refuses, by its number: where there is room, nobody is told to make some."""
    number = error.errno if isinstance(error, OSError) else error
    if number is None:  # numpy counts what was written, and knows no number: it was cut short
        number = errno.ENOSPC
    return _REMEDIES.get(number, "check that file system")


_REMEDIES = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there, or have your quota raised",
    errno.EFBIG: "raise the largest size of a file (ulimit -f), or use a file system that takes larger ones",
    errno.EROFS: "mount it for writing, or give a folder that you may write",
    errno.EACCES: "make it writable for you, or give a folder that you may write",
    errno.EPERM: "make it writable for you, or give a folder that you may write",
    errno.EIO: "look at the disk or the server behind it, which reports errors",
    errno.ESTALE: "mount it again",
    errno.ENOENT: "make the folder again, or mount what it lies on",
    errno.ENOTDIR: "move what stands in the way, or give another folder",
    errno.EISDIR: "move what stands in the way, or give another folder",
    errno.EEXIST: "move what stands in the way, or give another folder",
    errno.ELOOP: "mend the links on the way there",
    errno.ENAMETOOLONG: "use shorter names",
    errno.EMFILE: "raise the number of open files (ulimit -n 65536)",
    errno.ENFILE: "raise the number of open files of the machine (sysctl fs.file-max)",
    errno.ENOMEM: "free memory",
}
