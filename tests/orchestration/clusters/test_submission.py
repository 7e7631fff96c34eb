"""Test commands as jobs: refusals before a cluster is contacted, and the files that are sent."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from hcl.errors import ConfigError
from orchestration.cli import app
from orchestration.clusters.submission import JobCommand, check_command
from tests.orchestration.conftest import Command

PLACES = ["--data", "/shared/data", "--runs", "/shared/runs"]


def check(*words: str) -> JobCommand:
    return check_command(typer.main.get_command(app), words)  # type: ignore[arg-type]


def test_a_whole_command_is_run_by_the_packed_or_by_the_installed_program() -> None:
    job = check("hcl", "sweep", "demo", "--set", "name=a b", *PLACES)
    assert job.words == ("sweep", "demo", "--set", "name=a b", *PLACES) and job.files == {}
    tail = "sweep demo --set 'name=a b' --data /shared/data --runs /shared/runs"
    assert job.entrypoint("/opt/python", installed=False) == f"/opt/python -m orchestration {tail}"
    assert job.entrypoint("python", installed=True) == f"hcl {tail}"
    assert job.new_id().startswith("hcl-sweep-demo-") and job.new_id() != job.new_id()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("", "no command is given"),
        ("submit -- sweep demo", "hcl submit is no job"),
        ("jobs list", "hcl jobs is no job"),
        ("data", "needs a subcommand"),
        ("sweep demo --runs /r", "--data: 'data' would lie in the job's temporary folder"),
        ("sweep demo --data /d", "--runs: 'runs' would lie"),
        ("sweep demo --data /d --runs /r --storage my.journal", "--storage: 'my.journal' would lie in the job's"),
        ("sweep demo --data /d --runs /r --storage sqlite:///s.db", "--storage: 'sqlite:///s.db' would lie"),
        ("sweep demo --data /d --runs /r --warm-start old", "--warm-start: 'old' would lie"),
        ("sweep demo --data /d --runs /r --cache-dir cache", "--cache-dir: 'cache' would lie"),
        ("sweep demo --data /d --runs /r --address head:6379", "--address: a job uses the cluster that it runs on"),
    ],
)
def test_what_cannot_be_a_job(words: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        check(*words.split())


@pytest.mark.parametrize("storage", ["/shared/my.journal", "sqlite:////shared/s.db", "postgresql://lab@db/studies"])
def test_a_study_whose_storage_the_cluster_sees(storage: str) -> None:
    assert check("sweep", "demo", "--storage", storage, *PLACES).words[3] == storage


def test_a_storage_that_the_environment_names_would_not_reach_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCL_STORAGE", "postgresql://lab:secret@db/studies")
    with pytest.raises(ConfigError, match="HCL_STORAGE: is set here") as caught:
        check("sweep", "demo", *PLACES)
    assert "secret" not in str(caught.value)


def test_a_settings_file_comes_along_with_its_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.yaml").write_text("base: ../common.yaml\nname: run\n")
    (tmp_path / "common.yaml").write_text("base: demo\n")
    (tmp_path / "space.yaml").write_text("name: s\n")
    monkeypatch.chdir(tmp_path)
    joined = check("sweep", "mine/run.yaml", "--space=space.yaml", *PLACES)
    assert joined.words[2] == "--space=submitted/2/space.yaml"
    assert joined.files["submitted/2/space.yaml"] == tmp_path / "space.yaml"
    job = check("sweep", "mine/run.yaml", "--space", "space.yaml", *PLACES)
    assert job.words[:4] == ("sweep", "submitted/1/mine/run.yaml", "--space", "submitted/3/space.yaml")
    assert job.files == {
        "submitted/1/mine/run.yaml": tmp_path / "mine" / "run.yaml",
        "submitted/1/common.yaml": tmp_path / "common.yaml",
        "submitted/3/space.yaml": tmp_path / "space.yaml",
    }


def test_a_dry_run_tells_the_size_and_asks_no_cluster(hcl: Command) -> None:
    code, out, err = hcl("submit", "--dry-run", "--", "train", "demo", *PLACES)
    assert code == 0, err
    assert "files, " in out and " MB packed" in out and "nothing was submitted" in out
    assert "hcl train demo --data /shared/data --runs /shared/runs" in out


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--dry-run", "--limit", "0.1"], 1, "are more than 0.1 MB; the largest"),
        (["--env", "NCCL_DEBUG"], 2, "--env: 'NCCL_DEBUG' is not NAME=VALUE"),
        (["--resource", "a=many"], 2, "--resource: 'many' is not a number"),
        (["--address", "127.0.0.1:1"], 1, "no job server answers there"),
    ],
)
def test_submissions_that_are_refused(hcl: Command, options: list[str], code: int, text: str) -> None:
    outcome = hcl("submit", *options, "--", "train", "demo", *PLACES)
    assert outcome.code == code and text in outcome.err
    assert "Traceback" not in outcome.err


def test_an_unknown_option_of_the_command_is_misuse(hcl: Command) -> None:
    outcome = hcl("submit", "--dry-run", "--", "train", "demo", "--bogus")
    assert outcome.code == 2 and "No such option: --bogus" in outcome.err


def test_render_writes_a_file_or_standard_output(hcl: Command, tmp_path: Path) -> None:
    printed = hcl("cluster", "render", "kuberay", "--gpus", "4x8", "--image", "registry/hcl:1")
    assert printed.code == 0 and "kind: RayCluster" in printed.out and "image: registry/hcl:1" in printed.out
    written = hcl("cluster", "render", "slurm", "--gpus", "2x4", "--to", "job.sh", "--", "train", "hcl")
    assert written.code == 0 and "hcl train hcl" in (tmp_path / "job.sh").read_text()
    assert hcl("cluster", "render", "laptop", "--cpus", "1x2", "--", "train", "hcl").code == 2
