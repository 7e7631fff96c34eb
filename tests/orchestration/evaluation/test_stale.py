"""Test runs that are trained again, or still training, while their results are read, in this process without Ray."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import results
from hcl.errors import CheckpointError, ConfigError
from hcl.frames.stored_dataset import DataRoot, StoredDataset
from hcl.models.checkpoint import load_checkpoint, save_checkpoint
from orchestration.evaluation import evaluate as evaluating
from orchestration.evaluation import fuse, scorer, scoring
from orchestration.evaluation.fuse import check_fusion_is_of, chosen_fusion, search_fusion
from orchestration.evaluation.questions import Target, questions_of
from orchestration.evaluation.scorer import Scorer
from orchestration.evaluation.single_episodes import asked_examples
from orchestration.training import grids
from orchestration.training.resumption import name_best
from orchestration.training.run import Run
from orchestration.training.run_files import BEST, FUSION, NEXT_BEST, WRITER
from orchestration.training.worker import run_epochs
from results.records.weights import read_digest
from results.tables.cells import LOZENGE
from search_spaces import load_space
from tests.orchestration.conftest import Command, prepare, tiny_experiment
from tests.orchestration.inline import without_ray


@pytest.fixture(scope="module", autouse=True)
def _inline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        without_ray(patched, evaluating, grids, scorer, scoring, fuse)
        yield


@pytest.fixture(scope="module")
def made(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = prepare(
        tiny_experiment(model__train_backbone=True, evaluation__shots=[1]),
        data_root=data_root,
        runs=tmp_path_factory.mktemp("runs"),
    )
    run_epochs(run)
    return run


@pytest.fixture
def folder(made: Run, tmp_path: Path) -> Path:
    """Return a copy that tests may change."""
    shutil.copytree(made.folder, tmp_path / "runs" / "tiny")
    return tmp_path / "runs" / "tiny"


def train_again(folder: Path) -> None:
    """Replace the run's best weights."""
    import torch

    content = load_checkpoint(folder / BEST)
    model = torch.nn.Module()
    model.state_dict = lambda: {n: t + 1 if t.is_floating_point() else t for n, t in content["model"].items()}  # type: ignore[method-assign, assignment, misc]
    state = {name: value for name, value in content.items() if name not in ("model", "format")}
    save_checkpoint(folder / BEST, model=model, state=state)


def test_an_old_accuracy_is_marked_until_it_is_evaluated_again(folder: Path, data_root: Path, hcl: Command) -> None:
    evaluation = ("evaluate", folder, "--data", data_root, "--runs", folder.parent)
    code, out, err = hcl(*evaluation)
    assert code == 0 and LOZENGE not in out and "epochs are done" not in err, err
    train_again(folder)
    for words in (
        ("report", folder),
        ("results", "show", folder),
        ("results", "list", "evaluations", "--runs", folder.parent),
    ):
        code, out, err = hcl(*words)
        assert code == 0 and f"hcl {LOZENGE}" in out and "the run no longer has" in out, err
    code, out, err = hcl(*evaluation)
    assert code == 0 and LOZENGE not in out
    assert len(list((folder / "evaluation").glob("*.json"))) == 1


def test_examples_of_an_old_evaluation_are_not_explained(folder: Path, data_root: Path, hcl: Command) -> None:
    assert hcl("evaluate", folder, "--data", data_root, "--runs", folder.parent).code == 0
    partition = StoredDataset(data_root, "toy").partition("test")
    assert asked_examples(folder, partition, "hcl", 1)
    assert hcl("explain", folder, "--examples", "1", "--data", data_root).code == 0
    assert "drawn with weights" not in _page(hcl, folder)
    train_again(folder)
    assert "drawn with weights that the run no longer has" in _page(hcl, folder)
    with pytest.raises(ConfigError, match="with weights that it no longer has"):
        asked_examples(folder, partition, "hcl", 1)


def _page(hcl: Command, folder: Path) -> str:
    code, _, err = hcl("report", folder)
    assert code == 0, err
    return (folder / "report" / "index.html").read_text()


