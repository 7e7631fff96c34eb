"""Test that `hcl cluster render KIND -- COMMAND` refuses commands that would lose or lack files where they run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from hcl.errors import ConfigError
from orchestration.cli import app


def rendered(kind: str, words: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["cluster", "render", kind, "--gpus", "1x1", *options, "--", *words.split()])


PLACES = "--data /shared/data --runs /shared/runs"


@pytest.mark.parametrize("kind", ["kuberay", "slurm"])
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (f"trian hcl {PLACES}", "No such command 'trian'"),
        (f"train hcl {PLACES} --no-such", "No such option: --no-such"),
        ("jobs list", "-- COMMAND: hcl jobs is no job"),
        (f"train hcl {PLACES} --address head:6379", "--address: a job uses the cluster that it runs on"),
        ("train hcl --data s3://A:/x --runs /shared/runs", "--data: 's3://A:/x' is neither"),
    ],
)
def test_a_command_that_cannot_be_a_job_is_not_rendered(kind: str, words: str, text: str) -> None:
    done = rendered(kind, words)
    assert done.exit_code and text in f"{done.stderr}{done.exception}" and not done.stdout


def test_what_a_pod_would_lose_or_lack_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("base: hcl\n")
    keys = tmp_path / "keys.yml"
    keys.write_text("storage: {bucket_secret: lab-keys}\n")
    here = f"{tmp_path}/mine.yaml"
    for words, options, text in (
        ("train hcl", (), "--data: 'data' would lie in"),
        ("train hcl --data=/shared/data", (), "--runs: 'runs' would lie in"),
        ("train hcl --data /shared/data --runs /runs", (), "--runs: '/runs' would lie in a pod.*\n.*below /shared"),
        ("train hcl --data=/shared/../data --runs=/shared", (), "--data: '/shared/../data' would lie in a pod"),
        (f"train hcl {PLACES}", ("--from", str(keys)), "--data: '/shared/data' would lie in a pod.*\n.*s3://"),
        (f"train mine.yaml {PLACES}", (), "^mine.yaml: is a file on this machine, which no pod has\n.*below /shared"),
        (f"train {here} {PLACES}", (), f"^{here}: is a file on this machine"),
        (f"train {here} --data s3://lab/d --runs s3://lab/r", ("--from", str(keys)), f"^{here}: .*\n.*the image"),
    ):
        error = rendered("kuberay", words, *options).exception
        assert isinstance(error, ConfigError) and re.search(text, str(error)), words


def test_commands_whose_files_a_pod_has_become_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("base: hcl\n")
    (tmp_path / "keys.yml").write_text("storage: {bucket_secret: lab-keys}\n")
    for words, options in (
        (f"train hcl {PLACES}", ()),
        (f"hcl train {tmp_path}/mine.yaml --data {tmp_path} --runs {tmp_path}/runs", ("--storage", str(tmp_path))),
        ("train hcl --data s3://lab/data --runs s3://lab/runs", ("--from", "keys.yml")),
    ):
        done = rendered("kuberay", words, *options)
        assert done.exit_code == 0, done.exception
        assert yaml.safe_load(done.stdout)["spec"]["entrypoint"] == f"hcl {words.removeprefix('hcl ')}"


def test_a_slurm_jobs_paths_may_be_relative_to_where_it_is_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("base: hcl\n")
    for words in ("train hcl", "train mine.yaml --data data --runs=runs", f"train hcl {PLACES}"):
        assert f" hcl {words} ||" in rendered("slurm", words).stdout
