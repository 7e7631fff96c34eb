"""Test studies of one name in one storage: their owners, one command at a time, and what a restart may remove."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.study import StudyDirection

from hcl.errors import ConfigError, HCLError, StorageError
from orchestration.sweeps.storage import ownership
from orchestration.sweeps.storage.database_claims import database_claim
from orchestration.sweeps.storage.optuna_storage import open_storage
from orchestration.sweeps.study import Study
from orchestration.sweeps.sweep import sweep
from tests.orchestration.conftest import tree
from tests.orchestration.sweeps.stub_trials import stub_study
from tests.orchestration.sweeps.without_tune import without_tune

ROOT = Path(__file__).resolve().parents[3]
Of = Callable[..., Study]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a storage that several people share."""
    return place_in(tmp_path, getattr(request, "param", "journal"))


in_both = pytest.mark.parametrize("place", ["journal", "sqlite"], indirect=True)


def place_in(folder: Path, kind: str) -> str:
    return f"sqlite:///{folder / 'lab.db'}" if kind == "sqlite" else str(folder / "lab.journal")


@pytest.fixture
def of(data_root: Path, tmp_path: Path, place: str) -> Of:
    """Make a study of a person in the shared storage."""
    return lambda who, n_trials=3: stub_study(data_root, tmp_path / who, n_trials, storage=place)


def n_stored(study: Study) -> int:
    storage = open_storage(study.folder, study.storage)
    return len(storage.get_all_trials(storage.get_study_id_from_name("study")))


