"""Open the storage of a study's ledger: a journal file in its folder, another file, or a database."""

from __future__ import annotations

from pathlib import Path

from optuna.storages import BaseStorage

from hcl.errors import ConfigError
from orchestration.sweeps.storage.database import check_database, open_database, sqlite_file
from orchestration.sweeps.storage.journal import Journal, check_journal, replayed

JOURNAL = "optuna.journal"


def open_storage(folder: Path, place: str | None) -> BaseStorage:
    """Return Optuna's storage of a study, and create it if it is missing.

    Args:
        folder: the study's folder, which holds its journal.
        place: a database URL, or another journal file; None: the journal in the folder.
    Raises:
        ConfigError: if it is no URL of a usable database, or no storage of studies.
        StorageError: if it cannot be reached or written, or is damaged.
    """
    if place and "://" in place:
        return open_database(place)
    journal = Journal(Path(place) if place else folder / JOURNAL)
    check_journal(journal.path)
    journal.create()
    return replayed(journal)


def check_storage(folder: Path, place: str | None) -> None:
    """Raise the errors of `open_storage` that can be found without changing anything.

    Raises:
        ConfigError: also if the journal is the ledger of another study's folder.
    """
    if place and "://" in place:
        check_database(place)
        return
    path = Path(place) if place else folder / JOURNAL
    if place and path.name == JOURNAL and path.absolute().parent != folder and (path.parent / "study.yaml").exists():
        raise ConfigError(
            "is the ledger of the study in that folder",
            where=str(path),
            remedy="use another file for --storage, or leave it out to keep the study in its folder",
        )
    check_journal(path)


def file_of(place: str) -> Path | None:
    """Return the file of a storage, a journal or SQLite's; None for a database on a server."""
    return sqlite_file(place) if "://" in place else Path(place).absolute()
