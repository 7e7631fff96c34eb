"""Where a study's ledger lies: a journal file in its folder, another file, or a database."""

from __future__ import annotations

import json
import os
from pathlib import Path

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from hcl.errors import ConfigError, StorageError
from hcl.storing import remedy_for

JOURNAL = "optuna.journal"
_LONGEST_LINE = 1 << 24
_DAMAGED = "bring back a whole copy of it, or begin the study anew with --restart"
_STALE_LOCK_S = 5  # a line takes milliseconds to write


def open_storage(folder: Path, place: str | None) -> BaseStorage:
    """Optuna's storage of a study.

    Args:
        folder: of the study, where its journal lies.
        place: a database URL, or another journal file; None: the journal in the folder.
    Raises:
        ConfigError: no URL of a database that is known here.
        StorageError: it cannot be reached or written.
    """
    if place and "://" in place:
        return _database(place)
    path = Path(place) if place else folder / JOURNAL
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_half_a_line(path)
        lock = JournalFileOpenLock(str(path), grace_period=_STALE_LOCK_S)
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except OSError as error:
        raise StorageError(
            f"cannot be written: {error.strerror}", where=str(path), remedy=f"{remedy_for(error)} (--runs, --storage)"
        ) from error
    except Exception as error:  # Optuna replays the journal, and fails in as many ways as a line can be wrong
        raise StorageError(f"is not a study's journal: {error!r:.200}", where=str(path), remedy=_DAMAGED) from error


def without_password(place: str | None) -> str | None:
    """A storage as it may be shown and written down."""
    if place is None or "://" not in place:
        return place
    try:
        url = make_url(place)
        if url.username is not None or "@" not in place:  # else somebody's name and password are taken for a path
            return url.render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        pass
    return place.partition("://")[0] + "://..."


def _database(url: str) -> BaseStorage:
    shown = without_password(url) or url
    try:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except (ArgumentError, ImportError) as error:
        raise ConfigError(
            f"is not the URL of a database that can be used here: {error}",
            where=shown,
            remedy="give sqlite:///FILE or DIALECT+DRIVER://USER:PASSWORD@HOST/DATABASE, and install its driver",
        ) from error
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise StorageError(
            f"the database cannot be used: {reason}", where=shown, remedy="check that it runs"
        ) from error


def _drop_half_a_line(path: Path) -> None:
    """A process killed while it wrote may have left one, which the next line would be glued to.

    Raises ValueError where the last whole line is not one of a journal.
    """
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - _LONGEST_LINE)
        file.seek(start)
        whole, newline, _ = file.read().rpartition(b"\n")
        if newline:
            # Optuna passes over a last line that is none, and would stumble on it once another follows.
            json.loads(whole[whole.rfind(b"\n") + 1 :])
        end = start + len(whole) + len(newline)
        if end < size:
            file.truncate(end)
