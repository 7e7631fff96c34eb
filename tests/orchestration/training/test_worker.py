"""Test a training worker in this process: epochs, checkpoints, resuming, and data that it must not read."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import results
from hcl.clips.episodes import pair_batch
from hcl.config import Experiment
from hcl.datasets.splits import Video
from hcl.errors import CheckpointError, StorageError, TrainingError
from hcl.frames.store import FrameStore
from hcl.frames.stored_dataset import DataRoot, StoredDataset
from hcl.models.checkpoint import load_checkpoint
from hcl.training.validation import Validation
from orchestration.evaluation.fuse import chosen_fusion
from orchestration.training import checkpointing, worker
from orchestration.training.checkpointing import Keeper, Position
from orchestration.training.resumption import inherit
from orchestration.training.run import Run
from orchestration.training.run_files import BEST, LAST, LOG, NEXT_BEST, NON_FINITE
from orchestration.training.worker import run_epochs
from tests.orchestration.conftest import CLASSES, tiny_experiment, tree


def new_run(data_root: Path, runs: Path, experiment: Experiment | None = None) -> Run:
    experiment = experiment or tiny_experiment(model__train_backbone=True, train__epochs=3)
    run = Run(experiment, DataRoot(data_root), runs, runs / experiment.name)
    run.folder.mkdir(parents=True)
    return run


def states(run: Run) -> dict[str, Any]:
    return {name: load_checkpoint(run.folder / name) for name in (LAST, BEST)}


def assert_same_weights(first: dict[str, Any], other: dict[str, Any]) -> None:
    assert first["model"].keys() == other["model"].keys()
    for name, values in first["model"].items():
        assert torch.equal(values, other["model"][name]), name


@pytest.fixture(scope="module")
def whole(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Train three epochs without an interruption, with a trained backbone."""
    run = new_run(data_root, tmp_path_factory.mktemp("whole"))
    run_epochs(run)
    return run


def test_an_epoch_that_is_done_again_stands_once_in_tensorboard(data_root: Path, tmp_path: Path) -> None:
    """This happens after a kill between the events of an epoch and its checkpoint."""
    run = new_run(data_root, tmp_path, tiny_experiment(model__train_backbone=True, train__epochs=2))
    kept = tmp_path / "after-one.pt"

    def keep(row: dict[str, Any]) -> None:
        if row["epoch"] == 1:
            shutil.copy2(run.folder / LAST, kept)

    run_epochs(run, on_epoch=keep)
    shutil.copy2(kept, run.folder / LAST)
    run_epochs(run)
    rows = results.read_epochs(run.folder)
    drawn = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    for name in ("val_accuracy", "loss_total", "lr"):
        scalars = drawn.Scalars(name)
        assert [point.step for point in scalars] == [row["epoch"] for row in rows] == [1, 2]
        assert [point.value for point in scalars] == pytest.approx([row[name] for row in rows])


def test_one_row_an_epoch_and_two_checkpoints(whole: Run) -> None:
    rows = results.read_epochs(whole.folder)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert all(np.isfinite(row["loss_total"]) and 0 <= row["val_accuracy"] <= 1 for row in rows)
    checkpoints = states(whole)
    assert checkpoints[LAST]["epoch"] == 3
    assert checkpoints[LAST]["classes"] == list(CLASSES["train"])
    assert checkpoints[LAST]["experiment_digest"] == whole.experiment.digest()
    assert "optimizer" in checkpoints[LAST] and "optimizer" not in checkpoints[BEST]


