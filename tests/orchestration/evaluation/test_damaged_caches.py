"""Test damaged caches: they are made again with a notice that names the file, and give the same figures."""

from __future__ import annotations

import logging
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hcl.frames.stored_dataset import StoredDataset
from orchestration.console import notes
from orchestration.evaluation import scorer, scoring
from orchestration.evaluation.scoring import ensure_tables
from orchestration.evaluation.tables import Cell
from orchestration.runtime.notices import keep_notices, tell_notices, telling_notices
from orchestration.training import grids
from orchestration.training.grids import ensure_grids
from tests.orchestration.conftest import tiny_experiment
from tests.orchestration.inline import without_ray


@pytest.fixture(scope="module")
def made(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Cell, Path]:
    """Return a read-only cell whose grids, features and table are cached."""
    runs = tmp_path_factory.mktemp("made")
    stored = StoredDataset(data_root, "toy")
    cell = Cell("untrained", tiny_experiment(), stored, stored.partition("test"))
    with pytest.MonkeyPatch.context() as patched:
        without_ray(patched, scoring, scorer, grids)
        job = cell.grid_job()
        assert job is not None
        ensure_grids([job], runs)
        ensure_tables([cell], runs)
    return cell, runs


def flip(path: Path) -> Path:
    """Flip one bit of the first array's values."""
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 134] ^= 32
    path.write_bytes(content)
    return path


def of_grids(cell: Cell, runs: Path) -> Path:
    shutil.rmtree(cell.features(runs).folder)
    cell.table(runs).whole.unlink()
    return flip(next((runs / "cache" / "grids").glob("*/clips-8/grids.npy"))).parent


def of_features(cell: Cell, runs: Path) -> Path:
    cell.table(runs).whole.unlink()
    return flip(cell.features(runs).folder / "clips-0" / "tuples-0.npy").parent


def of_table(cell: Cell, runs: Path) -> Path:
    return flip(cell.table(runs).whole)


def of_tile(cell: Cell, runs: Path) -> Path:
    """Write tiles as a command leaves them that was stopped before its table was complete."""
    table = cell.table(runs)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(table), "assemble", lambda self: None)
        table.whole.unlink()
        ensure_tables([cell], runs)
    return flip(table.tile(table.tiles()[1]))


@pytest.mark.parametrize("damage", [of_grids, of_features, of_table, of_tile], ids=lambda one: one.__name__)
def test_a_damaged_cache_is_made_again(
    damage: Callable[[Cell, Path], Path], made: tuple[Cell, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch, scoring, scorer, grids)
    cell, whole = made
    runs = tmp_path / "runs"
    shutil.copytree(whole, runs)
    expected = cell.table(whole).read()
    damaged = damage(cell, runs)
    with notes.capture() as captured:
        ensure_tables([cell], runs)
    table = cell.table(runs).read()
    assert table.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(table[name], values, rtol=1e-6, err_msg=name)  # the same code, in the same process
    output = captured.get()
    assert output.count("note: ") == 1 and str(damaged) in output.replace("\n", "") and "again" in output
    with notes.capture() as captured:
        ensure_tables([cell], runs)
    assert captured.get() == ""


def test_the_grids_of_a_run_travel_with_what_makes_them_again(made: tuple[Cell, Path], tmp_path: Path) -> None:
    """A loader process can read them, however it was started."""
    cell, whole = made
    shutil.copytree(whole, tmp_path / "runs")
    job = cell.grid_job()
    assert job is not None
    expected = job.dataset(whole)[9]
    flip(next((tmp_path / "runs" / "cache" / "grids").glob("*/clips-8/grids.npy")))
    travelled = pickle.loads(pickle.dumps(job.dataset(tmp_path / "runs")))
    assert travelled[8].shape == expected.shape  # whose bit it was
    np.testing.assert_array_equal(travelled[9].numpy(), expected.numpy())


def test_warnings_of_any_process_reach_the_command_once(tmp_path: Path) -> None:
    keep_notices(tmp_path / "another")
    with notes.capture() as captured, telling_notices(tmp_path):
        logging.getLogger("hcl.clips.blocks").warning("%s is damaged [bold]", "clips-8")
        logging.getLogger("orchestration.training").warning("ünd last.pt")
        logging.getLogger("hcl").info("not this")
        logging.getLogger("somebody.else").warning("nor this")
    assert captured.get().splitlines() == ["note: clips-8 is damaged [bold]", "note: ünd last.pt"]
    with notes.capture() as captured:
        tell_notices(tmp_path)
        tell_notices(tmp_path / "another")
    assert captured.get() == ""
