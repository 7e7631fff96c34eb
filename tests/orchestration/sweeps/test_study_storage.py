"""Storages of studies that cannot be used, are damaged, are busy, or hold code: one error each, and nothing is run."""

from __future__ import annotations

import json
import pickle
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from hcl.errors import ConfigError, HCLError, StorageError
from orchestration.sweeps.ledger import Ledger
from orchestration.sweeps.storage import database
from orchestration.sweeps.storage.database import without_password
from orchestration.sweeps.storage.journal import Journal
from orchestration.sweeps.storage.optuna_storage import JOURNAL, check_storage, open_storage
from tests.orchestration.conftest import Command, tree
from tests.orchestration.sweeps.test_ledger import open_ledger, space_of, value_of, work


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of this version of Optuna, with a study; read only."""
    path = tmp_path_factory.mktemp("made") / "made.db"
    work(in_database(path), 2)
    return path


def in_database(path: Path, query: str = "", **options: Any) -> Ledger:
    storage = open_storage(path.parent, f"sqlite:///{path}{query}")
    return Ledger("study", storage, space_of(), **{"n_trials": 12} | options)


def changed(made: Path, path: Path, *statements: str) -> Path:
    """A copy of a database after some statements."""
    shutil.copy(made, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return path


# --- what cannot be used ----------------------------------------------------------------------------------------------

_OLD = "update alembic_version set version_num = 'v2.6.0.a'"


@pytest.mark.parametrize(
    ("statements", "message", "remedy"),
    [
        ([_OLD], "an older version of Optuna has made this database", "optuna storage upgrade --storage sqlite:///"),
        (["delete from alembic_version"], "an older version of Optuna", "optuna storage upgrade"),
        (
            ["update alembic_version set version_num = 'v9'"],
            "a newer version of Optuna",
            "pip install --upgrade optuna",
        ),
        (["drop table studies", "create table runs (a)"], "the tables of another program", "a database of their own"),
    ],
    ids=["2.10", "0.8", "9", "another program's"],
)
def test_a_database_that_others_have_made_is_refused_and_left_as_it_was(
    made: Path,
    tmp_path: Path,
    data_root: Path,
    hcl: Command,
    experiment_file: Path,
    statements: list[str],
    message: str,
    remedy: str,
) -> None:
    changed(made, tmp_path / "lab.db", *statements)
    before = tree(tmp_path)
    outcome = hcl("sweep", experiment_file, "--data", data_root, "--storage", f"sqlite:///{tmp_path / 'lab.db'}")
    told = " ".join(outcome.err.split())
    assert outcome.code in (1, 2) and message in told and remedy in told and "Traceback" not in told
    assert tree(tmp_path) == before, "neither folder nor lock is left behind"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "as_url", "message"),
    [
        ("notes.txt", False, "is not a study's journal: line 1 is not JSON"),
        ("notes.txt", True, "the database cannot be used: file is not a database"),
        ("experiment.json", False, "line 1 is not one of Optuna's"),
        ("folder", False, "is a folder, not a journal"),
        ("folder", True, "is a folder, not a database"),
        ("made.db", False, "is a database, not a journal"),
        ("no/such.db", True, "there is no folder"),
        ("", True, "keeps nothing once the command has ended"),
    ],
)
def test_what_is_no_storage_of_studies(made: Path, tmp_path: Path, name: str, as_url: bool, message: str) -> None:
    (tmp_path / "notes.txt").write_text("buy milk\n")
    (tmp_path / "experiment.json").write_text('{"name": "hcl"}\n')
    (tmp_path / "folder").mkdir()
    shutil.copy(made, tmp_path / "made.db")
    before = tree(tmp_path)
    place = (f"sqlite:///{tmp_path / name}" if name else "sqlite://") if as_url else str(tmp_path / name)
    for ask in (check_storage, open_storage):
        with pytest.raises(HCLError, match=message) as caught:
            ask(tmp_path / "runs" / "study", place)
        assert caught.value.remedy and caught.value.where
    assert tree(tmp_path) == before and not (tmp_path / "no").exists()


@pytest.mark.parametrize("as_url", [False, True])
def test_an_empty_file_is_a_storage_without_studies(tmp_path: Path, as_url: bool) -> None:
    (tmp_path / "lab").touch()
    place = f"sqlite:///{tmp_path / 'lab'}" if as_url else str(tmp_path / "lab")
    check_storage(tmp_path, place)
    assert open_storage(tmp_path, place).get_all_studies() == []


@pytest.mark.parametrize(
    "url",
    [
        "nosuch://me:hunter2@host/db",
        "postgresql+nosuch://me:hunter2@host/db",
        "postgresql://me:hunter2@host:port/db",
        "postgresql://me:hunter2@[::1/db",
        "mysql+pymysql://me:hunter2@host/db",
        "mysql://me:hun@hunter2@host/db",
        "postgresql://host/db?password=hunter2",
        "postgresql://me:{hunter2}@host/db",
        "redis://me:hunter2@host",
        "://me:hunter2@host",
    ],
)
def test_a_url_that_cannot_be_used_is_told_without_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not the URL of a database that can be used here") as caught:
        open_storage(tmp_path, url)
    assert "hunter2" not in str(caught.value) and "hunter2" not in str(without_password(url))
    assert "DIALECT+DRIVER" in str(caught.value.remedy) and not list(tmp_path.iterdir())


def test_a_driver_that_tells_of_the_password_is_not_repeated() -> None:
    def ask() -> None:
        raise OperationalError("", {}, Exception('password authentication failed: "me:hunter2@host"\nmore'))

    with pytest.raises(StorageError, match="password authentication failed") as caught:
        database.patiently(ask, "postgresql://me:hunter2@host/db")
    assert "hunter2" not in str(caught.value) and "the user and password of its URL" in str(caught.value.remedy)


# --- journals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message", "remedy"),
    [
        (b"", "line 3 is blank", "sed -i 3d "),
        (b"  ", "line 3 is blank", "sed -i 3d "),
        (b"<<<<<<< HEAD", "line 3 is not JSON", "sed -n 3p"),
        (b"\xff\xfe", "line 3 is not JSON", "sed -n 3p"),
        (b"[1, 2]", "line 3 is not one of Optuna's", "sed -n 3p"),
        (b'{"op_code": 4, "trial_id": 99}', "line 3 does not follow from those before it", "sed -n 3p"),
    ],
)
def test_a_wrong_line_is_told_by_its_number(line: bytes, message: str, remedy: str, tmp_path: Path) -> None:
    work(open_ledger(tmp_path), 2)
    lines = (tmp_path / JOURNAL).read_bytes().splitlines()
    (tmp_path / JOURNAL).write_bytes(b"\n".join([*lines[:2], line, *lines[2:]]) + b"\n")
    before = tree(tmp_path)
    with pytest.raises(StorageError, match="is not a study's journal: " + message) as caught:
        open_ledger(tmp_path)
    assert remedy in str(caught.value.remedy) and str(tmp_path / JOURNAL) == caught.value.where
    assert tree(tmp_path) == before


def test_half_a_line_of_another_who_was_killed_is_dropped_and_not_written_to(tmp_path: Path) -> None:
    """Of studies in one journal: neither's lines are lost."""
    place = str(tmp_path / "lab.journal")
    first = Ledger("first", open_storage(tmp_path, place), space_of(), n_trials=12)
    second = Ledger("second", open_storage(tmp_path, place), space_of(), n_trials=12)
    work(first, 2)
    with open(place, "ab") as file:
        file.write(b'{"op_code":4,"worker_')
    work(second, 2)
    work(first, 1)
    names = {one.study_name: one.n_trials for one in optuna.get_all_study_summaries(open_storage(tmp_path, place))}
    assert names == {"first": 3, "second": 2}


