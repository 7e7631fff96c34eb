"""A database that keeps studies: refused before anything is written there, and waited for while it is busy or away."""

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
"""How long a database may be busy or away."""
_LONGEST_PAUSE_S = 5.0
_SECRET = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)
_LASTING = (
    "readonly", "read-only", "read only", "disk is full", "no space", "disk i/o", "no such table", "malformed",
    "not a database", "unable to open", "permission denied", "authentication", "access denied",
)  # fmt: skip
"""Parts of errors that waiting does not mend."""
_OPTUNA = frozenset(("studies", "trials", "version_info", "alembic_version"))
Answer = TypeVar("Answer")


def without_password(place: str | None) -> str | None:
    """Return a storage as it may be shown and written down."""
    if place is None or "://" not in place:
        return place
    try:
        url = make_url(place)
        # Else somebody's name and password are taken for a path, or a part of the password for the host.
        if (url.username is not None or "@" not in place) and "@" not in (url.host or ""):
            query = {key: "***" if _SECRET.search(key) else value for key, value in url.query.items()}
            return url.set(query=query).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        pass
    return place.partition("://")[0] + "://..."


def sqlite_file(url: str) -> Path | None:
    """Return the file of a URL of SQLite; None of another database."""
    parsed = _parsed(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database.startswith("file:"):
        return None
    return Path(parsed.database).absolute()


def check_database(url: str) -> None:
    """Raise what is wrong with a database, of which nothing is changed; one that is not there yet can be made.

    Raises:
        ConfigError: no URL of a database that can be used here, or one that is not Optuna's.
        StorageError: it cannot be reached, or another version of Optuna has made it.
    """
    path, shown = sqlite_file(url), _shown(url)
    if _parsed(url).get_backend_name() == "sqlite" and path is None and "file:" not in url:
        raise ConfigError("keeps nothing once the command has ended", where=shown, remedy="give sqlite:///FILE")
    if path is not None and not path.exists():
        if not path.parent.is_dir():
            raise StorageError(
                f"the database cannot be used: there is no folder {path.parent}", where=shown, remedy="make that folder"
            )
        return
    if path is not None and path.is_dir():
        raise ConfigError("is a folder, not a database", where=shown, remedy=f"name a file in it: {path}/studies.db")
    patiently(lambda: _check_tables(url, is_file=path is not None), url)


def open_database(url: str) -> RDBStorage:
    """Return Optuna's storage in a database, whose tables are made where there are none. Raises as `check_database`."""
    check_database(url)
    return patiently(lambda: PatientDatabase(_template(url), engine_kwargs={"pool_pre_ping": True}), url)


class PatientDatabase(RDBStorage):
    """Optuna's database, each of whose questions is asked again while it is busy or away.

    What was asked twice because an answer was lost does no harm: a value that is set again is the same, and a trial
    that nobody was told of is taken up when the study is opened the next time.
    """


def patiently(ask: Callable[[], Answer], url: str, *, patience_s: float | None = None) -> Answer:
    """Ask a database, again and again while it is busy or away; once it says that it waits.

    Raises:
        ConfigError: no URL of a database that can be used here.
        StorageError: it cannot be used, or did not answer for `patience_s`, PATIENCE_S unless given.
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
            return True  # type: ignore[return-value]  # the first time had succeeded, and its answer was lost
        except (ArgumentError, ImportError) as error:
            raise _no_url(url, error) from error
        except json.JSONDecodeError as error:
            raise StorageError(
                f"the database holds what Optuna has not written: {error}",
                where=_shown(url),
                remedy="bring back a whole copy of it",
            ) from error
        except (StorageInternalError, SQLAlchemyError, OSError) as error:
            reason = _reason(error, url)
            if not _passes(error):
                raise StorageError(
                    f"the database cannot be used: {reason}",
                    where=_shown(url),
                    remedy="check that it runs and may be written, its room, and the user and password of its URL; "
                    "repeat the command to go on",
                ) from error
            waited_s = time.monotonic() - began
            if waited_s >= patience_s:
                raise StorageError(
                    f"the database has been busy or away for {waited_s:.0f} s: {reason}",
                    where=_shown(url),
                    remedy="see whether it runs and what holds it, then repeat the command, which goes on where it "
                    "stopped",
                ) from error
            if not is_repeated:
                notes.print(f"waiting for the database {_shown(url)}: {reason}", soft_wrap=True, markup=False)
            is_repeated = True
            time.sleep(min(pause * random.uniform(0.5, 1.5), max(0.0, patience_s - waited_s)))
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def _patient(name: str) -> Callable[..., Any]:
    """Return a method of Optuna's that is asked patiently."""
    method = getattr(RDBStorage, name)

    @functools.wraps(method)
    def call(self: RDBStorage, *args: Any, **kwargs: Any) -> Any:
        return patiently(lambda: method(self, *args, **kwargs), self.url)

    return call


_OF_ITS_CACHE = ("_create_new_trial", "_set_trial_param", "_get_trials", "_get_best_trial_id")
for _name in (*sorted(BaseStorage.__abstractmethods__), *_OF_ITS_CACHE):  # what Optuna's cache calls of a database
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
    """Raise StorageError where the tables are those of another version of Optuna."""
    storage = RDBStorage(_template(url), skip_compatibility_check=True, skip_table_creation=True) if revision else None
    head = storage.get_head_version() if storage else None
    if storage is not None and revision == head:
        return
    if storage is None or revision in storage.get_all_versions():
        raise StorageError(
            "an older version of Optuna has made this database",
            where=_shown(url),
            remedy=f"keep a copy of it, then: optuna storage upgrade --storage {shlex.quote(_shown(url))}",
        )
    raise StorageError(
        f"a newer version of Optuna has made this database (its tables are {revision!r:.40}, here they are {head})",
        where=_shown(url),
        remedy="pip install --upgrade optuna, or give another database",
    )


def _template(url: str) -> str:
    """Return a URL as Optuna takes it, which formats it: braces of a password stand for themselves."""
    return url.replace("{", "{{").replace("}", "}}")


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        raise _no_url(url, None) from error


def _no_url(url: str, error: Exception | None) -> ConfigError:
    """Return the error of a URL that nothing can be done with; without a reason where it might tell of a password."""
    return ConfigError(
        "is not the URL of a database that can be used here" + (f": {_reason(error, url)}" if error else ""),
        where=_shown(url),
        remedy="give sqlite:///FILE or DIALECT+DRIVER://USER:PASSWORD@HOST/DATABASE, and install its driver",
    )


def _shown(url: str) -> str:
    return without_password(url) or url


def _passes(error: BaseException) -> bool:
    """Return whether an error may be gone when the same is asked again."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    is_of_connection = isinstance(cause, (DBAPIError, PoolTimeoutError, ConnectionError)) and not isinstance(
        cause, (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.DataError, sqlalchemy.exc.ProgrammingError)
    )
    text = str(getattr(cause, "orig", None) or cause).lower()
    return is_of_connection and not any(part in text for part in _LASTING)


def _reason(error: BaseException, url: str) -> str:
    """Return the first line of a database's own words, without the password of its URL."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    lines = str(getattr(cause, "orig", None) or cause).strip().splitlines() or [type(cause).__name__]
    try:
        password = make_url(url).password
    except (ArgumentError, ValueError):
        return type(cause).__name__
    return lines[0].replace(str(password), "***") if password else lines[0]
