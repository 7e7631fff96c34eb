"""Where a study's ledger lies: a journal file in its folder, another file, or a database."""

from __future__ import annotations

from pathlib import Path

from optuna.storages import BaseStorage

from hcl.errors import ConfigError
from orchestration.sweeps.storage.database import check_database, open_database, sqlite_file
from orchestration.sweeps.storage.journal import Journal, check_journal, replayed

JOURNAL = "optuna.journal"


def open_storage(folder: Path, place: str | None) -> BaseStorage:
    """Return Optuna's storage of a study, made where there is none.

    Args:
        folder: of the study, where its journal lies.
        place: a database URL, or another journal file; None: the journal in the folder.
    Raises:
        ConfigError: no URL of a database that is known here, or another thing than a storage of studies.
        StorageError: it cannot be reached or written, or is damaged.
    """
    if place and "://" in place:
        return open_database(place)
    journal = Journal(Path(place) if place else folder / JOURNAL)
    check_journal(journal.path)
    journal.create()
    return replayed(journal)


def check_storage(folder: Path, place: str | None) -> None:
    """Raise what `open_storage` would, as far as it is known without changing anything.

    Raises:
        ConfigError: also of a journal that is the ledger of another study's folder.
    """
    if place and "://" in place:
        check_database(place)
        return
    path = Path(place) if place else folder / JOURNAL
    if place and path.name == JOURNAL and path.absolute().parent != folder and (path.parent / "study.yaml").exists():
        raise ConfigError(
            "is the ledger of the study in that folder",
            where=str(path),
            remedy="give --storage a file of its own; leave it out to keep a study in its folder",
        )
    check_journal(path)


def file_of(place: str) -> Path | None:
    """Return the file that a storage is, a journal or SQLite's; None of a database on a server."""
    return sqlite_file(place) if "://" in place else Path(place).absolute()
