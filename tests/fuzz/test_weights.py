"""Test hostile checkpoints, embeddings and archives: damaged, foreign, or written to run code when read."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from hcl.clips.episode_files import EpisodeList, lists_for, read_episodes, write_episodes
from hcl.clips.episodes import sample_episodes
from hcl.clips.grids import GridStore
from hcl.datasets.embeddings import read_embeddings
from hcl.datasets.published_embeddings import import_published, read_pickle
from hcl.datasets.splits import Partition, Video
from hcl.files.arrays import load_arrays, save_arrays
from hcl.models.backbone import read_state_dict
from hcl.models.checkpoint import FORMAT, load_checkpoint, load_model, save_checkpoint
from hcl.models.published import read_published
from orchestration.training.release_import import list_checkpoint
from tests.fuzz.hostile import altered, contained, fuzzed, mutated, values

CLASSES = ("a", "b", "c")
PARTITION = Partition("made", "test", CLASSES, tuple(Video(one, f"v{n}") for one in CLASSES for n in range(3)))
_PARTS = ("epoch", "classes", "metrics")


class Runs:
    """Run code when unpickled."""

    def __init__(self, call: Any, *arguments: Any):
        self.reduced = call, arguments

    def __reduce__(self) -> Any:
        return self.reduced


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def archive(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def whole_checkpoint() -> bytes:
    return saved({"format": FORMAT, "model": nn.Linear(2, 1).state_dict(), "epoch": 3, "classes": ["a"], "metrics": {}})


CHECKPOINTS = [whole_checkpoint(), saved(nn.Linear(2, 1).state_dict())]
EMBEDDINGS = archive(classes=np.array(CLASSES), vectors=np.eye(3, dtype=np.float32))
PICKLES = [pickle.dumps(np.eye(3, dtype=np.float32), protocol) for protocol in (0, 2, 4)]
BAD_ARRAYS = [
    *(np.array("x"), np.array(-1), np.zeros((0, 3)), np.array([[1j]]), np.array([b"a"]), np.full((3, 3), np.nan)),
    *(np.full((3, 3), np.inf), np.array([["2026-01-01"]], "datetime64[D]"), np.array(["a\ud800"]), np.zeros((3, 3, 3))),
    np.array([(1, 2.0)], dtype=[("f", "i4"), ("g", "f8")]),
]


def read_checkpoints(path: Path) -> None:
    for read in (read_published, list_checkpoint, read_state_dict):
        with contained(path.parent):
            read(path)
    with contained(path.parent):
        content = load_checkpoint(path, holding=_PARTS)
        assert all(name in content for name in _PARTS)
        load_model(nn.Linear(2, 1), content["model"], source=str(path))


@fuzzed(25)
@given(mutated(CHECKPOINTS))
def test_damaged_checkpoints(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "best.pt").write_bytes(content)
    read_checkpoints(tmp_path / "best.pt")


@fuzzed(25)
@given(
    altered({"format": FORMAT, "model": {"weight": [0.5], "bias": 1}, "epoch": 1, "classes": ["a"], "metrics": {}})
    | values
)
@example({"format": FORMAT, "model": {"weight": torch.zeros(1, 2)}})
@example({"format": FORMAT, "model": {"weight": torch.zeros(1, 2).to_sparse(), "bias": torch.zeros(1)}})
@example({"format": FORMAT, "model": {"weight": torch.zeros(1, 2, device="meta"), "bias": torch.zeros(1)}})
@example({"format": FORMAT, "model": {"weight": torch.zeros(1, 2, dtype=torch.cfloat), "bias": torch.zeros(1)}})
def test_checkpoints_of_other_values(tmp_path: Path, content: Any) -> None:
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = {**content, "epoch": 1, "classes": [], "metrics": {}} if "epoch" not in content else content
    try:
        (tmp_path / "best.pt").write_bytes(saved(content))
    except (UnicodeError, OverflowError, RuntimeError):
        return  # torch cannot write it
    read_checkpoints(tmp_path / "best.pt")


CALLS = [(open, "ran", "w"), (eval, "open('ran', 'w')"), (Path, "x"), (getattr, 1, "real"), (np.frombuffer, b"12")]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0].__name__)
def test_code_in_a_file_is_not_run(call: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = Runs(*call)
    objects = np.array([bomb], dtype=object)
    (tmp_path / "best.pt").write_bytes(saved({"format": FORMAT, "model": {"weight": bomb}}))
    (tmp_path / "one.pkl").write_bytes(pickle.dumps(bomb))
    np.savez(tmp_path / "one.npz", classes=np.array(["a"]), vectors=objects, meaning=objects)
    (tmp_path / "clips-0").mkdir()
    np.save(tmp_path / "clips-0" / "grids.npy", objects)
    (tmp_path / "clips-0" / "whole").touch()
    read_checkpoints(tmp_path / "best.pt")
    read_checkpoints(tmp_path / "one.pkl")
    read_arrays(tmp_path / "one.npz")
    with contained(tmp_path):
        read_pickle(tmp_path / "one.pkl")
    with contained(tmp_path):
        GridStore(tmp_path, 2).read(0)


def read_arrays(path: Path) -> None:
    with contained(path.parent):
        arrays = load_arrays(path, remedy="r")
        assert all(isinstance(one, np.ndarray) for one in arrays.values())
    with contained(path.parent):
        vectors = read_embeddings(path, CLASSES, dataset="made", dim=3)
        assert vectors.shape == (3, 3) and vectors.isfinite().all()
    with contained(path.parent):
        lists_for(PARTITION, read_episodes(path))


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("episodes") / "one.npz"
    drawn = sample_episodes(PARTITION.labels, way=2, shot=1, queries=1, episodes=2, seed=1, class_names=CLASSES)
    write_episodes(path, [EpisodeList.of(PARTITION, drawn, seed=1)])
    return path.read_bytes()


@fuzzed(25)
@given(st.data())
def test_damaged_archives(tmp_path: Path, episodes: bytes, data: st.DataObject) -> None:
    (tmp_path / "one.npz").write_bytes(data.draw(mutated([EMBEDDINGS, episodes])))
    read_arrays(tmp_path / "one.npz")


@pytest.mark.parametrize("kind", ["array", "text", "empty", "encrypted", "method 9", "huge"])
def test_archives_that_are_none(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "one.npz"
    if kind == "array":
        buffer = io.BytesIO()
        np.save(buffer, np.eye(3))
        path.write_bytes(buffer.getvalue())
    elif kind == "huge":
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1152921504606846975,), }"
        npy = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(117) + b"\n"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("classes.npy", npy)
            file.writestr("vectors.npy", npy)
    else:
        with zipfile.ZipFile(path, "w") as file:
            if kind == "text":
                file.writestr("classes", "none")
                file.writestr("vectors", "none")
        if kind in ("encrypted", "method 9"):
            content = bytearray(EMBEDDINGS)
            for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
                at = content.index(mark) + offset + (0 if kind == "encrypted" else 2)
                content[at] = 1 if kind == "encrypted" else 9
            path.write_bytes(content)
    read_arrays(path)


@fuzzed(20)
@given(st.sampled_from(["classes", "vectors"]), st.sampled_from(BAD_ARRAYS))
def test_embeddings_of_other_kinds(tmp_path: Path, name: str, array: np.ndarray) -> None:
    arrays = {"classes": np.array(CLASSES), "vectors": np.eye(3, dtype=np.float32), name: array}
    (tmp_path / "one.npz").write_bytes(archive(**arrays))
    read_arrays(tmp_path / "one.npz")


@fuzzed(25)
@given(st.data())
def test_episodes_of_other_meaning(tmp_path: Path, episodes: bytes, data: st.DataObject) -> None:
    (tmp_path / "one.npz").write_bytes(episodes)
    arrays = load_arrays(tmp_path / "one.npz", remedy="r")
    meaning = data.draw(altered(json.loads(str(arrays["meaning"]))))
    name = data.draw(st.sampled_from(["meaning", "classes_0", "support_0", "query_0"]))
    array = data.draw(st.sampled_from([arrays[name], *BAD_ARRAYS, np.full((2, 2, 1), 10**9), np.full((2, 2, 1), -1)]))
    text = np.array(json.dumps(meaning)) if name == "meaning" else arrays["meaning"]
    try:
        save_arrays(tmp_path / "one.npz", {**arrays, name: array, **({"meaning": text} if name == "meaning" else {})})
    except (UnicodeError, ValueError):
        return  # NumPy cannot write it
    read_arrays(tmp_path / "one.npz")


@fuzzed(30)
@given(mutated(PICKLES), mutated([b"a,one\nb,two\nc,three\n"]))
def test_published_embeddings(tmp_path: Path, content: bytes, names: bytes) -> None:
    (tmp_path / "one.pkl").write_bytes(content)
    (tmp_path / "names.txt").write_bytes(names)
    with contained(tmp_path):
        found = import_published(tmp_path / "one.pkl", tmp_path / "names.txt", CLASSES, "m")
        assert np.isfinite(found.vectors).all()


@fuzzed(20)
@given(st.data())
def test_cached_grids(tmp_path: Path, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((1, 2, 2, 3, 1, 1), np.float16))
    (tmp_path / "clips-0").mkdir(exist_ok=True)
    (tmp_path / "clips-0" / "whole").touch()
    (tmp_path / "clips-0" / "grids.npy").write_bytes(data.draw(mutated([buffer.getvalue()])))
    with contained(tmp_path):
        GridStore(tmp_path, 2).read(0)


def test_a_checkpoint_that_is_whole_is_read(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best.pt", model=nn.Linear(2, 1), state={"epoch": 1, "classes": ["a"], "metrics": {}})
    assert load_checkpoint(tmp_path / "best.pt", holding=_PARTS)["epoch"] == 1
