"""Is a folder one that runs and data can lie in? Asked before any work, and never for long. What a disk refused later,
wherever it was met, is told as such.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from pathlib import Path

from hcl.errors import ConfigError, StorageError

ANSWER_S = 10.0
"""How long a file system may take to answer."""

_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)

_URI = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib makes s3:/bucket of s3://bucket


def check_place(folder: Path, option: str) -> Path:
    """The folder itself, if its file system answers; whether it exists and can be written the command finds out.

    Raises:
        ConfigError: a URI: object stores have neither the locks nor the renames that runs rely on.
        StorageError: no answer within ANSWER_S: a network file system whose server is gone.
    """
    if _URI.match(str(folder)):
        raise ConfigError(
            f"{str(folder)!r} is a URI, and runs and data need a file system with locks and renames",
            where=option,
            remedy="give a folder on storage that every node sees (NFS, Lustre, EFS, a ReadWriteMany volume)",
        )
    answered = threading.Event()

    def look() -> None:
        os.path.exists(folder)
        answered.set()

    threading.Thread(target=look, daemon=True).start()
    if not answered.wait(ANSWER_S):
        raise StorageError(
            f"does not answer within {ANSWER_S:g} s",
            where=str(folder),
            remedy="check the server of that file system and the network, or give another folder",
        )
    return folder


def storage_error(error: BaseException, folder: Path) -> StorageError | None:
    """The disk's part in an error that came through Ray, torch or Optuna; None where it has none.

    Args:
        folder: what was written, where the error does not say.
    """
    seen: BaseException | None = error
    while seen is not None:
        number = getattr(seen, "errno", None)
        for code in _OF_DISK:
            if number == code or os.strerror(code) in str(seen):
                return StorageError(
                    f"cannot be written: {os.strerror(code)}",
                    where=str(getattr(seen, "filename", None) or folder),
                    remedy="free space or mend the mount, then repeat the command, which goes on where it stopped",
                )
        seen = seen.__cause__ or seen.__context__
    return None
