"""Test that digests of score tables and cached grids cover everything that they depend on, and nothing else."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hcl.datasets.manifest import VideoRecord, append_record, write_manifest
from hcl.errors import StorageError
from hcl.files.arrays import save_arrays
from hcl.frames.stored_dataset import StoredDataset
from orchestration.evaluation.tables import SIDE, Cell, Table
from orchestration.training.grids import GridJob
from tests.orchestration.conftest import tiny_experiment, write_data


def cell(data_root: Path, method: str = "untrained", dataset: str = "toy", **changes: Any) -> Cell:
    stored = StoredDataset(data_root, dataset)
    return Cell(method, tiny_experiment(**changes), stored, stored.partition("test"))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"train__workers": 2},
        {"optim__lr": 0.5},
        {"fusion__sigma_spatial": 2.0},
        {"matching__metric": "cosine"},
        {"matching__chunk_size": 3},
        {"evaluation__episodes": 7},
        {"evaluation__keep_features": False},
    ],
    ids=str,
)
def test_what_does_not_change_a_pair_shares_the_table(changes: dict[str, Any], data_root: Path) -> None:
    first, other = cell(data_root), cell(data_root, **changes)
    assert first == other and hash(first) == hash(other)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "random"},
        {"dataset": "other"},
        {"seed": 1},
        {"clips__n_frames": 3},
        {"model__d_model": 32},
        {"matching__top_tuples": 2},
        {"matching__project_at_test": False},
        {"evaluation__views": 2},
        {"evaluation__precision": "bfloat16"},
    ],
    ids=str,
)
def test_what_changes_a_pair_makes_another_table(changes: dict[str, Any], data_root: Path) -> None:
    assert cell(data_root) != cell(data_root, **changes)


def test_features_are_shared_by_tables_that_only_choose_otherwise(data_root: Path, tmp_path: Path) -> None:
    first, other = cell(data_root), cell(data_root, matching__top_tuples=2, matching__zoom_ranks_test=1)
    assert first != other and first.features(tmp_path) == other.features(tmp_path)
    assert first.features(tmp_path) != cell(data_root, matching__project_at_test=False).features(tmp_path)


def names_of(data_root: Path) -> tuple[str, str]:
    """Return the digests of the table and the grids of a data root, as a worker elsewhere computes them."""
    pickled = pickle.loads(pickle.dumps(cell(data_root)))
    return pickled.key, pickled.grid_job().store(Path("runs")).folder.name


def test_other_frames_under_the_same_lists_make_another_table_and_other_grids(tmp_path: Path) -> None:
    first, copy, other = (tmp_path / name for name in ("one", "copy", "other"))
    write_data(first, ("toy",))
    for root in (copy, other):
        shutil.copytree(first, root)
    (other / "images/toy/jay/jay_4/0.jpg").write_bytes((first / "images/toy/hen/hen_0/0.jpg").read_bytes())
    assert names_of(copy) == names_of(first)
    assert not set(names_of(other)) & set(names_of(first))


def test_extraction_changes_a_table_and_grids_where_it_changes_frames(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "splits").symlink_to(data_root / "splits")
    images = tmp_path / "images" / "toy"
    images.mkdir(parents=True)
    videos = StoredDataset(tmp_path, "toy").partition("test").videos
    records = [VideoRecord(one.class_name, one.name, "ok", 5, digest=f"digest of {one.name}") for one in videos]
    write_manifest(images, records)
    first = names_of(tmp_path)
    write_manifest(images, [replace(one, source_mtime_ns=7, source="moved.avi") for one in records])
    assert names_of(tmp_path) == first
    append_record(images, replace(records[-1], digest="another"))
    assert not set(names_of(tmp_path)) & set(first)


def test_grids_of_training_and_test_are_kept_apart_and_test_ignores_the_seed(data_root: Path, tmp_path: Path) -> None:
    def folder(training: bool, **changes: Any) -> Path:
        partition = StoredDataset(data_root, "toy").partition("val")
        return (
            GridJob(tiny_experiment(**changes), StoredDataset(data_root, "toy"), partition, training)
            .store(tmp_path)
            .folder
        )

    pretrained = {"model__weights": "imagenet"}
    assert folder(True) != folder(False)
    assert folder(True, **pretrained) != folder(True, seed=1, **pretrained)
    assert folder(False, **pretrained) == folder(False, seed=1, **pretrained)
    assert folder(False) != folder(False, seed=1)  # the weights themselves are drawn
    assert folder(False) == folder(False, model__d_model=32, optim__lr=0.5)


@pytest.mark.parametrize("n_clips", [1, 3, 15, 16, 17, 300, 2857])
def test_tiles_cover_every_pair_once_in_nearly_equal_parts(n_clips: int, tmp_path: Path) -> None:
    tiles = Table(tmp_path / "key", n_clips, {}).tiles()
    covered = np.zeros((n_clips, n_clips), dtype=int)
    for tile in tiles:
        covered[tile.row : tile.row_end, tile.column : tile.column_end] += 1
    assert (covered == 1).all()
    assert len(tiles) >= min(16, n_clips**2)
    sizes = [tile.n_pairs for tile in tiles]
    assert max(sizes) <= SIDE**2
    if n_clips >= 64:
        assert max(sizes) <= 1.15 * min(sizes)


def a_table(folder: Path) -> Table:
    table = Table(folder / "key", 5, {"checkpoint": "abc"})
    for tile in table.tiles():
        values = np.arange(25.0).reshape(5, 5)[tile.row : tile.row_end, tile.column : tile.column_end]
        save_arrays(table.tile(tile), {"global": values})
    return table


def test_a_table_is_put_together_and_read_back(tmp_path: Path) -> None:
    table = a_table(tmp_path)
    last = table.tiles()[-1]
    table.tile(last).unlink()
    assert table.missing() == [last]
    with pytest.raises(StorageError, match="pairs-4-4"):
        table.assemble()
    save_arrays(table.tile(last), {"global": np.array([[24.0]])})
    table.assemble()
    assert table.missing() == [] and not table.folder.exists()
    np.testing.assert_array_equal(table.read()["global"], np.arange(25.0).reshape(5, 5))


def test_a_table_that_was_damaged_or_is_about_something_else_is_refused(tmp_path: Path) -> None:
    table = a_table(tmp_path)
    with pytest.raises(StorageError, match="cannot be read"):
        table.read()
    table.assemble()
    with pytest.raises(StorageError, match="another checkpoint, split or setting"):
        replace(table, meaning={"checkpoint": "abd"}).read()
    with pytest.raises(StorageError, match="not 6 x 6"):
        replace(table, n_clips=6).read()
    content = bytearray(table.whole.read_bytes())
    place = content.index(np.float64(7.0).tobytes())
    content[place + 6] ^= 1
    table.whole.write_bytes(content)
    with pytest.raises(StorageError, match="CRC") as caught:
        table.read()
    assert "delete it and repeat" in caught.value.remedy
