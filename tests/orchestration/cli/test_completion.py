"""Test what the Tab key offers: names of every kind in the right places, and words as bash and zsh give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from hcl.config.paths import all_settings
from hcl.config.resolve import resolve
from orchestration.cli.shell import completion
from orchestration.evaluation.methods import METHODS, methods_of
from tests.architecture.test_command_line_documented import COMMANDS

COMPLETED = {"dataset", "experiment", "fits", "method", "run", "settings", "space", "warm_start"}
"""Parameters by name that the Tab key completes wherever they are, unless they name something new."""
OF_THEIR_OWN = {
    "hcl new experiment",  # the file of a new experiment
    "hcl reproduce run",  # a switch
    "hcl results track experiment",  # MLflow's
    "hcl data embed settings",  # one setting
}


def completer(parameter: Any) -> Any:
    return getattr(parameter, "_custom_shell_complete", None)


PARAMETERS = {
    f"{path} {parameter.name}": parameter
    for path, command in COMMANDS.items()
    for parameter in command.params
    if parameter.name in COMPLETED and f"{path} {parameter.name}" not in OF_THEIR_OWN
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_name_of_a_kind_is_completed(name: str) -> None:
    assert completer(PARAMETERS[name]) is not None


def test_there_are_names_to_complete() -> None:
    assert len(PARAMETERS) > 30 and {name.split()[-1] for name in PARAMETERS} == COMPLETED


def context(**params: Any) -> typer.Context:
    made = typer.Context(COMMANDS["hcl train"], info_name="train")
    made.params.update(params)
    return made


def test_every_setting_is_offered_and_each_offered_value_is_accepted() -> None:
    offered = completion.settings(context(), "")
    assert [path for path, _ in offered] == list(all_settings()) and all(text for _, text in offered)
    n_values = 0
    for path in ("train.use_gpu", "optim.schedule", "optim.lr", "evaluation.shots", "train.val_shot", "mode", "name"):
        for word, _ in completion.settings(context(), f"{path}="):
            assert word.startswith(f"{path}=")
            resolve("hcl", [word])
            n_values += 1
    assert n_values >= 10
    assert completion.settings(context(), "optim.lr=0.5") == [] == completion.settings(context(), "nothing=")


def test_methods_are_those_that_can_be_evaluated() -> None:
    names = {name for name, _ in completion.methods("")}
    assert set(METHODS) <= names and set(methods_of(resolve("metaworld_protonet").experiment)) <= names


def test_runs_studies_and_trials(tmp_path: Path) -> None:
    for name in ("first", "study", "study/trials/trial-0001"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "experiment.yaml").touch()
    (tmp_path / "study" / "sweep.json").touch()
    here = context(runs=tmp_path)
    assert completion.runs(here, "") == ["first", "study"] and completion.runs(here, "f") == ["first"]
    assert completion.runs(here, "study/tr") == ["study/trial-0001"]
    assert completion.studies(here, "") == [str(tmp_path / "study")]
    sweep = typer.Context(COMMANDS["hcl sweep"], info_name="sweep")
    sweep.params["runs"] = tmp_path
    assert completion.studies_or_experiments(sweep, "s") == ["ssv2_100", "ssv2_100_otam", "study"]
    assert "study" not in completion.studies_or_experiments(here, "s")


def test_experiments_and_spaces_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    assert completion.experiments("mi") == ["mine.yaml"] and completion.spaces("mi") == ["mine.yaml"]


def test_a_bucket_is_not_asked() -> None:
    assert completion.runs(context(runs=Path("s3://lab/runs")), "") == []


@pytest.mark.parametrize(
    ("words", "at", "joined", "last", "kept"),
    [
        ("hcl train de", 2, "hcl train de", 2, ""),
        ("hcl train demo --set a.b = t", 6, "hcl train demo --set a.b=t", 4, "a.b="),
        ("hcl train demo --set a.b =", 5, "hcl train demo --set a.b=", 4, "a.b="),
        ("hcl train demo --set a.b = t ", 7, "hcl train demo --set a.b=t ''", 5, ""),
        ("hcl results compare x : o", 5, "hcl results compare x:o", 3, "x:"),
        ("hcl jobs list --address http : //h : 82", 8, "hcl jobs list --address http://h:82", 4, "http://h:"),
        ("hcl train --set a.b = t --r", 6, "hcl train --set a.b=t --r", 4, ""),
    ],
)
def test_bash_takes_words_apart_and_they_are_joined(words: str, at: int, joined: str, last: int, kept: str) -> None:
    environment = {"_HCL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(at)}
    assert completion.join_words_of_bash(environment) == kept
    assert environment["COMP_WORDS"] == joined and environment["COMP_CWORD"] == str(last)


@pytest.mark.parametrize("words", ["hcl train 'unfinished", "hcl"])
def test_words_that_cannot_be_read_stay_as_they_are(words: str) -> None:
    environment = {"_HCL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "x"}
    before = dict(environment)
    assert completion.join_words_of_bash(environment) == "" and environment == before