@pytest.mark.parametrize(
    ("accuracies", "best"), [((0.5, 0.9, 0.7), 2), ((0.9, 0.5, 0.7), 1), ((0.5, 0.7, 0.7), 2), ((0.2, 0.3, 0.4), 3)]
)
def test_best_is_the_epoch_with_the_highest_accuracy_and_of_equals_the_first(
    accuracies: tuple[float, ...], best: int, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(data_root, tmp_path, tiny_experiment(model__train_backbone=True, train__epochs=3))
    values = iter(accuracies)
    monkeypatch.setattr(worker, "_validate", lambda *_, **__: Validation([np.full(20, next(values))]))
    monkeypatch.setattr(worker, "train_epoch", lambda *_, **__: {"total": 1.0})
    assert run_epochs(run)["epoch"] == best
    checkpoints = states(run)
    assert (checkpoints[BEST]["epoch"], checkpoints[LAST]["epoch"]) == (best, 3)
    assert checkpoints[LAST]["best"]["epoch"] == best
    assert checkpoints[BEST]["metrics"]["val_accuracy"] == pytest.approx(max(accuracies))


class Killed(Exception):
    pass


TIMED = {"clips_per_second", "data_wait", "train_seconds", "val_seconds", "memory_gb"}


def assert_as_if_whole(run: Run, whole: Run) -> None:
    """Check for bitwise equal weights in both checkpoints, and equal metrics except times and memory."""
    for name, state in states(run).items():
        assert_same_weights(state, states(whole)[name])
        assert state["epoch"] == states(whole)[name]["epoch"]
    rows, expected = (
        [{k: v for k, v in row.items() if k not in TIMED} for row in results.read_epochs(either.folder)]
        for either in (run, whole)
    )
    assert rows == expected


@pytest.mark.parametrize("moment", ["after an epoch", "in an epoch", "between metrics and checkpoint"])
def test_a_run_without_checkpoints_inside_epochs_goes_on_with_the_epoch(
    moment: str, whole: Run, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(data_root, tmp_path, interruptible(train__checkpoint_every=0))
    with monkeypatch.context() as patched:
        options: dict[str, Any] = {}
        if moment == "after an epoch":
            options["on_epoch"] = stop_at(1)
        elif moment == "in an epoch":
            patched.setattr(Keeper, "after_step", stop_in_step(4))  # the second step of the second epoch
        else:
            patched.setattr(checkpointing, "save_checkpoint", stop_saving_last(2))
        with pytest.raises(Killed):
            run_epochs(run, **options)
    assert load_checkpoint(run.folder / LAST)["epoch"] == 1
    seen: list[int] = []
    run_epochs(run, on_epoch=lambda row: seen.append(row["epoch"]))
    assert seen == [2, 3]
    assert_as_if_whole(run, whole)
    here = f"process {os.getpid()} on {platform.node()}, "
    lines = [line.partition(" ")[2] for line in (run.folder / LOG).read_text().splitlines()]
    assert [line.partition(":")[0] for line in lines] == [
        "starts", "epoch 1", "stops", "resumes after epoch 1", "epoch 2", "epoch 3",
    ]  # fmt: skip
    assert here in lines[0] and here in lines[3] and lines[2] == "stops: Killed"


@pytest.mark.parametrize("processes", [0, 2])
def test_an_epoch_goes_on_in_its_middle_as_if_nothing_had_happened(
    processes: int, whole: Run, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds with dropout, augmentation, and clips that are read here or by loader processes."""
    experiment = interruptible(train__checkpoint_every=1, train__loader_processes=processes)
    assert experiment.model.dropout > 0 and experiment.clips.jitter > 0
    assert experiment.digest() == whole.experiment.digest()
    run = new_run(data_root, tmp_path, experiment)
    keep = Keeper.after_step
    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "after_step", stop_in_step(4, first=keep))
        with pytest.raises(Killed):
            run_epochs(run)
    last = load_checkpoint(run.folder / LAST)
    assert (last["epoch"], last["step"], last["sums"]["steps"]) == (1, 1, 1)
    steps: list[int] = []

    def note(self: Keeper, position: Position, values: dict[str, float]) -> None:
        steps.append(position.sums.steps)
        keep(self, position, values)

    monkeypatch.setattr(Keeper, "after_step", note)
    run_epochs(run)
    assert steps == [2, 1, 2]  # the rest of the second epoch, and the third
    assert_as_if_whole(run, whole)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_run_killed_between_its_two_checkpoints_has_the_best_of_all_epochs(
    epoch: int, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, accuracies = new_run(data_root, tmp_path, interruptible()), iter((0.2, 0.3, 0.4))
    monkeypatch.setattr(worker, "_validate", lambda *_, **__: Validation([np.full(20, next(accuracies))]))
    name_best = checkpointing.name_best

    def killed(run: Run, best: dict[str, Any]) -> None:
        if best["epoch"] == epoch:
            raise Killed
        name_best(run, best)

    with monkeypatch.context() as patched:
        patched.setattr(checkpointing, "name_best", killed)
        with pytest.raises(Killed):
            run_epochs(run)
    assert load_checkpoint(run.folder / LAST)["epoch"] == epoch
    run_epochs(run)
    checkpoints = states(run)
    assert checkpoints[BEST]["epoch"] == checkpoints[LAST]["epoch"] == 3
    assert_same_weights(checkpoints[BEST], checkpoints[LAST])
    assert not (run.folder / NEXT_BEST).exists()


def test_the_best_weights_of_an_epoch_that_is_done_again_are_those_of_the_second_time(
    whole: Run, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer workers the epoch may end differently, and no longer be the best."""
    run = new_run(data_root, tmp_path, interruptible())
    run_epochs(run, on_epoch=lambda row: row["epoch"] == 1)
    shutil.copyfile(run.folder / BEST, run.folder / NEXT_BEST)
    lost = load_checkpoint(run.folder / NEXT_BEST)
    torch.save(lost | {"epoch": 2}, run.folder / NEXT_BEST)
    run_epochs(run)
    assert_as_if_whole(run, whole)


def test_workers_that_see_a_checkpoint_late_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_LOOK_S", 0.0)
    ours = iter([Position(1), Position(2)])
    keeper: Any = SimpleNamespace(restore=lambda device: next(ours), run=SimpleNamespace(folder="here"))
    group: Any = SimpleNamespace(
        world_size=2, barrier=lambda: None, all_gather_numbers=lambda numbers: [2, 0, *numbers]
    )
    assert worker._restored(keeper, group, torch.device("cpu")).epoch == 2
    keeper.restore = lambda device: Position(1)
    with pytest.raises(StorageError, match=re.escape("see different checkpoints: (epoch, step) [(2, 0), (1, 0)]")):
        worker._restored(keeper, group, torch.device("cpu"))


def interruptible(**changes: Any) -> Experiment:
    return tiny_experiment(model__train_backbone=True, train__epochs=3, **changes)


def stop_at(epoch: int) -> Any:
    def on_epoch(row: dict[str, Any]) -> None:
        if row["epoch"] == epoch:
            raise Killed

    return on_epoch


def stop_in_step(n_steps: int, first: Any = None) -> Any:
    n_seen = 0

    def step(*arguments: Any) -> None:
        nonlocal n_seen
        n_seen += 1
        if n_seen == n_steps:
            raise Killed
        if first is not None:
            first(*arguments)

    return step


def stop_saving_last(epoch: int) -> Any:
    save = checkpointing.save_checkpoint

    def save_or_stop(path: Path, **content: Any) -> None:
        if path.name == "last.pt" and content["state"]["epoch"] == epoch:
            raise Killed
        save(path, **content)

    return save_or_stop


def test_a_finished_run_is_left_as_it_is(whole: Run, data_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole.folder, folder)
    before = tree(folder)
    best = run_epochs(
        Run(whole.experiment, DataRoot(data_root), tmp_path, folder), on_epoch=lambda row: pytest.fail("trained")
    )
    assert best == states(whole)[LAST]["best"]
    assert tree(folder) == before


def test_only_videos_of_train_and_val_are_read(
    whole: Run, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Selection never uses test: no frame of it is opened, and the run is the same without them."""
    bare = tmp_path / "data"
    shutil.copytree(data_root, bare)
    for class_name in CLASSES["test"]:
        shutil.rmtree(bare / "images" / "toy" / class_name)
    read: set[str] = set()
    original = FrameStore.read

    def note(self: FrameStore, video: Video, indices: Any) -> np.ndarray:
        read.add(video.class_name)
        return original(self, video, indices)

    monkeypatch.setattr(FrameStore, "read", note)
    run = new_run(bare, tmp_path / "runs")
    run_epochs(run)
    assert read == {*CLASSES["train"], *CLASSES["val"]}
    assert_same_weights(states(run)[BEST], states(whole)[BEST])


def test_cached_grids_are_of_train_and_val_alone(data_root: Path, tmp_path: Path) -> None:
    jobs = Run(tiny_experiment(), DataRoot(data_root), tmp_path, tmp_path / "tiny").grid_jobs()
    assert [(job.partition.name, job.training) for job in jobs] == [("train", True), ("val", False)]
    assert Run(tiny_experiment(model__train_backbone=True), DataRoot(data_root), tmp_path, tmp_path).grid_jobs() == []


def test_the_published_protocol_trains_on_train_and_val_and_selects_on_test(data_root: Path, tmp_path: Path) -> None:
    experiment = tiny_experiment(
        data__protocol="published", data__train_partitions=["train", "val"], data__selection_partition="test"
    )
    train, selection = Run(experiment, DataRoot(data_root), tmp_path, tmp_path / "tiny").partitions()
    parts = StoredDataset(data_root, "toy").split.partitions
    assert train.classes == CLASSES["train"] + CLASSES["val"]
    assert len(train.videos) == len(parts["train"].videos) + len(parts["val"].videos)
    assert selection == parts["test"]


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_no_checkpoint_of_that_epoch(
    data_root: Path, tmp_path: Path
) -> None:
    run = new_run(data_root, tmp_path, tiny_experiment(model__train_backbone=True, optim__lr=1e30))
    with pytest.raises(TrainingError, match="the loss is not finite in epoch 1, step 2: ce, global") as caught:
        run_epochs(run)
    assert "optim.lr" in caught.value.remedy
    assert not (run.folder / LAST).exists() and not (run.folder / BEST).exists()
    kept = json.loads((run.folder / NON_FINITE).read_text())
    partition, _ = run.partitions()
    clips = pair_batch(partition.labels, classes_per_batch=4, seed=0, epoch=0, step=1)
    assert kept["clips"] == [partition.videos[clip].key for clip in clips]
    assert (kept["epoch"], kept["step"]) == (1, 2) and "ce" in kept["terms"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"\x80\x02cos\nsystem\n(S'true'\ntR."])
def test_a_damaged_last_checkpoint_is_named_and_not_overwritten(
    content: bytes, data_root: Path, tmp_path: Path
) -> None:
    run = new_run(data_root, tmp_path, tiny_experiment(model__train_backbone=True, train__epochs=2))
    (run.folder / "checkpoints").mkdir()
    (run.folder / LAST).write_bytes(content)
    with pytest.raises(CheckpointError, match="last.pt: cannot be read"):
        run_epochs(run)
    files = tree(run.folder)
    assert files.keys() == {LAST, LOG} and files[LAST] == content
    assert " stops: cannot be read" in files[LOG].decode()


def test_a_run_that_goes_on_from_another_ends_as_if_it_had_been_one(
    whole: Run, data_root: Path, tmp_path: Path
) -> None:
    """Members of a population do this: an epoch in one folder, the others in another, the first left unchanged."""
    parent = replace(new_run(data_root, tmp_path / "parent", whole.experiment), until=1)
    run_epochs(parent)
    assert load_checkpoint(parent.folder / LAST)["epoch"] == 1
    before = tree(parent.folder)
    child = new_run(data_root, tmp_path / "child", whole.experiment)
    inherit(parent.folder, child.folder)
    inherit(tmp_path / "nowhere", child.folder)
    run_epochs(child)
    assert_as_if_whole(child, whole)
    assert tree(parent.folder) == before
    left = tree(child.folder)
    inherit(parent.folder, child.folder)
    assert tree(child.folder) == left, "what has begun is not begun again"


def test_several_shots_and_fusions_choose_the_epoch(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validations, validate = [], worker._validate
    monkeypatch.setattr(worker, "_validate", lambda *given: validations.append(validate(*given)) or validations[-1])
    experiment = tiny_experiment(model__train_backbone=True, train__val_shot=[1, 3], train__val_fusions=40)
    run = new_run(data_root, tmp_path, experiment)
    best = run_epochs(run)
    rows = results.read_epochs(run.folder)
    for row, validation in zip(rows, validations, strict=True):
        of_episodes = np.mean(validation.accuracies, axis=0)  # not independent: shots share classes and queries
        assert row["val_ci95"] == pytest.approx(results.mean_and_ci95(of_episodes).ci95)
        assert row["val_accuracy"] == pytest.approx((row["val_accuracy_1_shot"] + row["val_accuracy_3_shot"]) / 2)
        assert row["val_fused_accuracy"] >= row["val_accuracy"] - 1e-6  # the run's own weights are among those tried
        assert row["fused_sigma_global"] == 1.0
    first = max(rows, key=lambda row: row["val_fused_accuracy"])
    assert (best["epoch"], load_checkpoint(run.folder / BEST)["epoch"]) == (first["epoch"], first["epoch"])
    chosen = chosen_fusion(run.folder)
    assert chosen["fusion.sigma_temporal"] == first["fused_sigma_temporal"]
    assert chosen["fusion.sigma_spatial"] == first["fused_sigma_spatial"]