def test_a_disk_that_is_full_leaves_no_part_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = open_ledger(tmp_path)
    work(ledger, 2)
    given = ledger.ask()
    assert given is not None
    before = (tmp_path / JOURNAL).read_bytes()
    real, n_left = open, 20

    class Full:
        """A file on a disk with room for so many bytes."""

        def __init__(self, file: Any):
            self._file = file

        def write(self, content: bytes) -> None:
            self._file.write(content[:n_left])
            self._file.flush()
            raise OSError(28, "No space left on device")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None:
            self._file.close()

    with monkeypatch.context() as full:
        full.setattr("orchestration.sweeps.storage.journal.open", lambda *a, **k: Full(real(*a, **k)), raising=False)
        with pytest.raises(StorageError, match="cannot be written: No space left on device"):
            ledger.finish(given.name, [0.5])
    assert (tmp_path / JOURNAL).read_bytes() == before
    assert open_ledger(tmp_path).ask() == given
    ledger.finish(given.name, [0.5])
    assert open_ledger(tmp_path).trial(given.name).state == TrialState.COMPLETE


def test_a_journal_that_vanished_is_not_begun_anew(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    (tmp_path / JOURNAL).unlink()
    with pytest.raises(StorageError, match="cannot be"):
        ledger.ask()
    assert not (tmp_path / JOURNAL).exists()


def test_a_journal_reads_on_where_it_stopped(tmp_path: Path) -> None:
    journal, other = (Journal(tmp_path / "lab.journal") for _ in range(2))
    journal.create()
    other.append_logs([{"op_code": 0, "n": number} for number in range(3)])
    assert [log["n"] for log in journal.read_logs(0)] == [0, 1, 2] and journal.line == 3
    other.append_logs([{"op_code": 0, "n": 3}])
    assert [log["n"] for log in journal.read_logs(3)] == [3] and journal.line == 4
    assert [log["n"] for log in journal.read_logs(1)] == [1, 2, 3]


# --- databases that are busy or away ----------------------------------------------------------------------------------


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Callable[[float], None]]:
    """Lock the database of the test for some seconds, as another program would."""
    threads: list[threading.Thread] = []

    def lock(seconds: float) -> None:
        locked = threading.Event()

        def hold() -> None:
            with closing(sqlite3.connect(tmp_path / "lab.db", isolation_level=None)) as connection:
                connection.execute("begin exclusive")
                locked.set()
                time.sleep(seconds)
                connection.execute("rollback")

        threads.append(threading.Thread(target=hold))
        threads[-1].start()
        assert locked.wait(10)

    yield lock
    for thread in threads:
        thread.join()


