"""Test where the defaults of --data, --runs and --address come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcl.errors import ConfigError
from orchestration.storage.folder_defaults import FILE, VARIABLES, apply_folder_defaults
from tests.orchestration.conftest import Command


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES.values():
        monkeypatch.setenv(variable, "")  # so that monkeypatch restores what a command sets
        monkeypatch.delenv(variable)


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(text)
    return folder / FILE


def test_the_nearest_file_above_counts_and_its_paths_are_relative_to_it(tmp_path: Path) -> None:
    write(tmp_path, 'data = "elsewhere"')
    file = write(
        tmp_path / "lab", 'data = "videos"\nruns = "/scratch/runs"\naddress = "head:6379"\nstorage = "s.log"\n'
    )
    below = tmp_path / "lab" / "paper" / "code"
    below.mkdir(parents=True)
    environment: dict[str, str] = {}
    origins = apply_folder_defaults(below, environment)
    assert environment == {
        "HCL_DATA": str(tmp_path / "lab" / "videos"), "HCL_RUNS": "/scratch/runs", "HCL_ADDRESS": "head:6379",
        "HCL_STORAGE": "s.log",
    }  # fmt: skip
    assert origins == dict.fromkeys(VARIABLES, str(file))


def test_a_variable_comes_before_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'data = "s3://bucket/data"\nruns = "runs"\n')
    environment = {"HCL_RUNS": "/mine"}
    assert apply_folder_defaults(tmp_path, environment) == {"runs": "HCL_RUNS", "data": str(file)}
    assert environment == {"HCL_RUNS": "/mine", "HCL_DATA": "s3://bucket/data"}


def test_without_a_file_nothing_changes(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    assert apply_folder_defaults(tmp_path, environment) == {} and environment == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data = 3", "data is 3, expected a text"),
        ('data = ""', "data is '', expected a text"),
        ('dataa = "x"', "unknown key 'dataa', did you mean `data`"),
        ('[loss]\nsigma_ce = "1"', "unknown key 'loss'"),
        ("data = nothing", "cannot be read: "),
        ("data = '\xff", "cannot be read: "),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        apply_folder_defaults(tmp_path, {})
    assert message in str(caught.value) and str(tmp_path / FILE) in str(caught.value) and caught.value.remedy


def test_commands_use_it_and_an_option_comes_first(hcl: Command, tmp_path: Path) -> None:
    write(tmp_path, 'runs = "kept"\n')
    assert str(tmp_path / "kept") in hcl("results", "list").err
    assert "error other: does not exist" in hcl("results", "list", "--runs", "other").err
    code, _, err = hcl("evaluate", "nowhere")
    assert code == 2 and str(tmp_path / "kept") in err


def test_config_show_tells_where_each_folder_comes_from(
    hcl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(*words: str) -> dict[str, tuple[str, str]]:
        code, out, err = hcl("config", "show", "demo", *words)
        assert code == 0, err
        cells = [
            [cell.strip() for cell in line.split("│")[1:4]] for line in out.splitlines() if line.startswith("│ --")
        ]
        return {option: (value, origin) for option, value, origin in cells}

    monkeypatch.setenv("COLUMNS", "500")  # a path of any length stays on its line
    assert shown() == {"--data": ("data", "default"), "--runs": ("runs", "default")}
    file = write(tmp_path, 'data = "videos"\nruns = "kept"\nstorage = "postgresql://me:secret@host/studies"\n')
    monkeypatch.setenv("HCL_ADDRESS", "head:6379")
    assert shown() == {
        "--data": (str(tmp_path / "videos"), str(file)),
        "--runs": (str(tmp_path / "kept"), str(file)),
        "--address": ("head:6379", "HCL_ADDRESS"),
        "--storage": ("postgresql://me:***@host/studies", str(file)),
    }
    for variable in ("HCL_RUNS", "HCL_STORAGE"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HCL_DATA", "/mine")
    assert shown("--runs", "other", "--origin", "--runs") == {"--runs": ("other", "--runs")}
    assert shown("--origin", "HCL_DATA") == {"--data": ("/mine", "HCL_DATA")}


def test_a_default_of_this_machine_does_not_reach_a_job(hcl: Command, tmp_path: Path) -> None:
    write(tmp_path, 'data = "/shared/data"\n')
    code, _, err = hcl("submit", "--address", "http://127.0.0.1:1", "--", "train", "demo", "--runs", "/shared/runs")
    assert code == 2 and "--data: /shared/data is the default here (hcl.toml or HCL_DATA), but not in the job" in err
