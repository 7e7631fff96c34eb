"""Test hostile job submissions, descriptions of clusters and addresses."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.description import counted, read_description
from cluster.kuberay import render_kuberay
from cluster.ray_up import render_ray_up
from cluster.scripts import render_laptop, render_slurm
from cluster.servers import url_of
from cluster.tokens import find_token
from hcl.errors import ConfigError
from orchestration.cli import app
from orchestration.cli.submit import _number, _pairs
from orchestration.clusters.submission import check_command
from tests.fuzz.hostile import altered, contained, fuzzed, mutated, texts

GROUP: Any = typer.main.get_command(app)
DESCRIPTION = {
    "name": "lab", "image": "hcl:1", "head": {"cpus": 4, "machine": "m6i"}, "gpu": {"count": 2, "gpus": 8},
    "cpu": {"count": 1, "machine": "c6i"}, "storage": {"path": "/shared", "claim": "c", "server": "fs:/"}, "hours": 2,
    "ami": "ami-0123456789abcdef0",
}  # fmt: skip


def render(path: Path | None, changes: dict[str, Any]) -> None:
    """Render an accepted description; the YAML must load, and no field may break out of its place in a script."""
    description = read_description(path, changes)
    for rendered in (render_kuberay(description), render_ray_up(description)):
        assert all(isinstance(document, dict) for document in yaml.safe_load_all(rendered))
    for script in (render_laptop(description), render_slurm(description, ["train", "hcl"])):
        assert script.startswith("#!") and "\0" not in script


@fuzzed(15)
@given(mutated([yaml.safe_dump(DESCRIPTION).encode()]))
@example(b"name: !!int x")
@example(b'hours: !!float ""')
@example(b"[" * 5000)
def test_descriptions(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lab.yaml").write_bytes(content)
    with contained(tmp_path):
        render(tmp_path / "lab.yaml", {})


@fuzzed(15)
@given(altered(DESCRIPTION))
def test_descriptions_with_other_values(tmp_path: Path, content: Any) -> None:
    (tmp_path / "lab.yaml").write_text(json.dumps(content))
    with contained(tmp_path):
        render(tmp_path / "lab.yaml", {})


@fuzzed(20)
@given(texts)
def test_names_of_descriptions(tmp_path: Path, name: str) -> None:
    with contained(tmp_path):
        read_description(Path(str(tmp_path)) / name.replace("/", "").lstrip("."), {})
    with contained(tmp_path):
        counted(name, "--gpus")


@fuzzed(20)
@given(st.lists(texts, max_size=4))
def test_words_of_a_command_stay_words(words: list[str]) -> None:
    """Check that no word of a command becomes another command in a script."""
    printable = [word for word in words if word.isprintable() and word.isascii()]
    script = render_slurm(read_description(None, {"cpu": {"count": 1}}), ["train", *printable])
    assert all(shlex.quote(word) in script for word in printable)


@fuzzed(12)
@given(
    st.sampled_from(["train", "sweep", "evaluate", "nothing", "submit", ""]),
    st.lists(texts | st.just("--data"), max_size=4),
)
def test_commands_of_jobs(tmp_path: Path, name: str, words: list[str]) -> None:
    with contained(tmp_path):
        try:
            job = check_command(GROUP, [name, *words])
        except Exception as error:
            if type(error).__module__.split(".")[0] not in ("click", "typer"):
                raise
            return  # typer reports a missing file
        assert shlex.split(job.entrypoint("python", installed=True)) == ["hcl", *job.words]
        assert re.fullmatch(r"hcl-[A-Za-z0-9_-]*-[0-9a-f]{8}", job.new_id())


@fuzzed(12)
@given(mutated([b"base: other.yaml\nseed: 1\n", b"base: ../out.yaml\n"]))
@example(b"base: !!int x")
@example(b"base: '\\0.yaml'")
@example(b'base: "a\\0b.yaml"')
@example(b"base: " + b"a" * 300 + b".yaml")
def test_files_that_a_job_names(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.yaml").write_bytes(content)
    (tmp_path / "other.yaml").write_text("seed: 2\n")
    with contained(tmp_path):
        job = check_command(GROUP, ["train", str(tmp_path / "one.yaml"), "--data", "/data", "--runs", "/runs"])
        assert all(".." not in Path(place).parts and not place.startswith("/") for place in job.files)


@fuzzed(40)
@given(texts)
@example("[red]")
@example("host:port")
def test_addresses(tmp_path: Path, address: str) -> None:
    with contained(tmp_path):
        assert url_of(f"http://{address}").startswith("http://")


@fuzzed(40)
@given(texts, texts)
def test_resources_and_variables(tmp_path: Path, name: str, value: str) -> None:
    with contained(tmp_path):
        for key, number in _pairs("--resource", [f"{name}={value}"]):
            assert key and _number(number) >= 0


@fuzzed(20)
@given(st.binary(max_size=30) | texts.map(lambda text: text.encode(errors="surrogatepass")))
@example(b"one\rtwo")
@example("t\u00f6ken".encode())
def test_files_of_tokens(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_AUTH_TOKEN", raising=False)
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
        with contained(tmp_path):
            token = find_token()
            assert token is None or all("\n" not in value for value in token.header().values())


def test_an_environment_variable_without_a_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        _pairs("--env", ["=x"])