def test_a_database_that_is_busy_for_a_while_is_waited_for(
    tmp_path: Path, busy: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = in_database(tmp_path / "lab.db", "?timeout=0.01")
    given = ledger.ask()
    assert given is not None
    capsys.readouterr()
    busy(1.5)
    ledger.finish(given.name, [value_of(given.params)])
    assert capsys.readouterr().err.count("waiting for the database") == 1
    assert in_database(tmp_path / "lab.db").trial(given.name).state == TrialState.COMPLETE


def test_a_database_that_stays_busy_is_one_error_and_the_trial_is_still_to_be_run(
    tmp_path: Path, busy: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE_S", 0.3)
    ledger = in_database(tmp_path / "lab.db", "?timeout=0.01")
    given = ledger.ask()
    assert given is not None
    busy(3)
    for ask in (
        lambda: ledger.finish(given.name, [0.5]),
        ledger.trials,
        lambda: in_database(tmp_path / "lab.db", "?timeout=0.01"),
    ):
        with pytest.raises(
            StorageError, match="the database has been busy or away for .*: database is locked"
        ) as caught:
            ask()
        assert "goes on where it stopped" in str(caught.value.remedy)
    monkeypatch.undo()
    assert in_database(tmp_path / "lab.db").ask() == given


def test_what_waiting_does_not_mend_is_told_at_once(tmp_path: Path) -> None:
    ledger = in_database(tmp_path / "lab.db")
    with closing(sqlite3.connect(tmp_path / "lab.db")) as connection:
        connection.execute("drop table trial_user_attributes")
    began = time.monotonic()
    with pytest.raises(StorageError, match="the database cannot be used: no such table"):
        work(ledger, 1)
    assert time.monotonic() - began < 10


def test_an_end_whose_answer_was_lost_is_noted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = in_database(tmp_path / "lab.db")
    given = ledger.ask()
    assert given is not None
    real, n_asked = optuna.storages.RDBStorage.set_trial_state_values, 0

    def lose_the_answer(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal n_asked
        n_asked += 1
        answer = real(self, *args, **kwargs)
        if n_asked == 1:
            raise OperationalError("", {}, Exception("server closed the connection"))
        return answer

    monkeypatch.setattr(
        database.PatientDatabase,
        "set_trial_state_values",
        lambda self, *args, **kwargs: database.patiently(lambda: lose_the_answer(self, *args, **kwargs), self.url),
    )
    ledger.finish(given.name, [0.5])
    assert n_asked == 2 and ledger.trial(given.name).state == TrialState.COMPLETE


# --- code -------------------------------------------------------------------------------------------------------------


class Bomb:
    """Touches a file where it is unpickled."""

    def __init__(self, path: Path):
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "gp", "random", "population"])
@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_no_code_runs_from_a_storage(sampler: str, kind: str, tmp_path: Path) -> None:
    """Each attribute that Optuna's samplers keep there is a pickle, of every trial and of the study."""
    pytest.importorskip({"cmaes": "cmaes", "gp": "scipy"}.get(sampler, "optuna"))
    place = f"sqlite:///{tmp_path / 'lab.db'}" if kind == "sqlite" else None
    options: dict[str, Any] = {"sampler": sampler, "n_trials": 12}
    ledger = Ledger("study", open_storage(tmp_path, place), space_of(), **options)
    content = pickle.dumps(Bomb(tmp_path / "ran")).hex()
    bombs = {"cma:optimizer:0": content, "cma:judged_by": {"0": content}, "gp:cache": content, "tpe:cache": content}
    for _ in range(8):
        given = ledger.ask()
        if given is None:
            break
        for key, bomb in bombs.items():
            ledger._storage.set_trial_system_attr(ledger._id(given.name), key, bomb)
        ledger.finish(given.name, [value_of(given.params)])
    for key, bomb in bombs.items():
        ledger._storage.set_study_system_attr(ledger._study_id, key, bomb)
    pickle.loads(bytes.fromhex(content))
    assert (tmp_path / "ran").exists(), "a bomb that is unpickled is seen"
    (tmp_path / "ran").unlink()
    work_on = Ledger("study", open_storage(tmp_path, place), space_of(), **options)
    while (given := work_on.ask()) is not None:
        work_on.finish(given.name, [value_of(given.params)])
    assert not (tmp_path / "ran").exists() and work_on.is_done()


def test_nothing_is_pickled_into_a_storage(tmp_path: Path) -> None:
    pytest.importorskip("cmaes")
    work(open_ledger(tmp_path, sampler="cmaes", n_trials=20), 20)
    noted = [json.loads(line).get("system_attr") or {} for line in (tmp_path / JOURNAL).read_text().splitlines()]
    assert {key for attrs in noted for key in attrs} >= {"cma:generation", "cma:judged_by"}
    assert not any("optimizer" in key for attrs in noted for key in attrs)
