"""Test damaged or deleted checkpoints: the run resumes from the one before, reports it, and ends like a whole one."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import results
from hcl.errors import CheckpointError
from hcl.models.checkpoint import load_checkpoint, write_checkpoint
from hcl.training.validation import Validation
from orchestration.console import notes
from orchestration.runtime.notices import tell_notices
from orchestration.sweeps.study import open_folder
from orchestration.sweeps.trial import _run_trial
from orchestration.sweeps.trial_source import Given
from orchestration.training import checkpointing, resumption, worker
from orchestration.training.resumption import DAMAGED, PARTS, settle
from orchestration.training.run import Run
from orchestration.training.run_files import BEST, LAST, LOG, NEXT_BEST, PREVIOUS
from orchestration.training.train import train
from orchestration.training.worker import run_epochs
from tests.orchestration.conftest import prepare, tiny_experiment, tree
from tests.orchestration.sweeps.test_sweep import FLOAT, space_of, study_of

EPOCHS = 4


def _mark(model: torch.nn.Module) -> torch.Tensor:
    """Return a parameter that holds the number of trained epochs, starting near 0."""
    return list(model.parameters())[-1]


def _stub(patched: pytest.MonkeyPatch) -> dict[int, float]:
    """Make training count epochs in a weight, and validation look up the accuracy of each, which is returned."""
    of_epoch = {1: 0.2, 2: 0.3, 3: 0.4, 4: 0.35}

    def train_epoch(model: torch.nn.Module, *_: Any, **__: Any) -> dict[str, float]:
        with torch.no_grad():
            _mark(model).fill_(float(_mark(model).mean().round()) + 1)
        return {"total": 1.0}

    def validate(_: Any, __: Any, model: torch.nn.Module, *___: Any) -> Validation:
        return Validation([np.full(20, of_epoch[int(_mark(model).mean())])])

    patched.setattr(worker, "train_epoch", train_epoch)
    patched.setattr(worker, "_validate", validate)
    return of_epoch


@pytest.fixture
def accuracies(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    return _stub(monkeypatch)


@pytest.fixture(scope="module")
def three(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a read-only run with three finished epochs."""
    experiment = tiny_experiment(model__train_backbone=True, train__epochs=EPOCHS)
    run = prepare(experiment, data_root=data_root, runs=tmp_path_factory.mktemp("three"))
    with pytest.MonkeyPatch.context() as patched:
        _stub(patched)
        trained_to(run, 3)
    return run


@pytest.fixture
def run(data_root: Path, tmp_path: Path, accuracies: dict[int, float]) -> Run:
    experiment = tiny_experiment(model__train_backbone=True, train__epochs=EPOCHS)
    return prepare(experiment, data_root=data_root, runs=tmp_path)


def _link(source: str, destination: str) -> None:
    Path(destination).unlink(missing_ok=True)
    os.link(source, destination)


@pytest.fixture
def begun(three: Run, run: Run) -> Run:
    """Return a copy of the run in a folder of its own."""
    shutil.copytree(three.folder, run.folder, copy_function=_link, dirs_exist_ok=True)
    return run


def trained_to(run: Run, epoch: int) -> list[int]:
    """Return the epochs that were trained in this call."""
    seen: list[int] = []

    def until(row: dict[str, Any]) -> bool:
        seen.append(row["epoch"])
        return row["epoch"] == epoch

    run_epochs(run, on_epoch=until)
    return seen


def replaced(path: Path, content: bytes) -> None:
    """Replace a file by another one, because the old one may have hard links."""
    path.unlink()
    path.write_bytes(content)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    replaced(path, content)


FAULTS = {"flipped": flip, "torn": lambda path: replaced(path, b"PK\x03\x04 torn"), "deleted": Path.unlink}


def epoch_of(path: Path) -> int:
    """Return the epoch of a checkpoint, which must agree with its weights."""
    content = load_checkpoint(path)
    weights = list(content["model"].values())
    assert any(values.numel() > 1 and bool((values == content["epoch"]).all()) for values in weights)
    return content["epoch"]


