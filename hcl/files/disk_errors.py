"""Say in words why a disk refuses to write: it is full, read only, or belongs to somebody else."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hcl.errors import StorageError


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Convert an OSError of the block to a StorageError that names `path`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # On a full disk torch.save raises RuntimeError ("unexpected pos") while it handles the OSError.
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
    """Return the remedy for an error of the system by its errno, so that only a full disk asks for space."""
    number = error.errno if isinstance(error, OSError) else error
    if number is None:  # numpy raises without errno after a short write
        number = errno.ENOSPC
    return _REMEDIES.get(number, "check that file system")


_REMEDIES = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there, or have your quota raised",
    errno.EFBIG: "raise the largest size of a file (ulimit -f), or use a file system that takes larger ones",
    errno.EROFS: "mount it for writing, or give a folder that you may write",
    errno.EACCES: "make it writable for you, or give a folder that you may write",
    errno.EPERM: "make it writable for you, or give a folder that you may write",
    errno.EIO: "check the disk or the server behind it, which reports errors",
    errno.ESTALE: "mount it again",
    errno.ENOENT: "create the folder again, or mount its file system",
    errno.ENOTDIR: "move the file that is in the way, or give another folder",
    errno.EISDIR: "move the file that is in the way, or give another folder",
    errno.EEXIST: "move the file that is in the way, or give another folder",
    errno.ELOOP: "repair the links in the path",
    errno.ENAMETOOLONG: "use shorter names",
    errno.EMFILE: "raise the number of open files (ulimit -n 65536)",
    errno.ENFILE: "raise the number of open files of the machine (sysctl fs.file-max)",
    errno.ENOMEM: "free memory",
}
