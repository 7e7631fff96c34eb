"""Folders of twenty shapes become data sets whose experiments nothing refuses, without Ray and without training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from hcl.assembly.draw_faults import ClassSizes, draw_faults
from hcl.config.resolve import resolve
from hcl.datasets.cards import card_of
from hcl.errors import DataError
from hcl.files.atomic import write_atomically
from hcl.frames.checking import check_dataset
from hcl.frames.decoding import probe
from hcl.frames.inventory import take_inventory
from hcl.frames.stored_dataset import StoredDataset
from orchestration.planning.machine import Machine
from orchestration.planning.new_dataset import NewDataset, plan_dataset, write_dataset
from tests.orchestration.planning.folder_shapes import ACTIONS, SHAPES, classes_in, write_video

LAPTOP = Machine(n_cpus=2, n_gpus=0, memory_gb=16, free_gb=100, backbones=("efficientnet_lite0",))
SERVER = Machine(n_cpus=64, n_gpus=8, memory_gb=500, free_gb=10_000, backbones=("efficientnet_lite0", "resnet50"))


def unreadable(files: Mapping[str, Path]) -> dict[str, str]:
    return {key: problem for key, path in files.items() if path.is_file() and (problem := probe(path).problem)}


def plan(folder: Path, machine: Machine = LAPTOP, **options: int) -> NewDataset:
    return plan_dataset("mine", folder, machine, open_files=unreadable, **options)


def write(new: NewDataset, root: Path) -> StoredDataset:
    write_dataset(new, root / "data", root / "mine.yaml", heading=["a heading"], commands=[["hcl", "extract", "mine"]])
    return StoredDataset(root / "data", "mine")


def sizes_of(new: NewDataset) -> dict[str, ClassSizes]:
    return {name: ClassSizes.of(partition) for name, partition in new.partitions().items()}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("machine", [LAPTOP, SERVER], ids=["laptop", "server"])
def test_every_shape_is_planned_written_and_found_again(shape: str, machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    new = plan(SHAPES[shape](tmp_path / "source"), machine)
    stored = write(new, tmp_path)
    assert stored.split.partitions == new.partitions()
    inventory = take_inventory(stored)
    assert not inventory.missing and not inventory.notes
    assert set(inventory.listed) == {video.key for one in new.partitions().values() for video in one.videos}
    experiment = resolve(tmp_path / "mine.yaml").experiment
    assert experiment == new.experiment
    sizes = sizes_of(new)
    learnt = {name: count for part in experiment.data.train_partitions for name, count in sizes[part].n_clips.items()}
    faults = draw_faults(
        experiment,
        train=ClassSizes("mine train", learnt),
        selection=sizes[experiment.data.selection_partition],
        tested=[sizes[experiment.evaluation.partition]],
    )
    assert not faults
    check = check_dataset(stored)
    assert not check.warnings() and not any(part.copies for part in check.partitions)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    new = plan(SHAPES["copies_and_broken_files"](tmp_path))
    notes = "\n".join(new.notes)
    for text in (
        "1 leftovers of a downloader",
        "1 unfinished downloads",
        "1 links that lead nowhere",
        "2 videos are copies of others",
        "2 videos cannot be opened: left out, 'jump/empty: is empty'",
        "1 files have the name of another video with another extension",
    ):
        assert text in notes
    assert new.survey.sizes == {"jump": 7, "open": 6, "pull": 6, "push": 6, "run": 5, "throw": 6, "wave": 6}


def test_given_partitions_are_kept(tmp_path: Path) -> None:
    folders = plan(SHAPES["parts_of_disjoint_classes"](tmp_path / "folders"))
    lists = plan(SHAPES["lists_of_partitions"](tmp_path / "lists"))
    for new, test in ((folders, ACTIONS[6:9]), (lists, ACTIONS[6:8])):
        assert new.split.classes["train"] == tuple(sorted(ACTIONS[:4]))
        assert new.split.classes["test"] == tuple(sorted(test))
        assert new.split.origin.startswith("as the folders or lists")
    without_val = plan(SHAPES["parts_without_validation"](tmp_path / "two")).split
    assert without_val.classes["test"] == tuple(sorted(ACTIONS[8:11]))
    assert set(without_val.classes["train"]) | set(without_val.classes["val"]) == set(ACTIONS[:8])


def test_too_few_classes_for_validation_are_said_everywhere(tmp_path: Path) -> None:
    new = plan(SHAPES["four_of_four"](tmp_path / "source"))
    stored = write(new, tmp_path)
    assert new.experiment.data.protocol == "published"  # every table marks it
    card = card_of(tmp_path / "data", "mine")
    assert "chosen on the test classes" in card.title
    for path in (tmp_path / "mine.yaml", tmp_path / "data/datasets/mine.yaml", stored.lists / "CAUTION.txt"):
        assert "the figures are optimistic" in path.read_text()


@pytest.mark.parametrize(
    ("sizes", "remedy"),
    [
        ({"run": 9, "jump": 4, "wave": 3}, "1 of 'wave' (3 now), 1 new class of 4 videos"),
        ({"run": 3, "jump": 2, "wave": 3, "kick": 3, "turn": 3},
         "1 of 'kick' (3 now), 1 of 'run' (3 now), 1 of 'turn' (3 now), 1 of 'wave' (3 now)"),
    ],
)  # fmt: skip
def test_a_folder_that_is_too_small_hears_what_is_missing(sizes: dict[str, int], remedy: str, tmp_path: Path) -> None:
    for name, count in sizes.items():
        for number in range(count):
            write_video(tmp_path / name / f"{number}.avi")
    with pytest.raises(DataError) as refused:
        plan(tmp_path)
    assert remedy in str(refused.value)


def test_videos_without_any_sign_of_a_class_are_refused(tmp_path: Path) -> None:
    for number in range(20):
        write_video(tmp_path / f"{number:05d}.avi")
    with pytest.raises(DataError, match=r"20 videos lie in one folder.*\n.*labels.csv"):
        plan(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        plan(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither videos nor folders of frames"):
        plan(tmp_path / "empty")


def test_levels_that_may_both_be_classes_are_asked_about(tmp_path: Path) -> None:
    root = tmp_path
    tmp_path = root / "all"
    for outer in ("sport", "music", "home", "work"):
        for inner in ("a", "b"):
            for number in range(4):
                write_video(tmp_path / outer / f"{outer}ly {inner}" / f"{number}.avi")
    for folder, above in ((tmp_path, 0), (root, 1)):
        with pytest.raises(DataError, match="the 4 outer folders .* or the 8 inner ones") as refused:
            plan(folder)
        assert f"--class-level {above + 1} for the outer ones, --class-level {above + 2}" in str(refused.value)
        assert len(plan(folder, class_level=above + 1).survey.sizes) == 4
        assert len(plan(folder, class_level=above + 2).survey.sizes) == 8


def test_the_videos_stay_where_they_are(tmp_path: Path) -> None:
    source = SHAPES["persons_above_classes"](tmp_path / "source")
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    new = plan(source)
    for _ in range(2):  # a repeated call replaces the links
        write(new, tmp_path)
    links = list((tmp_path / "data").rglob("*.avi"))
    assert len(links) == 30 and all(link.is_symlink() for link in links)
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before


def test_weights_and_disk_decide_on_the_base(tmp_path: Path) -> None:
    folder = classes_in(tmp_path, 10, 8)
    assert plan(folder, SERVER).settings.base == "hcl"
    offline = Machine(n_cpus=64, n_gpus=1, memory_gb=500, free_gb=10, backbones=("efficientnet_lite0",))
    settings = plan(folder, offline).settings
    assert settings.base == "metaworld_cpu" and settings.values()["train.use_gpu"] is True
    bare = Machine(n_cpus=1, n_gpus=0, memory_gb=4, free_gb=0.1, backbones=())
    settings = plan(folder, bare).settings
    assert settings.values()["model.weights"] == "none" and settings.values()["model.cached_views"] == 2
    assert "random weights" in settings.warnings[0]


def test_every_setting_of_the_experiment_has_its_reason(tmp_path: Path) -> None:
    new = plan(classes_in(tmp_path / "source", 6, 5))
    write(new, tmp_path)
    text = (tmp_path / "mine.yaml").read_text()
    for choice in new.settings.choices:
        assert f"{choice.path.rpartition('.')[2]}: " in text and f"# {choice.reason}" in text
    write_atomically(tmp_path / "again.yaml", text.encode())
    assert resolve(tmp_path / "again.yaml").experiment.digest() == new.experiment.digest()
