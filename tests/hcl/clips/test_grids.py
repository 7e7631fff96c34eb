from __future__ import annotations

import json
import os
import pickle
import resource
import shutil

import numpy as np
import pytest
import torch

from hcl.clips.blocks import BlockStore
from hcl.clips.dataset import Draw
from hcl.clips.grids import GridDataset, GridStore
from hcl.errors import DataError, StorageError

SHAPE = (11, 2, 3, 7, 2, 2)  # clip, view, frame, channel, row, column; a block is of eight clips


def values(start: int, stop: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float16)[start:stop]


@pytest.fixture
def store(tmp_path) -> GridStore:
    return GridStore(tmp_path / "digest", SHAPE[0])


def write(store: GridStore, start: int, stop: int) -> None:
    store.write(start, values(start, stop).swapaxes(0, 1))


def filled(store: GridStore) -> GridStore:
    for block in store.missing():
        write(store, *block)
    store.finish({"backbone": "resnet18"})
    return store


def test_what_is_written_is_read(store):
    assert filled(store).n_views == SHAPE[1]
    for clip in range(SHAPE[0]):
        for view in range(2):
            grid = store.read(clip, view)
            assert grid.dtype == torch.float16
            assert np.array_equal(grid.numpy(), values(0, SHAPE[0])[clip, view])


def test_a_store_is_whole_only_once_it_is_finished(store):
    assert not store.is_whole()
    for block in store.missing():
        write(store, *block)
    assert not store.is_whole()
    store.finish({"backbone": "resnet18", "size": 224})
    assert store.is_whole() and GridStore(store.folder, SHAPE[0]).is_whole()
    assert sorted(path.name for path in store.folder.iterdir()) == ["clips-0", "clips-8", "grids.json"]
    assert json.loads((store.folder / "grids.json").read_text()) == {"backbone": "resnet18", "size": 224}


def test_an_interrupted_store_goes_on_where_it_stopped(store):
    write(store, 0, 8)
    resumed = GridStore(store.folder, SHAPE[0])
    assert resumed.missing() == [(8, 11)]
    write(resumed, 8, 11)
    assert resumed.missing() == []
    resumed.finish({})
    assert np.array_equal(resumed.read(1, 1).numpy(), values(0, 11)[1, 1])
    assert np.array_equal(resumed.read(9, 0).numpy(), values(0, 11)[9, 0])


def test_a_read_grid_is_a_copy(store):
    filled(store)
    store.read(2).zero_()
    assert np.array_equal(store.read(2).numpy(), values(0, 11)[2, 0])


def test_a_store_travels_as_its_path_and_size_alone(store):
    filled(store).read(0)
    assert store.n_views == 2
    travelled = pickle.dumps(store)
    assert len(travelled) < 500
    assert np.array_equal(pickle.loads(travelled).read(10, 1).numpy(), values(0, 11)[10, 1])


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(store, monkeypatch):
    need = int(np.prod(SHAPE)) * 2
    disk = shutil.disk_usage(store.folder.parent)
    monkeypatch.setattr("hcl.clips.grids.shutil.disk_usage", lambda folder: disk._replace(free=need - 1))
    with pytest.raises(DataError, match=r"takes 0\.0 GB, 0\.0 GB are free") as caught:
        store.check_room(SHAPE[1:])
    assert "model.cached_views" in caught.value.remedy
    write(store, 0, 8)  # existing blocks need no space
    store.check_room(SHAPE[1:])
    monkeypatch.undo()
    store.check_room(SHAPE[1:])


def test_the_free_space_is_that_of_the_disk(tmp_path):
    huge = (10**3, 8, 2048, 7, 7)  # 1.6 petabytes
    with pytest.raises(DataError, match="GB are free"):
        GridStore(tmp_path / "digest", 10**6).check_room(huge)


# --- damage, and few files ------------------------------------------------------------------------------------------


def damage(store: GridStore, at: int = -1) -> None:
    """Flip one bit of the last grid, or of another byte of the first block's file."""
    path = store.folder / "clips-0" / "grids.npy"
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def test_a_grid_that_is_not_what_was_written_is_refused_and_the_others_are_read(store):
    damage(filled(store))
    with pytest.raises(StorageError, match="clips-0: cannot be read: grids.npy is not what was written") as caught:
        store.read(7, 1)
    assert str(store.folder) in caught.value.remedy
    for clip, view in ((7, 0), (0, 1), (9, 1)):
        assert np.array_equal(store.read(clip, view).numpy(), values(0, 11)[clip, view])


@pytest.mark.parametrize("fault", ["a grid", "the header", "a checksum", "gone"])
def test_a_damaged_block_is_made_again_where_something_can_make_it(store, fault, caplog):
    filled(store)
    made = []

    def mend(start: int, stop: int) -> None:
        made.append((start, stop))
        write(store, start, stop)

    if fault == "gone":
        shutil.rmtree(store.folder / "clips-0")
    elif fault == "a checksum":
        whole = store.folder / "clips-0" / "whole"
        whole.write_bytes(whole.read_bytes().replace(b"[[", b"[[1", 1))
    else:
        damage(store, -1 if fault == "a grid" else 20)
    mended = GridStore(store.folder, SHAPE[0], mend)
    for _ in range(2):
        for clip in range(SHAPE[0]):
            for view in range(2):
                assert np.array_equal(mended.read(clip, view).numpy(), values(0, 11)[clip, view])
    assert made == [(0, 8)]
    assert "clips-0" in caplog.text and "the block was computed again" in caplog.text


def test_a_block_that_cannot_be_made_again_is_an_error(store):
    damage(filled(store))
    with pytest.raises(StorageError, match="the block is missing"):
        GridStore(store.folder, SHAPE[0], lambda start, stop: None).read(7, 1)


def test_grids_in_more_blocks_than_a_process_may_open_files_are_read(tmp_path):
    """Read many blocks; earlier versions failed here near 160,000 clips."""
    n_clips = 8 * 70
    store = GridStore(tmp_path / "digest", n_clips)
    for start, stop in store.missing():
        store.write(start, np.arange(start, stop, dtype=np.float16).reshape(1, -1, 1, 1, 1, 1))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 30, allowed[1]))
    try:
        for clip in [*range(n_clips), *range(0, n_clips, 8)]:
            assert store.read(clip).item() == clip
        taken = BlockStore(tmp_path / "digest", n_clips, size=8).take(range(0, n_clips, 5))
        assert taken["grids"].flatten().tolist() == list(range(0, n_clips, 5))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)


# --- as a data set --------------------------------------------------------------------------------------------------


def test_without_seeds_the_first_view_is_read(store):
    data = GridDataset(filled(store))
    assert len(data) == 11
    for clip in range(11):
        assert torch.equal(data[clip], store.read(clip, 0))
        assert torch.equal(data[Draw(clip)], store.read(clip, 0))


def test_seeds_choose_the_view_and_all_views_are_chosen(store):
    data, views = GridDataset(filled(store)), {0: 0, 1: 0}
    for step in range(40):
        grid = data[Draw(3, (0, step))]
        assert torch.equal(grid, data[Draw(3, (0, step))])
        views[0 if torch.equal(grid, store.read(3, 0)) else 1] += 1
        assert any(torch.equal(grid, store.read(3, view)) for view in (0, 1))
    assert min(views.values()) > 8
