"""Test how names, entry points, modules and files of the user's own are found, and what is refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from hcl.assembly.experiment_files import load_resolved, write_experiment
from hcl.config import Experiment, extensions
from hcl.config.extensions import SETTINGS, find, names
from hcl.config.resolve import changes, override, resolve, rows
from hcl.errors import ConfigError

CODE = """
from torch import nn
from hcl.assembly.regimes import PooledParts
from hcl.config import Section, setting
from hcl.models.baselines import ProtoNet

class Scaled(PooledParts):
    class Settings(Section):
        factor: float = setting(2.0, "factor of all scores", gt=0)
        rounds: int = setting(1, "rounds of refinement", ge=1, unit="views")

    def head(self, experiment, channels, n_classes):
        return ProtoNet()

class Plain(PooledParts):
    def head(self, experiment, channels, n_classes):
        return ProtoNet()

class Nothing:
    pass

class Fails:
    def __init__(self):
        raise RuntimeError("no licence")

class Wrong(PooledParts):
    Settings = dict
"""
POOLED = {"model.pooled_from": "encoder"}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    (tmp_path / "mine.yaml").write_text(
        "model: {pooled_from: encoder}\ntrain: {regime: './mine.py:Scaled'}\nregime: {factor: 3}\n"
    )
    return path


def experiment_of(mine: Path, **settings: Any) -> Experiment:
    return resolve(
        mine.with_suffix(".yaml"), {key.replace("__", "."): value for key, value in settings.items()}
    ).experiment


def refusal(settings: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        resolve(None, POOLED | settings)
    return str(error.value)


def test_a_file_beside_the_yaml_is_found_from_any_folder(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    experiment = experiment_of(mine)
    assert experiment.regime_name == "Scaled" and experiment.train.traits.is_episodic
    assert experiment.regime.factor == 3 and experiment.regime.rounds == 1  # type: ignore[attr-defined]
    assert type(experiment.definition("regime").implementation).__name__ == "Scaled"


def test_a_file_on_the_command_line_is_relative_to_the_working_folder(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mine.parent)
    experiment = resolve(None, POOLED | {"train.regime": "mine.py:Scaled", "regime.factor": 1.5}).experiment
    assert experiment.train.regime == f"{mine}:Scaled" and experiment.regime.factor == 1.5  # type: ignore[attr-defined]


def test_settings_of_its_own_are_listed_with_origin_unit_and_meaning(mine: Path) -> None:
    table = {row.path: row for row in rows(resolve(mine.with_suffix(".yaml"), ["regime.rounds=4"]))}
    assert table["regime.factor"][1:] == (3, str(mine.with_suffix(".yaml")), "", "factor of all scores")
    assert table["regime.rounds"][1:4] == (4, "--set", "views")


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"regime.factr": 1}, ["--set", "unknown setting `regime.factr`", "did you mean `factor`", "factor, rounds"]),
        ({"regime.factor": -1}, ["--set: regime.factor", "got -1", "above 0", "factor of all scores (default: 2.0)"]),
        ({"regime.factor": "x"}, ["got 'x', expected a number"]),
        ({"regime": 3}, ["`regime` is a section"]),
        ({"regime.factor.deep": 3}, ["unknown setting"]),
        ({"train.regime": "hcl", "model.pooled_from": "backbone"}, ["unknown setting `regime.factor`", "none"]),
    ],
)
def test_its_settings_are_checked_like_ours(mine: Path, settings: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        experiment_of(mine, **settings)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("mine.py:Scaledd", ["--set: train.regime=mine.py:Scaledd", "has no Scaledd, did you mean `Scaled`?"]),
        ("mine.py:Nothing", ["has no traits and no model and no regime and no method, which a regime needs"]),
        ("mine.py:Fails", ["cannot be loaded: RuntimeError: no licence (mine.py, line 24)"]),
        ("mine.py:Wrong", ["its Settings are no hcl.config.Section"]),
        ("gone.py:Scaled", ["gone.py cannot be read", "relative to the YAML file"]),
        ("broken.py:Scaled", ["cannot be loaded: SyntaxError", "line 2"]),
        ("no_such_module:Scaled", ["cannot be loaded: ModuleNotFoundError"]),
        ("protonett", ["got 'protonett', expected one of hcl,", "FILE.py:CLASS", "did you mean `protonet`?"]),
        ("mine.py", ["expected one of hcl,"]),
        ("mine.py:", ["expected one of hcl,"]),
        (":Scaled", ["expected one of hcl,"]),
        ("protonet:3", ["expected one of hcl,"]),
        (3, ["got 3"]),
    ],
)
def test_what_cannot_be_found_is_refused_with_the_line_and_a_remedy(
    mine: Path, monkeypatch: pytest.MonkeyPatch, name: Any, parts: list[str]
) -> None:
    monkeypatch.chdir(mine.parent)
    (mine.parent / "broken.py").write_text("x = 1\nclass Scaled(:\n")
    message = refusal({"train.regime": name})
    for part in parts:
        assert part in message
    assert "->" in message and len(message) < 700


def test_a_module_that_failed_is_read_again(mine: Path) -> None:
    settings = POOLED | {"train.regime": f"{mine}:Scaled"}
    mine.write_text("import nothing_like_it\n" + CODE)
    assert "nothing_like_it" in refusal(settings)
    assert "nothing_like_it" in refusal(settings)
    mine.write_text(CODE)
    assert resolve(None, settings).experiment.regime_name == "Scaled"


def test_the_digest_follows_the_code_and_not_its_folder(mine: Path, tmp_path: Path) -> None:
    first = experiment_of(mine)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("mine.py", "mine.yaml"):
        (elsewhere / name).write_text((tmp_path / name).read_text())
    assert experiment_of(elsewhere / "mine.py").digest() == first.digest()
    mine.write_text(CODE.replace("2.0", "2.5"))
    assert experiment_of(mine).digest() != first.digest() == first.model_copy().digest()
    assert first.identity()["train"]["regime"].startswith("Scaled (")
    assert experiment_of(mine, regime__factor=2).digest() != experiment_of(mine).digest()


def test_ours_have_no_section_and_the_digest_of_earlier_versions() -> None:
    content = Experiment().identity()
    assert not set(SETTINGS) & set(content) and content["model"]["backbone"] == "resnet50"


def test_a_run_keeps_a_copy_of_the_code(mine: Path, tmp_path: Path) -> None:
    experiment = experiment_of(mine)
    folder = tmp_path / "run"
    folder.mkdir()
    write_experiment(folder / "experiment.yaml", experiment)
    mine.unlink()
    read = load_resolved(folder / "experiment.yaml")
    assert read.digest() == experiment.digest() and read.regime == experiment.regime
    assert str(tmp_path) not in (folder / "experiment.yaml").read_text()


def test_two_files_of_one_name_are_both_kept(mine: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "mine.py"
    other.parent.mkdir()
    other.write_text(
        "from hcl.evaluation.methods import BySimilarity\n\nclass Like(BySimilarity):\n    kept = 'like'\n"
    )
    experiment = experiment_of(mine, evaluation__method=f"{other}:Like")
    write_experiment(tmp_path / "run" / "experiment.yaml", experiment)
    read = load_resolved(tmp_path / "run" / "experiment.yaml")
    assert read.digest() == experiment.digest() and len(list((tmp_path / "run").glob("*.py"))) == 2


def test_an_experiment_brings_its_code_to_another_process(mine: Path, tmp_path: Path) -> None:
    """The file is gone there; a changed file has no effect on an experiment that has been resolved."""
    experiment = experiment_of(mine)
    (tmp_path / "experiment.pickle").write_bytes(pickle.dumps(experiment))
    mine.unlink()
    code = (
        "import pickle, sys; experiment = pickle.load(open(sys.argv[1], 'rb')); "
        "made = experiment.definition('regime').implementation; "
        "print(experiment.digest(), experiment.regime.factor, made.head(0, 1, 1))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "experiment.pickle")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.split() == [experiment.digest(), "3.0", "ProtoNet()"]
    assert override(experiment, {"seed": 5}).regime == experiment.regime  # a trial of a study
    assert changes(experiment, override(experiment, {"regime.factor": 4})) == ["regime.factor=4.0"]


def test_an_installed_entry_point_is_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("nearest", "hcl.assembly.regimes:ProtoNetParts", "hcl.regimes")
    monkeypatch.setattr(extensions, "_entry_points", lambda kind: {"nearest": entry} if kind == "regime" else {})
    assert "nearest" in names("regime") and "nearest" not in names("backbone")
    definition = find("regime", "nearest")
    assert definition.title == "nearest" and definition.digest
    assert "did you mean `nearest`" in refusal({"train.regime": "nearst"})


def test_a_class_of_a_module_is_found_and_identified_by_its_code() -> None:
    definition = find("regime", "hcl.assembly.regimes:CosineParts")
    assert definition.title == "CosineParts" and len(definition.digest) == 12 and not definition.source


def test_a_setting_that_is_a_section_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.py").write_text(
        "from hcl.config import Section, setting\nfrom hcl.assembly.regimes import ProtoNetParts\n"
        "class Inner(Section):\n    x: int = setting(1, 'a number of things', ge=0)\n"
        "class Deep(ProtoNetParts):\n    class Settings(Section):\n        inner: Inner = Inner()\n"
    )
    assert "its setting inner is a section of its own" in refusal({"train.regime": f"{tmp_path}/deep.py:Deep"})
