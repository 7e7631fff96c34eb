"""Use a database for studies: check it before anything is written, and retry while it is busy or unreachable."""

from __future__ import annotations

import functools
import json
import random
import re
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from alembic.runtime.migration import MigrationContext
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from hcl.errors import ConfigError, StorageError
from orchestration.console import notes

PATIENCE_S = 60.0
"""The longest time that a database may be busy or unreachable."""
_LONGEST_PAUSE_S = 5.0
_SECRET = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)
_LASTING = (
    "readonly", "read-only", "read only", "disk is full", "no space", "disk i/o", "no such table", "malformed",
    "not a database", "unable to open", "permission denied", "authentication", "access denied",
)  # fmt: skip
"""Parts of errors for which retrying does not help."""
_OPTUNA = frozenset(("studies", "trials", "version_info", "alembic_version"))
Answer = TypeVar("Answer")


def without_password(place: str | None) -> str | None:
    """Return a storage in a form that may be shown and written, without its password."""
    if place is None or "://" not in place:
        return place
    try:
        url = make_url(place)
        # Else a user and password would be taken for a path, or a part of the password for the host.
        if (url.username is not None or "@" not in place) and "@" not in (url.host or ""):
            query = {key: "***" if _SECRET.search(key) else value for key, value in url.query.items()}
            return url.set(query=query).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        pass
    return place.partition("://")[0] + "://..."


