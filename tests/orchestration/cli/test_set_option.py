"""`--set PATH=VALUE`: every command takes and refuses the same texts, and says the same about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from hcl.assembly.experiment_files import to_yaml
from hcl.config.overrides import parse_overrides, parse_point
from hcl.config.resolve import resolve
from hcl.errors import ConfigError
from orchestration.cli import app
from orchestration.cli.sweep_options import space_of
from search_spaces import Fixed
from tests.orchestration.conftest import Command, tiny_experiment


@pytest.fixture
def commands(tmp_path: Path, data_root: Path) -> dict[str, list[str | Path]]:
    """Every command that takes --set, up to it, by name."""
    file, runs = tmp_path / "tiny.yaml", tmp_path / "runs"
    file.write_text(to_yaml(tiny_experiment()))
    (runs / "tiny").mkdir(parents=True)
    (runs / "tiny" / "experiment.yaml").write_text(file.read_text())
    torch.save({}, tmp_path / "released.pth")
    places: list[str | Path] = ["--data", data_root, "--runs", runs]
    return {
        "config show": ["config", "show", file],
        "config validate": ["config", "validate", file],
        "train": ["train", file, *places],
        "sweep": ["sweep", file, *places],
        "evaluate": ["evaluate", "tiny", *places],
        "fuse": ["fuse", "tiny", *places],
        "explain": ["explain", "tiny", *places, "--query", "hen/hen_0"],
        "predict": [
            "predict",
            "tiny",
            *places,
            "--support",
            data_root,
            "--query",
            data_root / "images" / "toy" / "hen",
        ],
        "checkpoint import": ["checkpoint", "import", tmp_path / "released.pth", "--to", tmp_path / "to"],
        "data show": ["data", "show", file, "--data", data_root],
        "data check": ["data", "check", "toy", "--for", file, "--data", data_root],
        "doctor": ["doctor", "--for", file, *places],
        "data embed": ["data", "embed", "toy", "--data", data_root],
    }


def test_the_commands_are_all_that_take_it(commands: dict[str, list[str | Path]]) -> None:
    def names(group: typer.core.TyperGroup, before: str = "") -> set[str]:
        found = set()
        for name, command in group.commands.items():
            if isinstance(command, typer.core.TyperGroup):
                found |= names(command, f"{before}{name} ")
            elif any("--set" in parameter.opts for parameter in command.params):
                found.add(f"{before}{name}")
        return found

    assert names(typer.main.get_command(app)) == set(commands)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "texts",
    [
        ["evaluation.shots"],
        ["=3"],
        [""],
        ["evaluation.shots=[1"],
        ["evaluation.shots=!!int x"],
        ["evaluation.shot=1"],
        ["evaluation.way.more=1"],
        ["evaluation=3"],
        ["evaluation={way: 2, wax: 3}"],
        ["nothing.like=1"],
        ["evaluation.episodes=soon"],
        ["evaluation.way=010.5"],
        # taken, up to the last:
        [" evaluation.way = 3 ", "evaluation.way"],
        ["evaluation={way: 3, shots: [1, 5]}", "evaluation.way"],
        ["data.cache_dir=/a: b", "evaluation.way"],
        ["evaluation.shots=[1, 5]  # a remark", "evaluation.way"],
        ["evaluation.way=3", "evaluation.way=4", "evaluation.way"],
    ],
    ids=" ".join,
)
def test_all_commands_refuse_the_same_texts_alike(
    commands: dict[str, list[str | Path]], hcl: Command, texts: list[str]
) -> None:
    told = {}
    for name, words in commands.items():
        code, _, error = hcl(*words, *(word for text in texts for word in ("--set", text)))
        assert code == 2, (name, error)
        told[name] = " ".join(error.split())
    assert len(set(told.values())) == 1, told
    assert told["train"].startswith("error --set") and "Traceback" not in told["train"]


def test_the_values_of_a_study_are_those_of_its_trials() -> None:
    """Fix the same value in the space and in the experiment by --set, whether or not the defaults allow for it."""
    text = "clips.n_frames=32"  # more than model.max_positions is by default
    with pytest.raises(ConfigError, match=r"exceeds model\.max_positions"):
        resolve(None, [text])
    assert resolve(None, [text, "model.max_positions=40"]).experiment.clips.n_frames == 32
    fixed = space_of("sigma", ["loss.sigma_temporal=1e-1", text]).parameters["loss.sigma_temporal"]
    assert isinstance(fixed, Fixed) and fixed.value == 0.1
    with pytest.raises(ConfigError, match="expected a number"):
        space_of("sigma", ["loss.sigma_temporal=high"])


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("loss.sigma_ce=0.5", {"loss.sigma_ce": 0.5}),
        ("loss.sigma_ce=5e-1, loss.sigma_spatial = 1", {"loss.sigma_ce": 0.5, "loss.sigma_spatial": 1}),
        ("evaluation.shots=[1, 5],name=007", {"evaluation.shots": [1, 5], "name": "007"}),
        ("loss={sigma_ce: 0.5, sigma_spatial: 1},seed=3", {"loss.sigma_ce": 0.5, "loss.sigma_spatial": 1, "seed": 3}),
    ],
)
def test_a_point_is_overrides_with_commas(text: str, point: dict[str, Any]) -> None:
    assert parse_point(text) == point


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("loss.sigma_ce", "is not PATH=VALUE"),
        ("loss.sigma_ce=1,loss.sigma_ce=2", "stands twice"),
        ("loss.sigma_ce=[1", "not valid YAML"),
        ("loss.sigma_cf=1", "unknown setting"),
    ],
)
def test_a_point_that_is_none_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        parse_point(text)
    assert str(caught.value.where).startswith("--point")


def test_a_setting_of_text_takes_it_as_it_stands() -> None:
    assert parse_overrides(["name=007", "data.cache_dir=/a: b", "name='1'"]) == {"name": "1", "data.cache_dir": "/a: b"}
