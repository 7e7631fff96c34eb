"""Test that runs remember their data root: commands in other working folders find the data, and no record names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import results
from hcl.errors import ConfigError
from hcl.frames.stored_dataset import DataRoot
from orchestration.evaluation import evaluate as evaluating
from orchestration.evaluation import scorer, scoring
from orchestration.runtime import mounts
from orchestration.runtime.mounts import Bucket, uri_of
from orchestration.storage.buckets import _parsed
from orchestration.storage.data_roots import DATA_ROOT, data_of, remember_data, remembered_data
from orchestration.training import grids
from orchestration.training import train as training
from orchestration.training.run import Run
from orchestration.training.worker import run_epochs
from tests.orchestration.conftest import Command, prepare, tiny_experiment
from tests.orchestration.inline import without_ray


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "disk").mkdir()
    return tmp_path / "runs" / "first"


def test_the_given_root_comes_first_then_the_remembered_one_then_the_default(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert data_of([run], None) == Path("data") and data_of([], None) == Path("data")
    remember_data(run, Path("disk"))
    assert json.loads((run / DATA_ROOT).read_text()) == {"data": str(tmp_path / "disk")}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert capsys.readouterr().err == ""
    assert data_of([run], None) == tmp_path / "disk"
    assert f"note data: {tmp_path / 'disk'}, as first was trained" in capsys.readouterr().err
    assert data_of([run], Path("mine")) == Path("mine") and capsys.readouterr().err == ""


def test_the_default_itself_is_no_news(run: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    remember_data(run, tmp_path / "data")
    assert data_of([run], None) == tmp_path / "data" and capsys.readouterr().err == ""


def test_a_root_that_is_gone_is_named_and_the_default_is_used(run: Path, tmp_path: Path, capsys) -> None:
    remember_data(run, tmp_path / "disk")
    (tmp_path / "disk").rmdir()
    assert data_of([run], None) == Path("data")
    assert f"data in {tmp_path / 'disk'}, which is not there; data is used" in capsys.readouterr().err


def test_runs_of_different_roots_need_an_option(run: Path, tmp_path: Path) -> None:
    other = run.parent / "second"
    shutil.copytree(run, other)
    remember_data(run, tmp_path / "disk")
    remember_data(other, tmp_path / "runs")
    with pytest.raises(
        ConfigError, match=r"first was trained with data in .*disk, second with data in .*runs"
    ) as caught:
        data_of([run, other], None)
    assert caught.value.where == "--data"
    assert data_of([run, other], tmp_path) == tmp_path
    remember_data(other, tmp_path / "disk")
    assert data_of([run, other], None) == tmp_path / "disk"


def test_a_trial_has_the_root_of_its_study(run: Path, tmp_path: Path) -> None:
    trial = run / "trials" / "trial-0001"
    trial.mkdir(parents=True)
    remember_data(run, tmp_path / "disk")
    assert remembered_data(trial) == str(tmp_path / "disk")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"data": 3}', b'{"data": "relative"}', b"\xff", b"[" * 9999])
def test_a_damaged_file_counts_as_absent(run: Path, content: bytes) -> None:
    (run / DATA_ROOT).write_bytes(content)
    assert remembered_data(run) == ""


@pytest.mark.parametrize(
    "bucket", [Bucket("lab"), Bucket("lab", "http://127.0.0.1:9000", "eu-1"), Bucket("lab", "https://minio.example")]
)
def test_a_bucket_is_remembered_by_its_uri(bucket: Bucket, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert uri_of(bucket.folder / "data") is None
    monkeypatch.setenv(mounts._MOUNTED, json.dumps({str(bucket.folder): mounts.asdict(bucket)}))
    remember_data(run, bucket.folder / "my data")
    assert _parsed(str(Path(remembered_data(run))), "--data") == (bucket, "my data")


@pytest.mark.ray
def test_training_remembers_its_root(trained: Run, data_root: Path) -> None:
    assert remembered_data(trained.folder) == str(data_root)


@pytest.fixture
def made(data_root: Path, tmp_path: Path) -> Iterator[Run]:
    """Return a run that was trained in this process, whose evaluations need no Ray."""
    with pytest.MonkeyPatch.context() as patched:
        without_ray(patched, evaluating, grids, scorer, scoring)
        run = prepare(tiny_experiment(evaluation__shots=[1]), data_root=data_root, runs=tmp_path / "runs")
        grids.ensure_grids(run.grid_jobs(), run.runs)
        run_epochs(run)
        results.write_provenance(run.folder, training._provenance(run, "hcl train"))
        yield run


def test_commands_find_the_data_from_another_folder_and_records_do_not_name_it(
    made: Run, data_root: Path, hcl: Command, tmp_path: Path
) -> None:
    code, _, err = hcl("evaluate", "tiny")
    assert code != 0 and "data" in err
    training.train(made.experiment, data=DataRoot(data_root), runs=made.runs)
    assert remembered_data(made.folder) == str(data_root), "a finished run of an earlier version"
    for words in (("evaluate", "tiny"), ("reproduce", "runs/tiny"), ("train", "runs/tiny/experiment.yaml")):
        code, _, err = hcl(*words)
        assert code == 0 and f"note data: {data_root}, as tiny was trained" in err, err
    for form in ("json", "csv", "records"):
        assert hcl("results", "export", f"out-{form}", "tiny", "--format", form).code == 0
    written = [path for path in tmp_path.glob("out-*/**/*") if path.is_file()]
    assert len(written) > 3 and not [path for path in written if str(data_root).encode() in path.read_bytes()]
    code, _, err = hcl("evaluate", "tiny", "--data", tmp_path / "nowhere")
    assert code != 0 and "nowhere" in err