def sqlite_file(url: str) -> Path | None:
    """Return the file of an SQLite URL; None for another database."""
    parsed = _parsed(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database.startswith("file:"):
        return None
    return Path(parsed.database).absolute()


def check_database(url: str) -> None:
    """Check a database without changing it; a missing SQLite file is accepted, because it can be created.

    Raises:
        ConfigError: if it is no URL of a usable database, or the database is not Optuna's.
        StorageError: if it cannot be reached, or another version of Optuna created it.
    """
    path, shown = sqlite_file(url), _shown(url)
    if _parsed(url).get_backend_name() == "sqlite" and path is None and "file:" not in url:
        raise ConfigError(
            "is a database in memory, which is lost when the command ends", where=shown, remedy="use sqlite:///FILE"
        )
    if path is not None and not path.exists():
        if not path.parent.is_dir():
            raise StorageError(
                f"the database cannot be used: there is no folder {path.parent}",
                where=shown,
                remedy="create that folder",
            )
        return
    if path is not None and path.is_dir():
        raise ConfigError("is a folder, not a database", where=shown, remedy=f"name a file in it: {path}/studies.db")
    patiently(lambda: _check_tables(url, is_file=path is not None), url)


def open_database(url: str) -> RDBStorage:
    """Return Optuna's storage in a database, and create missing tables. Raises as `check_database`."""
    check_database(url)
    return patiently(lambda: PatientDatabase(_template(url), engine_kwargs={"pool_pre_ping": True}), url)


class PatientDatabase(RDBStorage):
    """Retry each call of Optuna's database while it is busy or unreachable.

    A call that was repeated because its answer was lost does no harm: a value that is set again is the same, and a
    trial whose number nobody received is taken up when the study is opened the next time.
    """


def patiently(ask: Callable[[], Answer], url: str, *, patience_s: float | None = None) -> Answer:
    """Call `ask` and retry it while the database is busy or unreachable; the first retry prints a notice.

    Raises:
        ConfigError: if it is no URL of a usable database.
        StorageError: if it cannot be used, or did not answer for `patience_s`, by default PATIENCE_S.
    """
    patience_s = PATIENCE_S if patience_s is None else patience_s
    began, pause = time.monotonic(), 0.1
    is_repeated = False
    while True:
        try:
            return ask()
        except UpdateFinishedTrialError:
            if not is_repeated:
                raise
            return True  # type: ignore[return-value]  # the first call had succeeded, but its answer was lost
        except (ArgumentError, ImportError) as error:
            raise _no_url(url, error) from error
        except json.JSONDecodeError as error:
            raise StorageError(
                f"the database holds a value that Optuna has not written: {error}",
                where=_shown(url),
                remedy="restore it from a backup",
            ) from error
        except (StorageInternalError, SQLAlchemyError, OSError) as error:
            reason = _reason(error, url)
            if not _passes(error):
                raise StorageError(
                    f"the database cannot be used: {reason}",
                    where=_shown(url),
                    remedy="check that it runs and is writable, its free space, and the user and password of its URL; "
                    "repeat the command to resume",
                ) from error
            waited_s = time.monotonic() - began
            if waited_s >= patience_s:
                raise StorageError(
                    f"the database has been busy or unreachable for {waited_s:.0f} s: {reason}",
                    where=_shown(url),
                    remedy="check whether it runs and which process locks it, then repeat the command to resume",
                ) from error
            if not is_repeated:
                notes.print(f"waiting for the database {_shown(url)}: {reason}", soft_wrap=True, markup=False)
            is_repeated = True
            time.sleep(min(pause * random.uniform(0.5, 1.5), max(0.0, patience_s - waited_s)))
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def _patient(name: str) -> Callable[..., Any]:
    """Return a method of Optuna's storage that is retried."""
    method = getattr(RDBStorage, name)

    @functools.wraps(method)
    def call(self: RDBStorage, *args: Any, **kwargs: Any) -> Any:
        return patiently(lambda: method(self, *args, **kwargs), self.url)

    return call


_CACHE_METHODS = ("_create_new_trial", "_set_trial_param", "_get_trials", "_get_best_trial_id")
for _name in (*sorted(BaseStorage.__abstractmethods__), *_CACHE_METHODS):  # methods that Optuna's cache calls
    if hasattr(RDBStorage, _name):
        setattr(PatientDatabase, _name, _patient(_name))


def _check_tables(url: str, *, is_file: bool) -> None:
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as connection:
            tables = set(sqlalchemy.inspect(connection).get_table_names())
            has_revision = "alembic_version" in tables
            revision = MigrationContext.configure(connection).get_current_revision() if has_revision else None
    finally:
        engine.dispose()
    if not tables or (not is_file and tables.isdisjoint(_OPTUNA)):
        return
    if not {"studies", "version_info"} <= tables:
        raise ConfigError(
            f"holds the tables of another program ({', '.join(sorted(tables)[:3])})",
            where=_shown(url),
            remedy="give studies a database of their own",
        )
    _check_revision(url, revision)


def _check_revision(url: str, revision: str | None) -> None:
    """Raise StorageError if another version of Optuna created the tables."""
    storage = RDBStorage(_template(url), skip_compatibility_check=True, skip_table_creation=True) if revision else None
    head = storage.get_head_version() if storage else None
    if storage is not None and revision == head:
        return
    if storage is None or revision in storage.get_all_versions():
        raise StorageError(
            "an older version of Optuna created this database",
            where=_shown(url),
            remedy=f"make a backup of it, then: optuna storage upgrade --storage {shlex.quote(_shown(url))}",
        )
    raise StorageError(
        f"a newer version of Optuna created this database (revision {revision!r:.40}, expected {head})",
        where=_shown(url),
        remedy="pip install --upgrade optuna, or use another database",
    )


def _template(url: str) -> str:
    """Return a URL as Optuna takes it, with braces doubled, because Optuna formats the URL."""
    return url.replace("{", "{{").replace("}", "}}")


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        raise _no_url(url, None) from error


def _no_url(url: str, error: Exception | None) -> ConfigError:
    """Return the error for an unusable URL, without a reason if that might contain a password."""
    return ConfigError(
        "is not the URL of a usable database" + (f": {_reason(error, url)}" if error else ""),
        where=_shown(url),
        remedy="use sqlite:///FILE or DIALECT+DRIVER://USER:PASSWORD@HOST/DATABASE, and install its driver",
    )


def _shown(url: str) -> str:
    return without_password(url) or url


def _passes(error: BaseException) -> bool:
    """Return whether an error may disappear when the call is retried."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    is_of_connection = isinstance(cause, (DBAPIError, PoolTimeoutError, ConnectionError)) and not isinstance(
        cause, (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.DataError, sqlalchemy.exc.ProgrammingError)
    )
    text = str(getattr(cause, "orig", None) or cause).lower()
    return is_of_connection and not any(part in text for part in _LASTING)


def _reason(error: BaseException, url: str) -> str:
    """Return the first line of a database's own message, without the password of its URL."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    lines = str(getattr(cause, "orig", None) or cause).strip().splitlines() or [type(cause).__name__]
    try:
        password = make_url(url).password
    except (ArgumentError, ValueError):
        return type(cause).__name__
    return lines[0].replace(str(password), "***") if password else lines[0]
