from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hcl.datasets.embeddings import read_embeddings
from hcl.errors import DataError

NAMES, DIM = ("open door", "close door", "jump"), 5
VECTORS = np.arange(len(NAMES) * DIM, dtype=np.float32).reshape(len(NAMES), DIM)


def written(path: Path, **changes: Any) -> Path:
    content = {"classes": np.array(NAMES), "vectors": VECTORS, "model": np.array("a model")} | changes
    np.savez(path, **{key: value for key, value in content.items() if value is not None})
    return path


def test_vectors_come_in_the_order_of_the_classes(tmp_path: Path) -> None:
    path = written(tmp_path / "toy.npz", vectors=VECTORS.astype(np.float64))
    found = read_embeddings(path, ("jump", "open door"), dataset="toy", dim=DIM)
    assert found.dtype == torch.float32
    assert found.tolist() == VECTORS[[2, 0]].tolist()


def test_a_missing_class_is_named_with_the_file_and_the_command(tmp_path: Path) -> None:
    path = written(tmp_path / "toy.npz")
    with pytest.raises(DataError) as caught:
        read_embeddings(path, ("jump", "run", "sit"), dataset="toy", dim=DIM)
    assert caught.value.where == str(path) and "`hcl data embed toy`" in caught.value.remedy
    assert "has no embedding of class 'run' (2 of 3 classes of toy missing)" in caught.value.problem


def test_another_width_names_the_setting(tmp_path: Path) -> None:
    path = written(tmp_path / "toy.npz")
    with pytest.raises(DataError, match="width 5, the model expects 768") as caught:
        read_embeddings(path, NAMES, dataset="toy", dim=768)
    assert "model.embedding_dim=5" in caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"vectors": None}, "cannot be read"),
        ({"vectors": VECTORS[:2]}, "3 classes and vectors of shape"),
        ({"classes": np.array([object()], dtype=object)}, "cannot be read"),  # reading it would need pickle
    ],
)
def test_a_file_of_something_else_is_refused(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        read_embeddings(written(tmp_path / "toy.npz", **changes), NAMES, dataset="toy", dim=DIM)
    assert "hcl data embed toy" in caught.value.remedy


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_a_missing_or_damaged_file_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "toy.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="toy.npz: (no such file|cannot be read)"):
        read_embeddings(path, NAMES, dataset="toy", dim=DIM)
