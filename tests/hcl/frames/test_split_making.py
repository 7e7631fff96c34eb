"""Test drawing splits from folders of class folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcl.datasets.cards import card_of
from hcl.errors import ConfigError, DataError, SplitError
from hcl.frames.inventory import take_inventory
from hcl.frames.split_making import class_counts, draw_split, list_videos, make_splits
from hcl.frames.stored_dataset import StoredDataset

CLASSES = ("kick ball", "hurling (sport)", "[a]", "b, c", "größer", "100%", "'quoted\"", "x", "y", "z")
SIZES = {"train": 0.6, "val": 0.2, "test": 0.2}


def class_folders(folder: Path, n_videos: int = 3) -> Path:
    for class_name in CLASSES:
        (folder / class_name).mkdir(parents=True)
        for number in range(n_videos):
            (folder / class_name / f"v {number}.mp4").write_bytes(f"{class_name} {number}".encode())
    (folder / "idle").mkdir()
    (folder / ".hidden").mkdir()
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_split_is_disjoint_complete_and_repeatable(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "elsewhere")
    made = make_splits(tmp_path / "data", "mine", folder, SIZES, seed=3)
    split = StoredDataset(tmp_path / "data", "mine").split
    assert split.partitions == made["mine"]
    parts = [part.classes for part in split.partitions.values()]
    assert [len(part) for part in parts] == [6, 2, 2]
    assert sorted(name for part in parts for name in part) == sorted(CLASSES)  # `idle` has no video
    again = make_splits(tmp_path / "again", "mine", folder, SIZES, seed=3)
    assert again == made
    other = make_splits(tmp_path / "other", "mine", folder, SIZES, seed=4)
    assert other["mine"]["train"].classes != made["mine"]["train"].classes


def test_folds_differ_share_their_frames_and_find_their_videos(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "videos" / "raw")
    made = make_splits(tmp_path, "mine", folder, {"train": 5, "val": 2, "test": 2}, folds=4)
    assert list(made) == ["mine_0", "mine_1", "mine_2", "mine_3"]
    assert len({parts["test"].classes for parts in made.values()}) > 1
    for name in made:
        assert StoredDataset(tmp_path, name).images_root == tmp_path / "images" / "mine"
        assert card_of(tmp_path, name).partitions["train"].model_dump() == {"classes": 5, "videos": 15}
        inventory = take_inventory(StoredDataset(tmp_path, name))
        assert len(inventory.listed) == 27 and not inventory.missing
    moved = tmp_path.rename(tmp_path.with_name("moved"))  # a card in the data root names no absolute path
    assert not take_inventory(StoredDataset(moved, "mine_0")).missing


def test_a_folder_of_frames_is_used_where_it_is(tmp_path: Path) -> None:
    for class_name in ("a", "b", "c"):
        (tmp_path / "images" / "raw" / class_name / "v0").mkdir(parents=True)
        (tmp_path / "images" / "raw" / class_name / "v0" / "0.jpg").write_text(class_name)
    make_splits(tmp_path, "mine", tmp_path / "images" / "raw", {"train": 1, "val": 1, "test": 1})
    assert StoredDataset(tmp_path, "mine").images_root == tmp_path / "images" / "raw"
    assert take_inventory(StoredDataset(tmp_path, "mine")).present == {"a/v0", "b/v0", "c/v0"}


def test_nothing_is_replaced_unless_asked(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "raw")
    data = tmp_path / "data"
    make_splits(data, "mine_1", folder, SIZES)
    before = tree(data)
    with pytest.raises(ConfigError, match="splits/mine_1: exists") as caught:
        make_splits(data, "mine", folder, SIZES, folds=2, seed=9)
    assert "--overwrite" in (caught.value.remedy or "")
    assert tree(data) == before
    make_splits(data, "mine", folder, SIZES, folds=2, seed=9, overwrite=True)
    assert StoredDataset(data, "mine_1").split.partitions == draw_split(
        "mine_1", list_videos(folder).classes, class_counts(SIZES, 10), seed=9, fold=1
    )


@pytest.mark.parametrize(
    ("sizes", "n_classes", "counts"),
    [
        ((64, 12, 24), 100, (64, 12, 24)),
        ((0.64, 0.12, 0.24), 100, (64, 12, 24)),
        ((0.6, 0.2, 0.2), 51, (31, 10, 10)),
        ((0.5, 0.25, 0.125), 8, (4, 2, 1)),
        ((1, 1, 1), 3, (1, 1, 1)),
        ((0.34, 0.33, 0.33), 3, (1, 1, 1)),
    ],
)
def test_counts_and_shares(sizes: tuple[float, ...], n_classes: int, counts: tuple[int, ...]) -> None:
    names = ("train", "val", "test")
    found = class_counts(dict(zip(names, sizes, strict=True)), n_classes)
    assert found == dict(zip(names, counts, strict=True))


@given(st.lists(st.integers(1, 97), min_size=3, max_size=3), st.integers(30, 300))
def test_shares_that_sum_to_one_use_every_class(weights: list[int], n_classes: int) -> None:
    sizes = {name: weight / sum(weights) for name, weight in zip(("train", "val", "test"), weights, strict=True)}
    try:
        counts = class_counts(sizes, n_classes)
    except ConfigError:  # a share below one class
        assert min(sizes.values()) * n_classes < 1
        return
    assert sum(counts.values()) == n_classes
    assert all(abs(counts[name] - sizes[name] * n_classes) < 1 for name in sizes)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((8, 2, 2), "train 8, val 2, test 2 of 10 classes"),
        ((0.9, 0.05, 0.01), "of 10 classes"),
        ((0.9, 0.9, 0.9), "shares that sum to at most 1"),
        ((6, 0.2, 0.2), "expected whole numbers of classes, or shares"),
        ((2.5, 1, 1), "expected whole numbers of classes, or shares"),
        ((0, 1, 1), "expected whole numbers of classes, or shares"),
        ((-1, 1, 1), "expected whole numbers of classes, or shares"),
        ((float("nan"), 0.1, 0.1), "expected whole numbers of classes, or shares"),
        ((float("inf"), 1, 1), "expected whole numbers of classes, or shares"),
    ],
)
def test_sizes_that_cannot_be_met_are_named(sizes: tuple[float, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        class_counts(dict(zip(("train", "val", "test"), sizes, strict=True)), 10)


def test_what_cannot_be_a_split_is_named_and_nothing_written(tmp_path: Path) -> None:
    folder, data = class_folders(tmp_path / "raw"), tmp_path / "data"
    for name, message in (("../x", "dataset name"), ("hmdb51", "is a published data set")):
        with pytest.raises((ConfigError, SplitError), match=message):
            make_splits(data, name, folder, SIZES)
    with pytest.raises(DataError, match="cannot be listed"):
        make_splits(data, "mine", tmp_path / "nowhere", SIZES)
    with pytest.raises(DataError, match="holds no class folder with videos"):
        make_splits(data, "mine", folder / "idle", SIZES)
    (folder / "x\ty").mkdir()
    (folder / "x\ty" / "v.mp4").write_bytes(b"y")
    with pytest.raises(SplitError, match="class name 'x\\\\ty' .* control character"):
        make_splits(data, "mine", folder, SIZES)
    assert not data.exists()
