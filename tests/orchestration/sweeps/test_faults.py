"""Test faults that no trial has caused: their recognition, one error per study, and no lost trials."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.train import ControllerError, WorkerGroupError

from hcl.errors import (
    BackboneError,
    ClusterError,
    ConfigError,
    DataError,
    EpisodeError,
    HCLError,
    StorageError,
    TrainingError,
    VideoError,
)
from hcl.frames.stored_dataset import DataRoot
from orchestration.sweeps import deadlines, recorder
from orchestration.sweeps import sweep as sweeping
from orchestration.sweeps import trial as trials
from orchestration.sweeps.deadlines import Deadlines
from orchestration.sweeps.faults import Halt, as_words, fault_of, from_words
from orchestration.sweeps.ray_tune import _EarlyStopping, _Search
from orchestration.sweeps.recorder import Recorder
from orchestration.sweeps.study import Limits, Study, open_folder
from orchestration.sweeps.sweep import sweep
from orchestration.sweeps.trial import FAILURE, FAULT, OBJECTIVE, VALUES, _run_trial
from orchestration.sweeps.trial_source import ERROR, Given
from orchestration.training.run_files import ERROR_LOG, HUNG_LOG
from results import RecordError
from tests.orchestration.inline import connect
from tests.orchestration.sweeps.stub_trials import stub_study
from tests.orchestration.sweeps.without_tune import without_tune

GIVEN = Given("trial-0000", {"loss.sigma_temporal": 0.5, "loss.sigma_spatial": 0.5})


def from_cause(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StorageError("cannot be written"), StorageError),
        (OSError(errno.ENOSPC, "No space left on device"), StorageError),
        (RecordError("cannot be written: Disk quota exceeded"), StorageError),
        (RuntimeError("DataLoader worker: OSError: [Errno 5] Input/output error"), StorageError),
        (ClusterError("no node trains"), ClusterError),
        (from_cause(ClusterError("training stopped"), ControllerError(RuntimeError("no nodes"))), ClusterError),
        (VideoError("is gone", where="v"), VideoError),
        (DataError("is gone"), DataError),
        (BackboneError("cannot be downloaded"), BackboneError),
        (from_cause(ClusterError("training stopped"), WorkerGroupError("died", {0: RuntimeError()})), None),
        (EpisodeError("too few classes"), None),
        (TrainingError("the loss is not finite"), None),
        (ConfigError("does not fit"), None),
        (KeyError("a bug"), None),
        (OSError(errno.ENOENT, "No such file or directory"), None),
    ],
)
def test_whose_fault_an_error_is(error: Exception, kind: type[HCLError] | None, tmp_path: Path) -> None:
    fault = fault_of(error, tmp_path)
    assert (None if fault is None else type(fault)) is kind
    if fault is not None:
        again = from_words(as_words(fault))
        assert (type(again), str(again)) == (type(fault), str(fault))


@pytest.fixture
def study(data_root: Path, tmp_path: Path) -> Study:
    return open_folder(stub_study(data_root, tmp_path, 3, stop_rule="none"))


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Collect the reports of a trial to Tune."""
    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(trials, "tune", SimpleNamespace(report=reports.append))
    return reports


def raises(error: Exception) -> Callable[..., None]:
    def call(*_: Any, **__: Any) -> None:
        raise error

    return call


def run(study: Study, error: Exception) -> None:
    _run_trial({"given": asdict(GIVEN)}, study, raises(error))


def test_a_trial_tells_a_fault_from_its_own_failure(study: Study, reports: list[dict[str, Any]]) -> None:
    run(study, OSError(errno.ENOSPC, "No space left on device", "/there"))
    run(study, TrainingError("the loss is not finite"))
    with pytest.raises(KeyError, match="a bug"):
        run(study, KeyError("a bug"))
    assert str(from_words(reports[0][FAULT])).startswith("/there: cannot be written: No space left on device")
    assert reports[1:] == [{FAILURE: "the loss is not finite"}]


