"""Test full and read-only disks: one clear error, no half-written file counts as complete, and work can resume.

The disks are real: small file systems in memory, if they may be mounted.
"""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import results
from hcl.assembly.experiment_files import to_yaml
from hcl.errors import HCLError, StorageError
from hcl.frames.stored_dataset import DataRoot
from orchestration.evaluation import evaluate as evaluation
from orchestration.evaluation import scorer, scoring
from orchestration.storage.places import storage_error
from orchestration.sweeps.study import Limits
from orchestration.sweeps.sweep import sweep
from orchestration.training import grids, ray_train
from orchestration.training.ray_train import fit
from orchestration.training.run import Run
from orchestration.training.run_files import BEST, LAST
from orchestration.training.worker import run_epochs
from tests.orchestration.conftest import TWO, Command, tiny_experiment, tree
from tests.orchestration.inline import without_ray
from tests.orchestration.storage.conftest import MB, Disk
from tests.orchestration.sweeps.stub_trials import ENDS, filling, stub_study
from tests.orchestration.training.test_train import assert_same_checkpoints, untimed


@pytest.fixture(scope="module")
def whole(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Train two epochs in this process without a disturbance; the frozen stages are not cached."""
    runs = tmp_path_factory.mktemp("whole")
    run = Run(tiny_experiment(model__cached_views=0), DataRoot(data_root), runs, runs / "tiny")
    run_epochs(run)
    return run


def size_of(run: Run) -> int:
    return (run.folder / LAST).stat().st_size


@pytest.mark.parametrize("n_checkpoints", [0.5, 1.5, 2.5])
def test_training_on_a_full_disk_says_so_and_goes_on_once_there_is_room(
    whole: Run, disk: Disk, n_checkpoints: float
) -> None:
    """Training ends while it writes the first, second or third checkpoint."""
    disk.mount(int(n_checkpoints * size_of(whole)))
    run = Run(whole.experiment, whole.data, disk.folder, disk.folder / "tiny")
    with pytest.raises(StorageError, match="cannot be written: No space left on device") as caught:
        run_epochs(run)
    assert str(disk.folder) in str(caught.value.where) and "free space" in str(caught.value.remedy)
    assert run.epochs_done() == (n_checkpoints > 2)
    assert not list((run.folder / "checkpoints").glob(".*.partial"))
    disk.again("size=200m")
    run_epochs(run)
    assert untimed(run) == untimed(whole)
    assert_same_checkpoints(run, whole)


@pytest.mark.ray
@pytest.mark.long
def test_ray_train_on_a_full_disk_ends_with_one_error(trained: Run, disk: Disk) -> None:
    disk.mount(int(0.5 * size_of(trained)))
    run = Run(tiny_experiment(**TWO), trained.data, trained.runs, disk.folder / "tiny")
    with pytest.raises(StorageError, match="No space left on device"):
        fit(run)
    disk.again("size=300m")
    fit(run)
    assert untimed(run) == untimed(trained)


@pytest.mark.ray
@pytest.mark.long
def test_a_study_on_a_full_disk_stops_and_then_runs_what_is_left(
    local_ray: object, data_root: Path, disk: Disk
) -> None:
    """The full disk fails no trial, and finished trials are not run again."""
    disk.mount(5 * MB)
    study = stub_study(data_root, disk.folder, 6, stop_rule="none", limits=Limits(concurrency=1))
    with pytest.raises(StorageError, match="No space left on device"):
        sweep(study, train=filling)
    states = [trial.state for trial in results.read_trials(study.folder)]
    assert states.count("complete") == 2 and "failed" not in states
    done = (study.folder / ENDS).read_text()
    disk.again("size=300m")
    _, trials = sweep(study, train=filling)
    assert [trial.state for trial in trials] == 6 * ["complete"]
    ended = (study.folder / ENDS).read_text()
    assert ended.startswith(done) and sorted(ended.split()) == [trial.trial for trial in trials]


def test_an_evaluation_on_a_full_disk_leaves_no_record_and_goes_on(
    whole: Run, disk: Disk, hcl: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch, scoring, scorer, grids, evaluation)
    monkeypatch.setattr(scoring, "_check_room", lambda *_: None)
    disk.mount((whole.folder / BEST).stat().st_size + 40_000)  # the features alone take more
    (disk.folder / "tiny" / "checkpoints").mkdir(parents=True)
    (disk.folder / "tiny" / "experiment.yaml").write_text(to_yaml(whole.experiment))
    shutil.copy(whole.folder / BEST, disk.folder / "tiny" / BEST)
    words = ["evaluate", "tiny", "--data", whole.data.path, "--runs", disk.folder]
    code, _, err = hcl(*words)
    assert code == 1 and "cannot be written" in err and "free space" in err  # numpy counts bytes, and has no number
    assert str(disk.folder) in err and "Traceback" not in err
    assert not list(disk.folder.rglob("evaluation/*.json"))
    disk.again("size=300m")
    assert hcl(*words).code == 0
    assert len(list(disk.folder.rglob("evaluation/*.json"))) == 2


def refused(hcl: Command, *words: str | Path) -> str:
    began = time.monotonic()
    code, _, err = hcl(*words)
    assert code == 1 and "Traceback" not in err, err
    assert time.monotonic() - began < 10
    return " ".join(err.split())


def test_read_only_storage_is_refused_before_any_work(
    data_root: Path, disk: Disk, hcl: Command, experiment_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data may be read-only except for commands that write frames."""
    started: list[str] = []
    monkeypatch.setattr("orchestration.runtime.local_ray._start", lambda *_: started.append("Ray"))
    disk.mount()
    shutil.copytree(data_root / "splits", disk.folder / "data" / "splits")
    (disk.folder / "data" / "videos" / "toy" / "ant").mkdir(parents=True)
    (disk.folder / "data" / "videos" / "toy" / "ant" / "ant_0.mp4").write_bytes(b"video")
    (disk.folder / "runs").mkdir()
    disk.again("ro")
    before = tree(disk.folder)
    runs = ["--runs", disk.folder / "runs"]
    for words in (
        ["train", experiment_file, "--data", data_root, *runs],
        ["sweep", experiment_file, "--data", data_root, *runs, "--trials", "2"],
        ["extract", "toy", "--data", disk.folder / "data"],
    ):
        assert "cannot be written: Read-only file system" in refused(hcl, *words), words
    assert tree(disk.folder) == before and not started


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: OSError(errno.ENOSPC, "No space left on device", "/runs/a"), "/runs/a"),
        (lambda: RuntimeError("ray::work() OSError: [Errno 28] No space left on device"), "/runs"),
        (lambda: OSError(errno.EROFS, "Read-only file system"), "/runs"),
        (lambda: ValueError("a bug"), None),
        (lambda: OSError(errno.ENOENT, "No such file or directory", "/x"), None),
    ],
)
def test_the_disks_part_in_an_error_is_found(make: Callable[[], Exception], where: str | None) -> None:
    outer = RuntimeError("a task failed")
    outer.__cause__ = make()
    fault = storage_error(outer, Path("/runs"))
    assert (fault.where if fault else None) == where
    assert fault is None or isinstance(fault, HCLError)


def test_a_worker_that_cannot_leave_its_error_behind_is_heard_all_the_same(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failed(Exception):
        def __init__(self) -> None:
            self.worker_failures = {
                0: results.RecordError("cannot be written: No space left on device", where="/runs/x")
            }

    class Trainer:
        def fit(self) -> None:
            raise Failed

    monkeypatch.setattr(ray_train, "_trainer", lambda *_: Trainer())
    monkeypatch.setattr(ray_train, "wait_for_nodes", lambda *_, **__: None)
    monkeypatch.setattr(ray_train, "first_count", lambda settings: settings.workers)
    with pytest.raises(StorageError, match="No space left on device"):
        fit(Run(whole.experiment, whole.data, tmp_path, tmp_path / "tiny"))
