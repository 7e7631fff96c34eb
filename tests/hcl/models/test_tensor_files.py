"""Test weights of other programs: a state dict under any usual wrapper is read, other content is reported."""

from __future__ import annotations

import argparse
import bz2
import gzip
import pathlib
import pickle
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hcl.errors import BackboneError, CheckpointError
from hcl.models.backbone import read_state_dict
from hcl.models.checkpoint import FORMAT
from hcl.models.published import read_published
from hcl.models.tensor_files import read_tensor_file, state_dict_in, without_wrappers
from orchestration.training.release_import import list_checkpoint

STATE = {
    "bi_linear.weight": torch.arange(6.0).view(2, 3),
    "bi_linear.bias": torch.ones(2),
    "norm_spa.bias": torch.ones(1),
}


def renamed(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in STATE.items()}


def assert_is_state(found: Any) -> None:
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], value) for name, value in STATE.items())


WRAPPED: list[Any] = [
    STATE,
    OrderedDict(STATE),
    *({name: STATE} for name in ("state_dict", "model", "model_state_dict", "net", "weights")),
    {"epoch": 3, "optimizer": {"state": {}}, "state_dict": renamed("module.")},
    {"model": {"state_dict": renamed("_orig_mod.")}},
    {"model_state_dict": renamed("module._orig_mod."), "model_ema": {"bi_linear.bias": torch.zeros(2)}},
    {"state_dict": renamed("_orig_mod.module.")},
    {"state_dict": renamed("model."), "pytorch-lightning_version": "2.1", "hyper_parameters": {"lr": 0.1}},
    {"state_dict": renamed("net._orig_mod.")},
    {"state_dict": STATE, "args": argparse.Namespace(lr=0.1, out=pathlib.Path("runs"))},
    {"state_dict": STATE, "best": np.float64(31.9), "epoch": np.int64(3), "per_class": np.arange(3.0)},
]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("content", WRAPPED, ids=lambda content: "-".join(map(str, content))[:60])
def test_a_state_dict_is_found_under_any_usual_wrapper(content: Any, legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert_is_state(read_published(path))
    list_checkpoint(path)


def test_safetensors_are_read(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(renamed("module."), tmp_path / "model.safetensors")
    assert_is_state(read_published(tmp_path / "model.safetensors"))
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    content[12] ^= 1  # in the header with the names
    (tmp_path / "model.safetensors").write_bytes(content[:-3])
    with pytest.raises(CheckpointError, match="it is damaged"):
        read_tensor_file(tmp_path / "model.safetensors")


def test_backbone_weights_are_read_so_too(tmp_path: Path) -> None:
    torch.save({"state_dict": renamed("module."), "args": argparse.Namespace()}, tmp_path / "r.pth")
    assert_is_state(read_state_dict(tmp_path / "r.pth"))


def raw(content: bytes) -> Any:
    return lambda path: path.write_bytes(content)


def archived(path: Path) -> None:
    (path.parent / "inside").write_text("x")
    with tarfile.open(path, "w") as tar:
        tar.add(path.parent / "inside", "inside")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 102400\n"
OTHERS: list[tuple[str, Any, str, str]] = [
    ("empty", raw(b""), "it is empty", "copy or download it again"),
    ("pointer", raw(POINTER), "it is a git-LFS pointer", "git lfs pull"),
    (
        "page",
        raw(b"\n<!DOCTYPE html><html><body>Sign in</body></html>"),
        "it is an HTML page",
        "download the file itself",
    ),
    ("denied", raw(b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'), "it is an XML page", "download"),
    ("gzip", raw(gzip.compress(b"weights" * 99)), "packed with gzip", "gunzip"),
    ("bzip2", raw(bz2.compress(b"weights" * 99)), "packed with bzip2", "bunzip2"),
    ("tar", archived, "it is a tar archive", "tar -xf"),
    ("text", raw(b"404: not found"), "it is damaged or holds more", "copy or download"),
    ("model", lambda path: torch.save(nn.Linear(2, 3), path), "torch.nn.modules.linear.Linear", "model.state_dict()"),
    (
        "old model",
        lambda path: torch.save(nn.Linear(2, 3), path, _use_new_zipfile_serialization=False),
        "torch.nn.modules.linear.Linear",
        "model.state_dict()",
    ),
    (
        "object",
        lambda path: torch.save({"model": STATE, "f": tarfile.TarInfo("x")}, path),
        "tarfile.TarInfo",
        "state dict",
    ),
]


@pytest.mark.parametrize(("kind", "make", "problem", "remedy"), OTHERS, ids=[one[0] for one in OTHERS])
def test_what_is_no_file_of_tensors_is_named(kind: str, make: Any, problem: str, remedy: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    make(path)
    for read in (read_published, list_checkpoint):
        with pytest.raises(CheckpointError, match="cannot be read: ") as caught:
            read(path)
        assert problem in caught.value.problem and remedy in str(caught.value.remedy)
    with pytest.raises(BackboneError) as refused:
        read_state_dict(path)
    assert problem in refused.value.problem and remedy in str(refused.value.remedy)


def test_an_array_in_place_of_a_tensor_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {**STATE, "mean": np.zeros(2)}}, tmp_path / "theirs.pth")
    with pytest.raises(CheckpointError, match="entry 'mean' is no tensor but an object"):
        read_published(tmp_path / "theirs.pth")


def test_a_checkpoint_of_ours_is_not_imported(tmp_path: Path) -> None:
    torch.save({"format": FORMAT, "model": STATE, "epoch": 3}, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match="is a checkpoint of this program") as caught:
        read_published(tmp_path / "best.pt")
    assert "hcl evaluate RUN/checkpoints/best.pt" in str(caught.value.remedy)


class Call:
    """Call a function when unpickled."""

    def __init__(self, function: Any, *arguments: Any):
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize(
    "function", [open, eval, getattr, np.fromfile, argparse.FileType, np.dtype, pathlib.Path.touch]
)
def test_no_function_of_a_file_is_called(function: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that even allowed names create only the stand-in."""
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": STATE, "args": Call(function, "ran", "w")}, "theirs.pth")
    before = sorted(tmp_path.iterdir())
    try:
        content = read_tensor_file(Path("theirs.pth"), lenient=True)
    except CheckpointError:
        content = None
    assert sorted(tmp_path.iterdir()) == before
    assert (content is not None) == (function is np.dtype)
    assert pickle.dumps(Call(function, "ran")), "it could have been asked for"


def test_names_lose_what_wrappers_add() -> None:
    for name in ("module.a.b", "_orig_mod.module.a.b", "module.module.a.b", "a._orig_mod.b", "module.a._orig_mod.b"):
        assert without_wrappers(name) == "a.b"
    assert without_wrappers("module") == "module" and without_wrappers("a.module.b") == "a.module.b"
    assert state_dict_in({"model": {"module": STATE}}) == (STATE, "model.module")
    assert state_dict_in([1]) == ({}, "") and state_dict_in({"model": 3, "epoch": 1})[1] == ""
