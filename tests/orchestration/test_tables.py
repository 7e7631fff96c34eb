"""What names a score table and the cached grids: all that they depend on, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hcl.splits import read_partition
from orchestration.grids import GridJob
from orchestration.tables import Cell, Table
from tests.orchestration.conftest import tiny_experiment


def cell(data_root: Path, method: str = "untrained", dataset: str = "toy", **changes: Any) -> Cell:
    return Cell(method, tiny_experiment(**changes), data_root, read_partition(data_root, dataset, "test"))


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
    ],
    ids=str,
)
def test_what_does_not_change_a_pair_shares_the_table(changes: dict[str, Any], data_root: Path) -> None:
    one, other = cell(data_root), cell(data_root, **changes)
    assert one == other and hash(one) == hash(other)


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
    ],
    ids=str,
)
def test_what_changes_a_pair_makes_another_table(changes: dict[str, Any], data_root: Path) -> None:
    assert cell(data_root) != cell(data_root, **changes)


def test_frames_extracted_anew_make_another_table_and_other_grids(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "splits").symlink_to(data_root / "splits")
    manifest = tmp_path / "images" / "toy" / "manifest.parquet"
    manifest.parent.mkdir(parents=True)
    keys, grids = set(), set()
    for content in (None, b"one", b"two"):
        if content:
            manifest.write_bytes(content)
        keys.add(cell(tmp_path).key)
        grids.add(cell(tmp_path).grid_job().store(tmp_path).folder)
    assert len(keys) == len(grids) == 3


def test_grids_of_training_and_test_are_kept_apart_and_test_ignores_the_seed(data_root: Path, tmp_path: Path) -> None:
    def folder(training: bool, **changes: Any) -> Path:
        partition = read_partition(data_root, "toy", "val")
        return GridJob(tiny_experiment(**changes), data_root, partition, training).store(tmp_path).folder

    pretrained = {"model__weights": "imagenet"}
    assert folder(True) != folder(False)
    assert folder(True, **pretrained) != folder(True, seed=1, **pretrained)
    assert folder(False, **pretrained) == folder(False, seed=1, **pretrained)
    assert folder(False) != folder(False, seed=1)  # the weights themselves are drawn
    assert folder(False) == folder(False, model__d_model=32, optim__lr=0.5)


@pytest.mark.parametrize("n_clips", [1, 15, 16, 17, 300, 5000])
def test_blocks_cover_every_row_and_clip_once(n_clips: int, tmp_path: Path) -> None:
    table = Table(tmp_path / "key", n_clips)
    assert [index for start, stop in table.rows() for index in range(start, stop)] == list(range(n_clips))
    assert len(table.tokens()) == -(-n_clips // 16)
    assert table.whole == tmp_path / "key.npz"