@in_both
def test_a_study_of_another_folder_is_neither_adopted_nor_removed(
    of: Of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first study resumes afterwards without a change."""
    ran = without_tune(monkeypatch)
    first, second = of("ann"), of("bob")
    record, trials = sweep(first)
    assert ran == ["trial-0000", "trial-0001", "trial-0002"]
    before = tree(tmp_path / "ann")
    for restart in (False, True):
        with pytest.raises(ConfigError, match="holds a study study that belongs to ") as caught:
            sweep(second, restart=restart)
        assert f"{first.folder} on " in caught.value.problem and str(second.folder) in caught.value.problem
        assert "--set name=" in str(caught.value.remedy) and "optuna delete-study" in str(caught.value.remedy)
        assert not second.folder.exists(), "nothing is left behind"
    assert tree(tmp_path / "ann") == before and n_stored(first) == 3
    assert sweep(first)[1] == trials and len(ran) == 3
    assert len(sweep(of("ann", 5))[1]) == 5 and ran[3:] == ["trial-0003", "trial-0004"]
    assert record.best_value == 0.5


@in_both
def test_a_restart_removes_this_folders_study_alone(of: Of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = without_tune(monkeypatch)
    optuna.create_study(storage=open_storage(tmp_path, of("ann").storage), study_name="another")
    sweep(of("ann"))
    assert len(sweep(of("ann"), restart=True)[1]) == 3 and len(ran) == 6
    names = {study.study_name for study in open_storage(tmp_path, of("ann").storage).get_all_studies()}
    assert names == {"another", "study"}


def test_a_folder_that_moved_goes_on_and_a_copy_of_it_does_not(
    of: Of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = without_tune(monkeypatch)
    sweep(of("ann"))
    shutil.copytree(tmp_path / "ann", tmp_path / "copy")
    with pytest.raises(ConfigError, match="belongs to .*ann/study"):
        sweep(of("copy", 5))
    shutil.move(tmp_path / "ann", tmp_path / "moved")
    assert len(sweep(of("moved", 5))[1]) == 5 and len(ran) == 5
    with pytest.raises(ConfigError, match="belongs to .*moved/study"):  # the copy is older than the move
        sweep(of("copy", 5))
    monkeypatch.setattr(ownership.socket, "gethostname", lambda: "elsewhere")  # the same folder, as a cluster sees it
    assert len(sweep(of("moved", 6))[1]) == 6
    assert len(yaml.safe_load((tmp_path / "moved" / "study" / "study.yaml").read_text())["identities"]) == 1


def test_a_folder_that_was_deleted_is_made_again_where_it_was(
    of: Of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = without_tune(monkeypatch)
    sweep(of("ann"))
    shutil.rmtree(tmp_path / "ann")
    assert len(sweep(of("ann", 4))[1]) == 4 and len(ran) == 4
    shutil.rmtree(tmp_path / "ann")
    monkeypatch.setattr(ownership.socket, "gethostname", lambda: "elsewhere")  # its own disk, or one of both
    with pytest.raises(ConfigError, match="belongs to "):
        sweep(of("ann", 4))


def test_studies_of_before_go_on_and_then_belong_to_their_folder(
    of: Of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the folder nor the storage holds an identity."""
    ran = without_tune(monkeypatch)
    with monkeypatch.context() as as_before:
        from orchestration.sweeps import sweep as sweeping

        for name in ("check_owner", "take_possession"):
            as_before.setattr(sweeping, name, lambda study: None)
        sweep(of("ann"))
    described = tmp_path / "ann" / "study" / "study.yaml"
    assert "identities" not in yaml.safe_load(described.read_text())
    with pytest.raises(ConfigError, match="belongs to another folder"):
        sweep(of("bob"))
    shutil.copytree(tmp_path / "ann" / "study", tmp_path / "eve" / "study")
    content = yaml.safe_load(described.read_text())
    (tmp_path / "eve" / "study" / "study.yaml").write_text(yaml.safe_dump(content | {"storage": "other.journal"}))
    with pytest.raises(ConfigError, match="belongs to another folder"):  # a folder whose trials lie elsewhere
        sweep(of("eve"), restart=True)
    assert len(sweep(of("ann", 4))[1]) == 4 and len(ran) == 4
    assert len(yaml.safe_load(described.read_text())["identities"]) == 1


def test_killed_between_the_folder_and_the_storage_it_goes_on(of: Of, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kill happens at each of the four steps that make a study known."""
    ran, steps = without_tune(monkeypatch), 0

    class Killed(BaseException):
        pass

    def dies_at(step: int, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == step:
                raise Killed
            return original(*args, **kwargs)

        return call

    for step in (1, 2, 3):
        steps = 0
        with monkeypatch.context() as dying:
            dying.setattr(ownership, "_note", dies_at(step, ownership._note))
            dying.setattr(ownership.optuna, "create_study", dies_at(step, optuna.create_study))
            with pytest.raises(Killed):
                sweep(of("ann"))
    assert len(sweep(of("ann"))[1]) == 3 and len(ran) == 3


def test_a_storage_that_lost_a_study_is_not_begun_anew_in_silence(
    of: Of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = without_tune(monkeypatch)
    sweep(of("ann"))
    (tmp_path / "lab.journal").unlink(missing_ok=True)
    (tmp_path / "lab.db").unlink(missing_ok=True)
    with pytest.raises(StorageError, match="does not hold study study, of which .* has 3 trials") as caught:
        sweep(of("ann"))
    assert "--restart" in str(caught.value.remedy)
    assert len(sweep(of("ann"), restart=True)[1]) == 3 and len(ran) == 6


def test_the_journal_in_anothers_folder_is_refused(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_tune(monkeypatch)
    own = stub_study(data_root, tmp_path / "ann", 2)
    sweep(own)
    with pytest.raises(ConfigError, match="is the ledger of the study in that folder"):
        sweep(stub_study(data_root, tmp_path / "bob", 2, storage=str(own.folder / "optuna.journal")))
    assert not (tmp_path / "bob").exists()


def begin(data_root: str, folder: str, who: str) -> None:
    """Start a study in each kind of storage at one signal, hold it until the next, and print the result."""
    with pytest.MonkeyPatch.context() as patched:
        without_tune(patched)
        print("ready", flush=True)
        for kind in ("journal", "sqlite"):
            input()
            try:
                with ownership.claimed(study := study_of(Path(data_root), Path(folder), who, kind)):
                    print("holds", flush=True)
                    input()
                sweep(study)
                print("done", flush=True)
            except HCLError as error:
                print(json.dumps(error.problem), flush=True)
                input()
                print("", flush=True)


def study_of(data_root: Path, folder: Path, who: str, kind: str) -> Study:
    return stub_study(data_root, folder / kind / who, 2, storage=place_in(folder, kind))


def test_of_two_commands_that_begin_together_one_goes_on(data_root: Path, tmp_path: Path) -> None:
    def start(who: str) -> subprocess.Popen[str]:
        code = f"from {__name__} import begin; begin({str(data_root)!r}, {str(tmp_path)!r}, {who!r})"
        return subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT
        )

    processes = [start("ann"), start("bob")]

    def say() -> None:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")

    def hear() -> list[str]:
        return [process.stdout.readline().strip() for process in processes if process.stdout is not None]

    try:
        assert hear() == ["ready", "ready"]
        for kind in ("journal", "sqlite"):
            say()
            answers = hear()
            [refused] = {*answers} - {"holds"}
            assert "holds" in answers and "is already running, by " in refused, kind
            say()
            assert sorted(hear()) == ["", "done"], kind
            assert len(list(tmp_path.glob(f"{kind}/*/study/study.yaml"))) == 1
    finally:
        for process in processes:
            process.kill()
            process.communicate()


# --- a database on a server, where no file can be locked --------------------------------------------------------------


def claims_in(path: Path) -> list[str]:
    return [study.study_name for study in open_storage(path.parent, f"sqlite:///{path}").get_all_studies()]


def test_a_claim_in_a_database_holds_while_it_beats_and_goes_with_the_block(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'lab.db'}"
    first, second = open_storage(tmp_path, url), open_storage(tmp_path, url)
    with database_claim(first, "study", where="lab", beat_s=0.05, quiet_s=1.0):
        with (
            pytest.raises(StorageError, match="study study is already running, by process"),
            database_claim(second, "study", where="lab", quiet_s=5.0),
        ):
            pass
        with database_claim(second, "another", where="lab"):
            pass
    assert claims_in(tmp_path / "lab.db") == []


def test_a_claim_of_a_process_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    storage = open_storage(tmp_path, f"sqlite:///{tmp_path / 'lab.db'}")
    storage.create_new_study([StudyDirection.MINIMIZE], "study claim 7")
    began = time.monotonic()
    with database_claim(storage, "study", where="lab", quiet_s=0.3):
        assert time.monotonic() - began > 0.3
        assert claims_in(tmp_path / "lab.db") == ["study claim 8"]


def test_of_many_claims_at_the_same_moment_one_is_made(tmp_path: Path) -> None:
    url, n = f"sqlite:///{tmp_path / 'lab.db'}", 6
    storages = [open_storage(tmp_path, url) for _ in range(n)]
    together, all_have_tried, outcomes = threading.Barrier(n), threading.Barrier(n), []

    def claim(storage: Any) -> None:
        together.wait()
        try:
            with database_claim(storage, "study", where="lab", beat_s=0.2, quiet_s=20):
                outcomes.append("holds")
                all_have_tried.wait(60)
        except StorageError as error:
            outcomes.append(error.problem)
            all_have_tried.wait(60)

    threads = [threading.Thread(target=claim, args=(storage,)) for storage in storages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(outcomes) == n and outcomes.count("holds") == 1, outcomes
    assert claims_in(tmp_path / "lab.db") == []


def test_who_finds_that_another_has_taken_over_stops(tmp_path: Path) -> None:
    storage = open_storage(tmp_path, f"sqlite:///{tmp_path / 'lab.db'}")

    def lose_it() -> None:
        with database_claim(storage, "study", where="lab", beat_s=0.1):
            [mine] = storage.get_all_studies()
            storage.delete_study(mine._study_id)
            time.sleep(30)

    with pytest.raises(StorageError, match="study study was taken over"):
        lose_it()
