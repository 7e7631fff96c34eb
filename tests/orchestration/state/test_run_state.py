"""Test the state of runs and studies, as any machine reads it from the files of their folders."""

from __future__ import annotations

import getpass
import json
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import results
from hcl.assembly.experiment_files import to_yaml
from hcl.errors import ClusterError, DataError
from hcl.frames.stored_dataset import DataRoot
from orchestration.state.run_state import failure_of, run_state
from orchestration.state.study_state import state_of, states_in
from orchestration.storage.locks import held, holder, lock_of
from orchestration.training import train as training
from orchestration.training.failure import recording_failures
from orchestration.training.run_files import FAILED, IMPORTED, LOG, PROGRESS, WRITER
from results.records.weights import read_digest
from tests.orchestration.conftest import tiny_experiment, tree

TRAINER = """
import sys
from pathlib import Path
from orchestration.storage.locks import held
with held(Path(sys.argv[1]), what="the test"):
    print("holds", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen]:
    """Hold a lock in another process for the duration of the block."""
    command = [sys.executable, "-c", TRAINER, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "holds\n"
        yield process
    finally:
        process.kill()
        process.wait()


def write_run(folder: Path, epochs: int, name: str = "") -> Path:
    """Write the files of a run of five epochs that has trained some of them."""
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text(to_yaml(tiny_experiment(name=name or folder.name, train__epochs=5)))
    results.write_epochs(folder, [{"epoch": epoch, "val_accuracy": 0.5} for epoch in range(1, epochs + 1)])
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "my runs" / "first", 2)


def test_a_run_is_running_while_a_process_holds_its_lock_and_stopped_once_that_is_killed(run: Path) -> None:
    with held_elsewhere(lock_of(run)) as process:
        (run / PROGRESS).write_text(json.dumps({"epoch": 3, "epochs": 5, "step": 7, "steps": 20}))
        before = tree(run.parent)
        state = run_state(run)
        by = f"{getpass.getuser()}, process {process.pid} on {socket.gethostname()} since 2"
        assert (state.status, state.epoch, state.epochs, state.step) == ("running", 2, 5, (7, 20))
        assert state.text().startswith(f"running: epoch 3 of 5, step 7 of 20; {by}") and state.text().endswith(" UTC")
        assert "step" not in state.text(steps=False) and not state.command
        assert tree(run.parent) == before
        process.send_signal(signal.SIGKILL)
        process.wait()
        state = run_state(run)
    assert state.status == "stopped" and f"process {process.pid}" in state.text()
    command = shlex.join(["hcl", "train", str(run / "experiment.yaml"), "--runs", str(run.parent)])
    assert state.text().startswith("stopped: 2 of 5 epochs; ") and state.text().endswith(f"to resume: {command}")


def test_a_worker_that_still_writes_is_running(run: Path) -> None:
    with held_elsewhere(run / WRITER):
        assert run_state(run).status == "running"
    assert run_state(run).status == "stopped"


def test_progress_of_another_epoch_is_not_told(run: Path) -> None:
    (run / PROGRESS).write_text(json.dumps({"epoch": 2, "epochs": 5, "step": 7, "steps": 20}))
    with held_elsewhere(lock_of(run)):
        assert run_state(run).step is None


def test_a_look_keeps_no_command_from_starting(tmp_path: Path) -> None:
    """The look has the lock for a moment, here a long one, for which a command that starts waits."""
    path = tmp_path / "lock"
    path.touch()
    code = "import sys, time, fcntl; f = open(sys.argv[1]); fcntl.lockf(f, fcntl.LOCK_SH); print(flush=True); "
    command = [sys.executable, "-c", code + "time.sleep(0.2)", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as looker:
        assert looker.stdout is not None and looker.stdout.readline() == b"\n"
        with held(path, what="the test"):
            assert path.exists()


def test_a_folder_of_another_user_can_be_asked(run: Path) -> None:
    lock_of(run).write_text("process 1 on elsewhere")
    lock_of(run).chmod(0o444)
    for folder in (run, run.parent):
        folder.chmod(0o555)
    try:
        assert holder(lock_of(run)) is None
        assert "process 1 on elsewhere no longer holds its lock" in run_state(run).text()
    finally:
        for folder in (run.parent, run):
            folder.chmod(0o755)


def test_a_failed_run_says_why_in_one_line(run: Path) -> None:
    with pytest.raises(ClusterError), recording_failures(run):
        raise ClusterError("training stopped:\n  no node is left", where="here", remedy="wait")
    state = run_state(run)
    assert state.status == "failed" and state.reason == "training stopped: no node is left"
    assert state.text().startswith("failed: 2 of 5 epochs; training stopped: no node is left; to resume: hcl train ")


def test_the_error_of_a_worker_is_kept_and_that_of_an_earlier_command_is_not(run: Path) -> None:
    (run / FAILED).write_text('{"problem": "earlier"}')
    with recording_failures(run):
        assert not (run / FAILED).exists()
    assert run_state(run).status == "stopped"
    with pytest.raises(DataError), recording_failures(run):
        _fail_in_a_worker(run)
    assert failure_of(run) == "a worker"


def test_a_cluster_that_cannot_be_reached_is_the_reason(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(_: object) -> None:
        raise ClusterError("no head answers", where="head:6379", remedy="start it")

    monkeypatch.setattr(training, "connect", unreachable)
    with pytest.raises(ClusterError):
        training.train(tiny_experiment(), data=DataRoot(data_root), runs=tmp_path)
    assert run_state(tmp_path / "tiny").short == "failed: no head answers"


def _fail_in_a_worker(run: Path) -> None:
    (run / FAILED).write_text('{"problem": "a worker"}')
    raise DataError("the driver")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("stops: ValueError: a bug", "ValueError: a bug"),
        ("stops: KeyboardInterrupt", ""),
        ("epoch 2: val 50.0%", ""),
        ("stops: no space left\n2026 resumes after epoch 2: process 3", ""),
    ],
)
def test_the_log_tells_errors_that_no_file_holds(run: Path, line: str, reason: str) -> None:
    (run / LOG).write_text(f"2026-01-01T00:00:00+00:00 {line}\n")
    assert failure_of(run) == reason
    assert run_state(run).status == ("failed" if reason else "stopped")


def test_a_finished_run_is_done_whatever_failed_before(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "first", 5)
    (run / FAILED).write_text('{"problem": "earlier"}')
    assert run_state(run).text() == "done: 5 of 5 epochs"


def test_a_renamed_run_is_resumed_under_its_folder_s_name(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "second", 2, name="first")
    assert "--set name=second" in run_state(run).command


def test_imported_weights_are_neither_stopped_nor_done(run: Path) -> None:
    (run / IMPORTED).touch()
    assert run_state(run).text() == "imported: weights of another program"


@pytest.mark.parametrize("name", ["experiment.yaml", "metrics.parquet", PROGRESS, FAILED, LOG])
def test_damaged_files_count_as_absent(run: Path, name: str) -> None:
    (run / name).write_bytes(b"\xff{[")
    assert run_state(run).status in ("stopped", "done")
    (run / name).unlink()
    assert run_state(run).status == "stopped"


def test_evaluations_of_other_weights_are_counted(run: Path) -> None:
    (run / "checkpoints").mkdir()
    best = run / "checkpoints" / "best.pt"
    best.write_bytes(b"weights")
    record = results.EvaluationRecord(
        run="first", method="hcl", train_dataset="toy", dataset="toy", partition="test", way=5, shot=1, queries=3,
        episodes=30, seed=0, accuracy=0.5, ci95=0.1, checkpoint=str(best), checkpoint_digest=read_digest(best),
    )  # fmt: skip
    results.write_evaluation(run, record)
    assert run_state(run).n_stale == 0 and "earlier weights" not in run_state(run).text()
    best.write_bytes(b"others")
    assert "evaluations of earlier weights: 1" in run_state(run).text()


# --- studies --------------------------------------------------------------------------------------------------------


def write_study(folder: Path, states: tuple[str, ...]) -> Path:
    write_run(folder, 0)
    trials = [
        results.TrialRecord(trial=f"t{n}", params={}, value=0.1 * n, state=state, error="bad luck")  # type: ignore[arg-type]
        for n, state in enumerate(states)
    ]
    record = results.SweepRecord(
        name=folder.name, space={}, objective="val_accuracy", n_trials=3, best_trial="t1", best_value=0.1,
        command="hcl sweep tiny.yaml",
    )  # fmt: skip
    results.write_sweep(folder, record, trials)
    for trial in trials:
        write_run(folder / "trials" / trial.trial, 1)
    return folder


def test_the_state_of_a_study_counts_its_trials(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", ("complete", "failed", "running"))
    expected = "2 of 3 trials, 1 failed; best t1 10.0%"
    assert state_of(study).text() == f"study stopped: {expected}; to resume: hcl sweep tiny.yaml"
    with held_elsewhere(lock_of(study)):
        assert state_of(study).text().startswith("study running: 2 of 3 trials, 1 failed; ")
    shutil.rmtree(study)
    assert state_of(write_study(study, ("complete", "pruned", "complete"))).text() == (
        "study done: 3 of 3 trials; best t1 10.0%"
    )


def test_the_state_of_a_trial_is_that_of_its_study_s_record(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", ("pruned", "failed", "running"))
    texts = [run_state(study / "trials" / f"t{n}").text() for n in range(3)]
    assert texts == [
        "done: 1 of 5 epochs; trial pruned",
        "failed: 1 of 5 epochs; bad luck",
        "stopped: 1 of 5 epochs; to resume: hcl sweep tiny.yaml",
    ]


def test_all_of_a_folder_are_listed_and_other_folders_are_not(tmp_path: Path) -> None:
    write_study(tmp_path / "b", ("complete",))
    write_run(tmp_path / "a", 1)
    (tmp_path / "cache").mkdir()
    assert [state.name for state in states_in(tmp_path)] == ["a", "b"]
    assert states_in(tmp_path / "nowhere") == []