def test_a_fusion_is_of_the_weights_that_it_was_chosen_with(
    folder: Path, made: Run, data_root: Path, hcl: Command
) -> None:
    def search(restart: bool = False) -> None:
        options = {"data": DataRoot(data_root), "runs": folder.parent, "space": load_space("fusion"), "n_trials": 8}
        search_fusion(folder, made.experiment, restart=restart, **options)  # type: ignore[arg-type]

    search()
    search()  # the same question again
    chosen = chosen_fusion(folder)
    check_fusion_is_of(folder)
    train_again(folder)
    assert chosen_fusion(folder) == chosen
    code, _, err = hcl("evaluate", folder, "--fused", "--data", data_root, "--runs", folder.parent)
    assert code == 2 and "was chosen with weights that the run no longer has" in err and "--restart" in err
    with pytest.raises(ConfigError, match="chosen with weights that the run no longer has"):
        search()
    search(restart=True)
    check_fusion_is_of(folder)
    (folder / FUSION).write_text("fusion: {sigma_global: 0.5}\n")  # of an older version, or by hand
    check_fusion_is_of(folder)


def test_the_fusion_of_an_epoch_is_there_before_its_weights_are_the_best(folder: Path, made: Run) -> None:
    """A kill between the two leaves the next best, with which a run that is resumed does both again."""
    run = Run(made.experiment, made.data, folder.parent, folder)
    shutil.copy(folder / BEST, folder / NEXT_BEST)
    row = {f"fused_sigma_{level}": 0.5 for level in ("global", "temporal", "spatial")}
    (folder / BEST).unlink()
    (folder / BEST).mkdir()  # what cannot be replaced
    with pytest.raises(IsADirectoryError):
        name_best(run, row)
    assert (folder / FUSION).exists() and (folder / NEXT_BEST).exists()
    (folder / BEST).rmdir()
    name_best(run, row)
    check_fusion_is_of(folder)
    assert f"weights: {read_digest(folder / BEST)}" in (folder / FUSION).read_text().replace("'", "").replace('"', "")


@pytest.fixture
def unfinished(folder: Path) -> Path:
    """Return the run in its state after two of nine epochs."""
    settings = folder / "experiment.yaml"
    settings.write_text(settings.read_text().replace("epochs: 2", "epochs: 9"))
    return folder


def test_a_run_that_is_still_trained_is_evaluated_with_a_note(unfinished: Path, data_root: Path, hcl: Command) -> None:
    evaluation = ("evaluate", unfinished, "--data", data_root, "--runs", unfinished.parent)
    code, _, err = hcl(*evaluation)
    epoch = load_checkpoint(unfinished / BEST)["epoch"]
    note = f"2 of 9 epochs are done, and the weights of epoch {epoch} are used"
    assert code == 0 and note in err and "has not been fully trained" in err
    [file] = (unfinished / "evaluation").glob("*.json")
    record = results.read_evaluation(file)
    assert (record.checkpoint_epoch, record.epochs_done) == (epoch, 2)
    for words in (("fuse", unfinished, "--trials", "1"), ("explain", unfinished, "--query", "nobody")):
        assert note in hcl(*words, "--data", data_root).err


def test_whether_training_goes_on_is_known_by_its_lock(unfinished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration.evaluation.training_state import Unfinished, unfinished_note

    own = tiny_experiment(train__epochs=9)
    assert "has not been fully trained" in str(unfinished_note(unfinished, own, Unfinished(1, 2)))
    assert unfinished_note(unfinished, own, None) is None
    monkeypatch.setattr(
        "orchestration.evaluation.training_state.holder",
        lambda path: "another" if path == unfinished / WRITER else None,
    )
    assert "is still being trained" in str(unfinished_note(unfinished, own, Unfinished(1, 2)))


def test_a_finished_run_says_nothing_of_its_training(made: Run, folder: Path, data_root: Path) -> None:
    [question] = questions_of([Target(folder, made.experiment)], DataRoot(data_root))
    assert question.record["epochs_done"] is None and question.record["checkpoint_epoch"] is None


def test_weights_that_change_while_they_are_evaluated_are_refused(made: Run, folder: Path, data_root: Path) -> None:
    """Two actors would score with the weights of two epochs, and keep the table under the digest of the first."""
    [question] = questions_of([Target(folder, made.experiment)], DataRoot(data_root))
    assert question.cell.checkpoint_digest
    train_again(folder)
    with pytest.raises(CheckpointError, match="has changed since the command started"):
        Scorer(folder.parent).encode(question.cell, (0, 1))
