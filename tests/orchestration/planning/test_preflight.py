"""Everything that a run will ever need is checked before it starts, and all faults come as one error."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hcl.config.resolve import override
from hcl.errors import DataError, EpisodeError
from hcl.frames.stored_dataset import DataRoot
from orchestration.planning import preflight
from orchestration.planning.preflight import machine_faults, memory_faults, raise_faults, run_faults
from orchestration.training.run import Run
from tests.orchestration.conftest import Command, tiny_experiment, write_data


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def run_of(data_root: Path, tmp_path: Path, **changes: Any) -> Run:
    experiment = tiny_experiment(**changes)
    return Run(experiment, DataRoot(data_root), tmp_path / "runs", tmp_path / "runs" / experiment.name)


def texts(faults: list[preflight.Fault]) -> Iterator[str]:
    return (str(fault.error) for fault in faults)


def test_a_sound_run_has_no_faults(data_root: Path, tmp_path: Path) -> None:
    run = run_of(data_root, tmp_path)
    assert run_faults(run) == [] and machine_faults(run, None) == []
    raise_faults([])


def test_all_faults_come_at_once_with_what_mends_them(data_root: Path, tmp_path: Path) -> None:
    wishes: dict[str, Any] = {"way": 9, "shots": [1, 7], "queries": 5}
    run = run_of(data_root, tmp_path, train__classes_per_batch=12,
                 **{f"evaluation__{name}": value for name, value in wishes.items()})  # fmt: skip
    faults = run_faults(run)
    with pytest.raises(EpisodeError) as refused:
        raise_faults(faults)
    text = str(refused.value)
    for part in (
        "a pair batch of 12 classes cannot be drawn from 4 classes of toy train",
        "an episode of 9 classes cannot be drawn from 3 classes of toy val, 3 classes of toy test",
        "class 'eel' has 5 clips, an episode needs 6 of each class; too few too: 'fox', 'gnu'",
        "class 'hen' has 5 clips, an episode needs 12 of each class",
        "all of it at once: --set train.classes_per_batch=4 --set evaluation.way=3",
    ):
        assert part in text
    mended: dict[str, Any] = {}
    for fault in faults:
        mended |= fault.settings
        alone = Run(override(run.experiment, fault.settings), run.data, run.runs, run.folder)
        left = set(texts(run_faults(alone)))
        assert str(fault.error) not in left and left < set(texts(faults))
    whole = Run(override(run.experiment, mended), run.data, run.runs, run.folder)
    assert run_faults(whole) == []


def test_frames_of_every_partition_are_needed(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data", ("toy",))
    for name in ("ant/ant_0", "eel/eel_1", "hen/hen_2"):
        shutil.rmtree(root / "images" / "toy" / name)
    with pytest.raises(DataError) as refused:
        raise_faults(run_faults(run_of(root, tmp_path)))
    for part in ("1 of 20 videos of toy train", "1 of 15 videos of toy val", "1 of 15 videos of toy test"):
        assert part in str(refused.value)


def test_other_data_sets_count_if_they_have_lists(data_root: Path, tmp_path: Path) -> None:
    faults = run_faults(run_of(data_root, tmp_path, evaluation__datasets=["toy", "other", "later"],
                               evaluation__shots=[4]))  # fmt: skip
    assert [str(fault.error).splitlines()[0] for fault in faults] == [
        "the video list of toy test: class 'hen' has 5 clips, an episode needs 6 of each class; too few too: "
        "'ibis', 'jay'",
        "the video list of other test: class 'hen' has 5 clips, an episode needs 6 of each class; too few too: "
        "'ibis', 'jay'",
    ]


def test_weights_that_cannot_be_had_are_found_before_they_are_loaded(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "has_weights", lambda backbone: backbone == "efficientnet_lite0")
    run = run_of(data_root, tmp_path, model__weights="imagenet")
    (fault,) = machine_faults(run, None)
    assert "the ImageNet weights of resnet18 are not here" in str(fault.error)
    assert fault.settings == {"model.backbone": "efficientnet_lite0"}
    mended = Run(override(run.experiment, fault.settings), run.data, run.runs, run.folder)
    assert machine_faults(mended, None) == []
    assert machine_faults(run, "head:6379") == []  # its nodes may have them
    (gone,) = machine_faults(run_of(data_root, tmp_path, model__weights="nowhere.pth"), "head:6379")
    assert "model.weights=nowhere.pth: cannot be read" in str(gone.error)


@pytest.mark.skipif(torch.cuda.device_count() > 0, reason="a GPU is here")
def test_a_gpu_that_is_not_here(data_root: Path, tmp_path: Path) -> None:
    run = run_of(data_root, tmp_path, train__use_gpu=True, model__batch_norm="sync")
    (fault,) = machine_faults(run, None)
    assert "this machine has no GPU" in str(fault.error)
    mended = Run(override(run.experiment, fault.settings), run.data, run.runs, run.folder)
    assert machine_faults(mended, None) == []


def test_a_disk_that_is_too_small_for_cached_views(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(data_root, tmp_path, model__cached_views=8)
    monkeypatch.setattr(preflight, "free_gb", lambda folder: 2e-3)
    (fault,) = machine_faults(run, None)
    assert "GB are free" in str(fault.error) and 0 <= fault.settings["model.cached_views"] < 8
    mended = Run(override(run.experiment, fault.settings), run.data, run.runs, run.folder)
    assert machine_faults(mended, None) == []


def test_memory_of_all_workers(data_root: Path, tmp_path: Path) -> None:
    run = run_of(data_root, tmp_path, train__workers=4)
    assert memory_faults(run, 10**6, None) == []
    (fault,) = memory_faults(run, preflight.memory_bytes() // 3 + 1, None)
    assert fault.settings == {"train.workers": 2} and "4 workers of" in str(fault.error)
    assert memory_faults(run, 10**15, "head:6379") == []


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_commands_and_their_dry_runs_refuse_alike(
    command: str, hcl: Command, data_root: Path, experiment_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (command, experiment_file, "--data", data_root, "--set", "evaluation.way=4", "--set", "train.val_shot=4")
    begun, planned = hcl(*words), hcl(*words, "--dry-run")
    assert begun.code == planned.code == 1
    for outcome in (begun, planned):
        assert "an episode of 4 classes cannot be drawn from 3 classes of toy val, 3 classes of toy test" in outcome.err
        assert "class 'eel' has 5 clips, an episode needs 6" in outcome.err
        assert "all of it at once: --set evaluation.way=3 --set" in outcome.err


def test_data_check_compares_with_an_experiment(hcl: Command, data_root: Path, tmp_path: Path) -> None:
    root = write_data(tmp_path / "data", ("toy",))
    fits = hcl("data", "check", "toy", "--data", root)
    limits = "evaluation.way up to 3, evaluation.shots + evaluation.queries up to 5, train.classes_per_batch up to 4"
    assert fits.code == 0 and limits in fits.out
    refused = hcl("data", "check", "toy", "--data", root, "--for", "demo")
    assert refused.code == 1
    mending = "--set train.classes_per_batch=4 --set evaluation.way=3 "
    assert mending in refused.err
    options = shlex.split(refused.err[refused.err.index(mending) :])
    accepted = hcl("data", "check", "toy", "--data", root, "--for", "demo", *options)
    assert accepted.code == 0 and "demo fits toy" in accepted.out
