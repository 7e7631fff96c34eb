"""Test `hcl new` by its command line: what it prints, writes, recognises and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hcl.config.resolve import resolve
from tests.orchestration.conftest import Command, Outcome, tree
from tests.orchestration.planning.folder_shapes import classes_in, ten_of_eight


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return ten_of_eight(tmp_path / "my videos")


def new(hcl: Command, source: Path, *options: str | Path, name: str = "mine") -> Outcome:
    return hcl("new", name, "--from", source, "--cpu", "--no-open-files", *options)


def test_it_prints_what_it_found_and_the_commands(hcl: Command, source: Path, tmp_path: Path) -> None:
    made = new(hcl, source)
    assert made.code == 0, made.err
    for text in (
        "80 videos of 10 classes (8 a class); one folder a class",
        "train 4 classes, 32 videos; val 3 classes, 24 videos; test 3 classes, 24 videos; drawn with seed 0",
        "evaluation.way=3",
        "evaluation.queries=3: 5 + 3 of the 8 videos of the smallest class",
        "GB free",
        "  hcl extract mine\n  hcl train mine.yaml\n  hcl evaluate mine --method hcl --method untrained",
    ):
        assert text in made.out
    assert "episodes have 3 classes: chance is 33%" in made.err
    assert resolve(tmp_path / "mine.yaml").experiment.evaluation.way == 3


def test_a_dry_run_writes_nothing(hcl: Command, source: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    assert "nothing was written" in new(hcl, source, "--dry-run").out
    assert tree(tmp_path) == before


def test_a_repeated_command_says_that_it_is_made(hcl: Command, source: Path, tmp_path: Path) -> None:
    new(hcl, source)
    (tmp_path / "mine.yaml").write_text("base: demo\n")  # the user's own change
    before = tree(tmp_path)
    again = new(hcl, source)
    assert again.code == 0 and "mine is already made from" in again.out and "  hcl extract mine" in again.out
    assert tree(tmp_path) == before


def test_nothing_is_replaced_without_consent(hcl: Command, source: Path, tmp_path: Path) -> None:
    new(hcl, source)
    other = classes_in(tmp_path / "other", 6, 4)
    before = tree(tmp_path)
    for options in ((other,), (source, "--seed", "1")):
        refused = new(hcl, *options)
        assert refused.code == 2 and "was made from" in refused.err and "--restart" in refused.err
    assert tree(tmp_path) == before
    replaced = new(hcl, other, "--restart")
    assert replaced.code == 0 and resolve(tmp_path / "mine.yaml").experiment.evaluation.way == 2
    (tmp_path / "yours.yaml").write_text("base: demo\n")
    refused = new(hcl, source, name="yours")
    assert refused.code == 2 and "yours.yaml: exists" in refused.err
    assert not (tmp_path / "data" / "splits" / "yours").exists()


def test_an_interrupted_command_is_repeated(hcl: Command, source: Path, tmp_path: Path) -> None:
    new(hcl, source)
    state = tmp_path / "data/splits/mine/new.json"
    whole = tree(tmp_path)
    content = json.loads(state.read_text())
    content.pop("crc32")
    state.write_text(json.dumps(content | {"is_whole": False}))
    for path in ("mine.yaml", "data/splits/mine/test.list"):
        (tmp_path / path).unlink()
    assert "written: mine.yaml" in new(hcl, source).out
    assert tree(tmp_path) == whole


def test_commands_name_other_places_and_quote_them(hcl: Command, source: Path, tmp_path: Path) -> None:
    made = new(hcl, source, "--data", tmp_path / "my data", "--runs", "my runs", "--experiment", "my plan.yaml")
    assert made.code == 0, made.err
    at = f"--data '{tmp_path}/my data'"
    assert f"  hcl extract mine {at}\n  hcl train 'my plan.yaml' {at} --runs 'my runs'\n" in made.out


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("../up", (), "use letters, digits"),
        ("kinetics100", (), "is a published data set"),
        ("mine", ("--experiment", "mine.txt"), "ends in .yaml"),
    ],
)
def test_names_that_cannot_be(name: str, options: tuple[str, ...], text: str, hcl: Command, source: Path) -> None:
    refused = new(hcl, source, *options, name=name)
    assert refused.code == 2 and text in refused.err