def assert_whole(run: Run, best: int) -> None:
    """Check that the run equals one of four undisturbed epochs."""
    last = load_checkpoint(run.folder / LAST)
    assert (
        [row["epoch"] for row in results.read_epochs(run.folder)] == [1, 2, 3, 4] == [r["epoch"] for r in last["rows"]]
    )
    assert (epoch_of(run.folder / LAST), epoch_of(run.folder / BEST), last["best"]["epoch"]) == (EPOCHS, best, best)
    assert not (run.folder / NEXT_BEST).exists()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_goes_on_from_the_checkpoint_before_one_that_cannot_be_read(
    fault: str, begun: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run = begun
    assert run.epochs_done() == 3
    FAULTS[fault](run.folder / LAST)
    assert run.epochs_done() == 2
    assert trained_to(run, EPOCHS) == [3, 4]
    assert_whole(run, best=3)
    problem = "no such file" if fault == "deleted" else "cannot be read: it is damaged"
    for text in (caplog.text, (run.folder / LOG).read_text()):
        assert f"{LAST}: {problem}" in text and f"training resumes from {PREVIOUS}, after epoch 2" in text
    assert (run.folder / DAMAGED).exists() == (fault != "deleted")
    with notes.capture() as captured:
        tell_notices(run.runs)
        tell_notices(run.runs)
    assert captured.get().count("training resumes from") == 1, "the command that watches tells it once"


@pytest.mark.parametrize(
    ("values", "best"), [((0.9, 0.5, 0.95, 0.6), 3), ((0.9, 0.5, 0.6, 0.95), 4), ((0.9, 0.5, 0.6, 0.7), 1)]
)
def test_the_best_epoch_is_that_of_a_whole_run(
    values: tuple[float, ...], best: int, run: Run, accuracies: dict[int, float]
) -> None:
    """`best.pt` may be of an epoch that is trained again, and the checkpoint of an epoch before the best."""
    accuracies |= dict(enumerate(values, start=1))
    trained_to(run, 3)
    flip(run.folder / LAST)
    trained_to(run, EPOCHS)
    assert_whole(run, best)


def test_an_epoch_that_comes_out_worse_the_second_time_leaves_the_best_weights(
    run: Run, accuracies: dict[int, float]
) -> None:
    """With fewer workers this can happen: the best weights are those of the first time, which had that accuracy."""
    accuracies |= {1: 0.9, 2: 0.5, 3: 0.95}
    trained_to(run, 3)
    flip(run.folder / LAST)
    accuracies[3] = 0.1
    trained_to(run, EPOCHS)
    last, best = load_checkpoint(run.folder / LAST), load_checkpoint(run.folder / BEST)
    assert best["metrics"]["val_accuracy"] == last["best"]["val_accuracy"] == pytest.approx(0.95)


def test_metrics_of_epochs_that_are_trained_again_are_taken_back(begun: Run) -> None:
    run = begun
    flip(run.folder / LAST)
    resumption = run.resumption(holding=PARTS)
    best = settle(run, resumption, lambda text: None)
    assert [row["epoch"] for row in results.read_epochs(run.folder)] == [1, 2]
    assert best["epoch"] == epoch_of(run.folder / BEST) == 2, "written again from the weights of the checkpoint"
    assert run.resumption(holding=PARTS).file == LAST and run.epochs_done() == 2


@pytest.mark.parametrize("faults", [("flipped", "flipped"), ("deleted", "torn"), ("deleted", "deleted")])
def test_a_run_without_a_whole_checkpoint_says_so_and_loses_nothing(faults: tuple[str, str], begun: Run) -> None:
    run = begun
    for name, fault in zip((LAST, PREVIOUS), faults, strict=True):
        FAULTS[fault](run.folder / name)
    before = tree(run.folder)
    for go_on in (run_epochs, lambda run: train(run.experiment, data=run.data, runs=run.runs)):
        with pytest.raises(CheckpointError, match="though the run has trained 3 epochs") as caught:
            go_on(run)
        assert str(caught.value.where).endswith(LAST)
        assert "--restart" in str(caught.value.remedy) and "hcl evaluate tiny" in str(caught.value.remedy)
    after = tree(run.folder)
    assert {name: after[name] for name in before if name != LOG} == {n: c for n, c in before.items() if n != LOG}
    assert after.keys() == before.keys()


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04 torn"])
def test_junk_in_the_place_of_the_next_best_weights_stops_no_run(content: bytes, begun: Run) -> None:
    run = begun
    (run.folder / NEXT_BEST).write_bytes(content)
    trained_to(run, EPOCHS)
    assert_whole(run, best=3)


def test_best_weights_that_were_not_named_yet_and_are_damaged_are_those_of_the_checkpoint(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    trained_to(run, 2)
    with monkeypatch.context() as patched:
        patched.setattr(checkpointing, "name_best", killed)
        with pytest.raises(KeyboardInterrupt):
            trained_to(run, 3)
    (run.folder / NEXT_BEST).write_bytes(b"junk")
    (run.folder / BEST).unlink()
    assert trained_to(run, EPOCHS) == [4]
    assert_whole(run, best=3)


def test_best_weights_that_are_lost_are_told_and_the_run_ends_with_the_best_of_the_rest(
    run: Run, accuracies: dict[int, float], caplog: pytest.LogCaptureFixture
) -> None:
    accuracies[1] = 0.9
    trained_to(run, 2)
    flip(run.folder / BEST)
    trained_to(run, EPOCHS)
    assert "the weights of epoch 1, the best so far, are lost" in caplog.text
    assert epoch_of(run.folder / BEST) == load_checkpoint(run.folder / LAST)["best"]["epoch"] == 3


def test_a_finished_run_writes_its_best_weights_again_where_they_are_those_of_the_last_epoch(
    run: Run, accuracies: dict[int, float]
) -> None:
    accuracies[4] = 0.8
    trained_to(run, EPOCHS)
    flip(run.folder / BEST)
    with notes.capture() as captured:
        train(run.experiment, data=run.data, runs=run.runs)
    assert "it has been written again from the weights of epoch 4" in " ".join(captured.get().split())
    assert epoch_of(run.folder / BEST) == 4


@pytest.mark.parametrize("fault", FAULTS)
def test_metrics_that_cannot_be_read_are_written_from_the_checkpoint(fault: str, begun: Run) -> None:
    run = begun
    FAULTS[fault](run.folder / "metrics.parquet")
    trained_to(run, EPOCHS)
    assert_whole(run, best=3)


def test_a_checkpoint_of_an_older_version_is_gone_on_from(begun: Run) -> None:
    """It has no metrics of earlier epochs, and no previous checkpoint."""
    run = begun
    content = load_checkpoint(run.folder / LAST)
    del content["rows"]
    write_checkpoint(run.folder / LAST, content)
    (run.folder / PREVIOUS).unlink()
    assert trained_to(run, EPOCHS) == [4]
    assert_whole(run, best=3)


@pytest.mark.parametrize("has_links", [True, False])
def test_there_is_a_whole_checkpoint_while_a_new_one_is_written(
    has_links: bool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise OSError("no second names on this disk")

    if not has_links:
        monkeypatch.setattr(resumption.os, "link", refused)
    save, seen = checkpointing.save_checkpoint, []

    def look(path: Path, **content: Any) -> None:
        if path.name == "last.pt":
            seen.append([name for name in (LAST, PREVIOUS) if (run.folder / name).exists()])
            assert run.epochs_done() == content["state"]["epoch"] - 1
        save(path, **content)

    monkeypatch.setattr(checkpointing, "save_checkpoint", look)
    trained_to(run, EPOCHS)
    assert seen == [[], *[[LAST, PREVIOUS] if has_links else [PREVIOUS]] * 3]
    assert epoch_of(run.folder / PREVIOUS) == 3 and not list(run.folder.glob("checkpoints/.*"))
    assert_whole(run, best=3)


def test_a_run_killed_before_its_first_checkpoint_begins_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first epoch's metrics exist, and its best weights under their first name."""
    save = checkpointing.save_checkpoint

    def killed(path: Path, **content: Any) -> None:
        if path.name == "last.pt":
            raise KeyboardInterrupt
        save(path, **content)

    with monkeypatch.context() as patched:
        patched.setattr(checkpointing, "save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            run_epochs(run)
    assert (run.folder / "metrics.parquet").exists() and (run.folder / NEXT_BEST).exists()
    assert trained_to(run, EPOCHS) == [1, 2, 3, 4]
    assert_whole(run, best=3)


# --- trials ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_previous", [True, False])
def test_a_trial_with_a_damaged_checkpoint_goes_on_or_begins_again(
    has_previous: bool, data_root: Path, tmp_path: Path, accuracies: dict[int, float], caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"train__epochs": EPOCHS, "model__train_backbone": True}
    study = study_of(data_root, tmp_path, space_of(loss__sigma_ce=FLOAT), 1, **changes)
    config = {"given": asdict(Given("trial-0000", {"loss.sigma_ce": 0.5}))}
    open_folder(study)
    _run_trial(config, study, lambda run, report: trained_to(run, 3) and None)
    folder = study.trial_folder("trial-0000")
    flip(folder / LAST)
    if not has_previous:
        os.truncate(folder / PREVIOUS, 100)
    seen: list[list[int]] = []
    _run_trial(config, study, lambda run, report: seen.append(trained_to(run, EPOCHS)))
    assert seen == [[3, 4] if has_previous else [1, 2, 3, 4]]
    assert ("resumes from" if has_previous else "the trial starts over") in caplog.text
    assert epoch_of(folder / BEST) == 3
    assert [row["epoch"] for row in results.read_epochs(folder)] == [1, 2, 3, 4]