def test_a_trial_whose_disk_has_no_room_for_its_error_is_not_failed(
    study: Study, reports: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = StorageError("cannot be written: No space left on device", where="error.log")
    write = trials.write_atomically
    monkeypatch.setattr(
        trials, "write_atomically", lambda path, text: raises(full)() if path.name == ERROR_LOG else write(path, text)
    )
    for error in (KeyError("a bug"), TrainingError("the loss is not finite")):
        run(study, error)
    assert [from_words(report[FAULT]).problem for report in reports] == 2 * [full.problem]


@pytest.mark.parametrize("place", ["runs", "data"])
def test_a_node_that_does_not_see_a_folder_fails_no_trial(
    place: str, study: Study, reports: list[dict[str, Any]], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    blind = replace(study, runs=elsewhere) if place == "runs" else replace(study, data=DataRoot(elsewhere))
    _run_trial({"given": asdict(GIVEN)}, blind, lambda run, report: pytest.fail("begun"))
    [report] = reports
    fault = from_words(report[FAULT])
    assert isinstance(fault, StorageError) and "does not see this folder" in fault.problem
    assert "mount the" in str(fault.remedy) and not (tmp_path / "elsewhere").exists()


# --- reports of Tune ------------------------------------------------------------------------------------------------


class Watched:
    """Hold a study's ledger with one trial given out, and all listeners of Tune."""

    def __init__(self, study: Study):
        self.study, self.ledger, self.halt = study, study.ledger(), Halt(study.folder)
        self.given = self.ledger.ask()
        assert self.given is not None
        room: Any = SimpleNamespace(now=lambda: 4)
        self.events: list[str] = []
        self.recorder = Recorder(study, self.ledger, room, lambda name, event: self.events.append(event), self.halt)
        self.search, self.stopping = _Search(self.ledger, room, self.halt), _EarlyStopping(self.ledger, self.halt)

    def trial(self, result: dict[str, Any] | None = None, told: str = "", *, can_recover: bool = False) -> Any:
        assert self.given is not None
        log = self.study.folder / "tune-error.txt"
        log.write_text(f"Failure # 1 (occurred at noon)\n{told}\n")
        return SimpleNamespace(
            trial_id="1",
            config={"trial": self.given.name, "given": asdict(self.given)},
            last_result=result,
            error_file=str(log) if told else None,
            should_recover=lambda: can_recover,
            temporary_state=SimpleNamespace(ray_actor="actor"),
        )

    def step(self) -> None:
        self.recorder.on_step_end(0, [])

    def state(self) -> str:
        assert self.given is not None
        return self.study.ledger().trial(self.given.name).state.name


@pytest.fixture
def watched(study: Study, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(recorder, "n_alive", lambda: 1)
    return Watched(study)


DONE = {OBJECTIVE: 0.5, VALUES: [0.5], "epoch": 1}


def test_a_reported_fault_ends_the_study_and_the_trial_is_run_again(watched: Watched) -> None:
    fault = StorageError("cannot be written: No space left on device", where="/runs", remedy="free space")
    watched.recorder.on_trial_complete(0, [], watched.trial({FAULT: as_words(fault)}))
    assert watched.search.suggest("2") is None, "nothing new is begun"
    with pytest.raises(StorageError, match="No space left on device"):
        watched.step()
    assert watched.state() == "RUNNING" and watched.study.ledger().ask() == watched.given


@pytest.mark.parametrize("where", ["report", "finish", "ask"])
def test_a_storage_that_fails_is_no_trials_failure(
    where: str, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune takes any exception of a callback for a failure of the current trial."""
    with monkeypatch.context() as busy:
        busy.setattr(watched.ledger, where, raises(StorageError("the database has been busy or unreachable for 60 s")))
        assert watched.search.suggest("2") is None or where != "ask"
        assert watched.stopping.on_trial_result(None, watched.trial(), DONE) == "CONTINUE"
        watched.recorder.on_trial_complete(0, [], watched.trial(DONE))
    with pytest.raises(StorageError, match="busy or unreachable"):
        watched.step()
    assert watched.state() == "RUNNING"


def test_after_a_fault_other_trials_do_not_end_either(watched: Watched) -> None:
    """Nothing is added to a storage that has failed once."""
    watched.halt.note(StorageError("the first"))
    watched.recorder.on_trial_complete(0, [], watched.trial(DONE))
    watched.recorder.on_trial_error(0, [], watched.trial(told="KeyError: 1"))
    watched.halt.note(StorageError("the second"))
    with pytest.raises(StorageError, match="the first"):
        watched.step()
    assert watched.state() == "RUNNING"


def test_an_error_of_the_disk_that_ray_has_told_is_no_trials_failure(watched: Watched) -> None:
    text = "ray.exceptions.RayTaskError: ...\nOSError: [Errno 28] No space left on device: '/tmp/ray'"
    watched.recorder.on_trial_error(0, [], watched.trial(told=text))
    with pytest.raises(StorageError, match="No space left on device"):
        watched.step()
    assert watched.state() == "RUNNING"


def test_records_that_cannot_be_written_end_the_study(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched.recorder, "_on_event", raises(RecordError("cannot be written: Read-only file system")))
    watched.recorder.on_trial_complete(0, [], watched.trial(DONE))
    with pytest.raises(StorageError, match="Read-only file system"):
        watched.step()
    assert watched.state() == "COMPLETE", "it has ended well before that"


def test_a_trial_that_loses_its_node_is_given_out_again_but_not_for_ever(watched: Watched) -> None:
    text = "The actor died because its node has died. Node Id: 1"
    for _ in range(recorder._NODE_DEATHS):
        watched.recorder.on_trial_error(0, [], watched.trial(told=text))
        watched.step()
        assert watched.search.suggest("2") == {
            "trial": watched.given and watched.given.name,
            "given": watched.given and asdict(watched.given),
        }
    watched.recorder.on_trial_error(0, [], watched.trial(told=text))
    with pytest.raises(ClusterError, match="trial-0000 has lost its node 6 times"):
        watched.step()
    assert watched.state() == "RUNNING"


def test_a_bug_is_still_a_failure(watched: Watched) -> None:
    watched.recorder.on_trial_error(0, [], watched.trial(told="Traceback ...\nKeyError: 'a bug'"))
    watched.step()
    assert watched.state() == "FAIL" and watched.events == ["ended"]


def test_what_fails_while_a_study_is_cleaned_up_does_not_hide_its_error(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "connect", connect)
    monkeypatch.setattr(sweeping, "run_trials", raises(StorageError("the first")))
    monkeypatch.setattr(sweeping.Records, "write", raises(StorageError("in cleaning up")))
    with pytest.raises(StorageError, match="the first"):
        sweep(stub_study(data_root, tmp_path, 3))


# --- failed trials again ----------------------------------------------------------------------------------------------


def test_failed_trials_are_run_again_under_their_names_where_that_is_asked_for(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This repairs an earlier study in which a full disk has failed trials."""
    study = open_folder(stub_study(data_root, tmp_path, 4))
    ledger, values = study.ledger(), {}
    for index in range(4):
        given = ledger.ask()
        assert given is not None
        values[given.name] = given.params
        failed = index in (1, 2)
        ledger.finish(given.name, None if failed else [0.25], notes={ERROR: "No space left"} if failed else {})
    study.trial_folder("trial-0001").mkdir(parents=True)
    (study.trial_folder("trial-0001") / HUNG_LOG).write_text("in a file system that had no room")
    ran = without_tune(monkeypatch)
    assert [trial.state for trial in sweep(study)[1]] == ["complete", "failed", "failed", "complete"] and not ran
    _, records = sweep(study, retry_failed=True)
    assert ran == ["trial-0001", "trial-0002"] and not (study.trial_folder("trial-0001") / HUNG_LOG).exists()
    assert [(trial.trial, trial.params, trial.state, trial.error) for trial in records] == [
        (name, params, "complete", None) for name, params in values.items()
    ]
    assert sweep(study)[1] == sweep(study, retry_failed=True)[1] == records and len(ran) == 2
    assert len(sweep(study, add_trials=1)[1]) == 5 and ran[2:] == ["trial-0004"]


def test_killed_while_failed_trials_are_given_out_again(data_root: Path, tmp_path: Path) -> None:
    ledger = (study := open_folder(stub_study(data_root, tmp_path, 2))).ledger()
    for _ in range(2):
        given = ledger.ask()
        assert given is not None
        ledger.finish(given.name, None)
    ledger.retry_failed()
    again = study.ledger()
    assert [given.name for given in (again.ask(), again.ask()) if given] == ["trial-0000", "trial-0001"]
    assert again.ask() is None and again.n_running == 2
    again.finish("trial-0000", [0.5])
    last = study.ledger()
    assert [trial.state.name for trial in last.trials()] == ["COMPLETE", "RUNNING"] and not last.is_done()


def test_rounds_of_a_population_are_not_run_again(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_tune(monkeypatch)
    study = stub_study(data_root, tmp_path, 2, epochs=2, sampler="population")
    with pytest.raises(ConfigError, match="has continued from another member's checkpoint since"):
        sweep(study, retry_failed=True)


# --- time -------------------------------------------------------------------------------------------------------------


def test_what_does_not_end_itself_in_time_is_ended_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, killed = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(deadlines, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(deadlines, "ray", SimpleNamespace(kill=killed.append))
    trials_: list[Any] = [
        SimpleNamespace(trial_id=name, temporary_state=SimpleNamespace(ray_actor=name)) for name in ("a", "b", "c", "d")
    ]
    held = Deadlines(10.0, lambda trial: tmp_path / trial.trial_id)
    for trial in trials_[:3]:
        held.begins(trial)
    held.ends(trials_[1])
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / HUNG_LOG).write_text("in work")
    clock.now = 10 + deadlines.GRACE_S
    held.hold(trials_)
    assert not killed, "its own watchdog has time to say where it hangs"
    clock.now += 1
    held.hold(trials_)
    held.hold(trials_)
    assert killed == ["a", "c"]
    assert "from outside" in (tmp_path / "a" / HUNG_LOG).read_text() and not (tmp_path / "b").exists()
    assert (tmp_path / "c" / HUNG_LOG).read_text() == "in work"
    held.begins(trials_[0])  # again, in another process
    held.hold(trials_)
    assert killed == ["a", "c"]


def test_without_a_limit_nothing_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "ray", SimpleNamespace(kill=lambda actor: pytest.fail("killed")))
    held, trial = Deadlines(None, lambda trial: tmp_path), SimpleNamespace(trial_id="a")
    held.begins(trial)  # type: ignore[arg-type]
    held.hold([trial])  # type: ignore[list-item]
    assert Limits().time_s is None
