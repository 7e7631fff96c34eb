from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch

from hcl.clips import Draw
from hcl.errors import DataError
from hcl.grids import GridDataset, GridStore

SHAPE = (5, 2, 3, 7, 2, 2)  # clip, view, frame, channel, row, column


def values(start: int, stop: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float16)[start:stop]


@pytest.fixture
def store(tmp_path) -> GridStore:
    store = GridStore(tmp_path / "digest")
    store.create(SHAPE)
    return store


def filled(store: GridStore) -> GridStore:
    store.write(0, values(0, 3))
    store.write(3, values(3, 5))
    store.finish({"backbone": "resnet18"})
    return store


def test_what_is_written_is_read(store):
    filled(store)
    assert store.shape == SHAPE
    for clip in range(5):
        for view in range(2):
            grid = store.read(clip, view)
            assert grid.dtype == torch.float16
            assert np.array_equal(grid.numpy(), values(0, 5)[clip, view])


def test_a_store_is_whole_only_once_it_is_finished(store):
    assert not store.is_whole()
    store.write(0, values(0, 5))
    assert not store.is_whole()
    store.finish({"backbone": "resnet18", "size": 224})
    assert store.is_whole() and GridStore(store.folder).is_whole()
    assert sorted(path.name for path in store.folder.iterdir()) == ["grids.json", "grids.npy"]
    assert json.loads((store.folder / "grids.json").read_text()) == {"backbone": "resnet18", "size": 224}


def test_an_interrupted_store_goes_on_where_it_stopped(store):
    store.write(0, values(0, 3))
    resumed = GridStore(store.folder)
    resumed.create(SHAPE)
    assert resumed.done() == {0}
    resumed.write(3, values(3, 5))
    assert resumed.done() == {0, 3}
    resumed.finish({})
    assert np.array_equal(resumed.read(1, 1).numpy(), values(0, 5)[1, 1])
    assert np.array_equal(resumed.read(4, 0).numpy(), values(0, 5)[4, 0])


def test_another_shape_begins_again(store):
    store.write(0, values(0, 3))
    larger = GridStore(store.folder)
    larger.create((6, *SHAPE[1:]))
    assert larger.done() == set() and larger.shape == (6, *SHAPE[1:])
    assert larger.read(0).abs().max() == 0


def test_a_whole_store_of_another_shape_is_no_longer_whole(store):
    filled(store).create((6, *SHAPE[1:]))
    assert not store.is_whole()
    assert store.shape == (6, *SHAPE[1:])


def test_a_read_grid_is_a_copy(store):
    filled(store)
    store.read(2).zero_()
    assert np.array_equal(store.read(2).numpy(), values(0, 5)[2, 0])


def test_a_store_travels_as_its_path_alone(store):
    filled(store).read(0)  # the map is open
    travelled = pickle.dumps(store)
    assert len(travelled) < 500
    assert np.array_equal(pickle.loads(travelled).read(4, 1).numpy(), values(0, 5)[4, 1])


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    need = int(np.prod(SHAPE)) * 2
    monkeypatch.setattr("hcl.grids._free_bytes", lambda folder: need - 1)
    with pytest.raises(DataError, match=r"takes 0\.0 GB, 0\.0 GB are free") as caught:
        GridStore(tmp_path / "digest").create(SHAPE)
    assert "model.cached_views" in caught.value.remedy
    assert not (tmp_path / "digest" / "grids.npy").exists()
    monkeypatch.setattr("hcl.grids._free_bytes", lambda folder: need)
    GridStore(tmp_path / "digest").create(SHAPE)


def test_the_free_space_is_that_of_the_disk(tmp_path):
    huge = (10**6, 10**3, 8, 2048, 7, 7)  # 1.6 petabytes
    with pytest.raises(DataError, match="GB are free"):
        GridStore(tmp_path / "digest").create(huge)


# --- as a data set --------------------------------------------------------------------------------------------------


def test_without_seeds_the_first_view_is_read(store):
    data = GridDataset(filled(store))
    assert len(data) == 5
    for clip in range(5):
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
