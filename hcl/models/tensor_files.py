"""Read files of tensors, written by this or another program, without running code; describe files of another kind.

PyTorch's own reader for untrusted files creates only tensors and plain values. The few kinds of objects that training
scripts keep beside a state dict (NumPy numbers, `argparse.Namespace`, paths) are read as `Inert`, which holds nothing.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hcl.errors import CheckpointError
from hcl.files.archives import check_archive


class Inert:
    """Replace an object of a harmless class whose value is not needed."""

    def __new__(cls, *_: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        """Ignore the constructor's arguments in the file."""

    def __setstate__(self, state: Any) -> None:
        """Ignore the object's state in the file."""


def read_tensor_file(path: Path, *, map_location: str | torch.device = "cpu", lenient: bool = False) -> Any:
    """Read a file of `torch.save`, after verifying its checksums, or of safetensors.

    Args:
        lenient: read harmless objects beside the tensors as `Inert`.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, or holds other objects; the message names them.
    """
    try:
        if problem := _other_kind(path):
            raise CheckpointError(f"cannot be read: it {problem[0]}", where=str(path), remedy=problem[1])
        if _is_safetensors(path):
            return _read_safetensors(path, map_location)
        check_archive(path)
        with torch.serialization.safe_globals(_HARMLESS) if lenient else nullcontext():  # type: ignore[arg-type]
            return torch.load(path, map_location=map_location, weights_only=True)
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError("no such file", where=str(path), remedy=_NAME_ONE) from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise CheckpointError(f"cannot be read: it is damaged ({error})", where=str(path), remedy=_COPY) from error
    except Exception as error:
        if unsafe_class := re.search(r"GLOBAL (\S+)", str(error)):
            raise CheckpointError(
                f"cannot be read: it holds more than tensors and plain values: {unsafe_class[1]}",
                where=str(path),
                remedy="in the program that wrote it, save the state dict alone: torch.save(model.state_dict(), FILE)",
            ) from error
        raise CheckpointError(
            f"cannot be read: it is damaged or holds more than tensors and plain values ({type(error).__name__})",
            where=str(path),
            remedy=_COPY,
        ) from error


def state_dict_in(content: Any) -> tuple[Mapping[Any, Any], str]:
    """Return the state dict under the wrappers that training scripts use, and its dotted path ("" without wrappers)."""
    path: list[str] = []
    while isinstance(content, Mapping) and not any(isinstance(value, Tensor) for value in content.values()):
        inside = next((name for name in _WRAPPERS if _holds_tensors(content.get(name))), None)
        if inside is None:
            break
        path.append(inside)
        content = content[inside]
    return (content if isinstance(content, Mapping) else {}), ".".join(path)


def without_wrappers(key: str) -> str:
    """Remove the parts that DataParallel, DDP and `torch.compile` insert into a parameter's name."""
    parts = [part for part in key.split(".") if part != "_orig_mod"]
    while len(parts) > 1 and parts[0] == "module":
        parts = parts[1:]
    return ".".join(parts)


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(part, Tensor) or (name in _WRAPPERS and _holds_tensors(part)) for name, part in value.items()
    )


_WRAPPERS = (
    # the keys that published scripts use, in order of preference
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params"),
    *("model_ema", "ema", "ema_state_dict"),
)
_NAME_ONE = "name a run's folder or one of its files under checkpoints/"
_COPY = "copy or download it again from an intact source"
_HARMLESS = [
    (Inert, name)
    for name in (
        *("argparse.Namespace", "types.SimpleNamespace", "numpy.dtype", "numpy.ndarray"),
        *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
        *(f"pathlib.{kind}" for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")),
    )
]


def _other_kind(path: Path) -> tuple[str, str] | None:
    """Return the kind of a file that certainly holds no tensors, and a remedy; None for other files."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "is empty", _COPY
    if start.startswith(b"version https://git-lfs"):
        return "is a git-LFS pointer, not the file that it points to", "run `git lfs pull` in its repository"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        kind = "an XML" if text.startswith(b"<?xml") else "an HTML"
        return (
            f"is {kind} page: the download failed",
            "open the address in a browser, log in or confirm there, and download the file itself",
        )
    for magic, (name, command) in _PACKED.items():
        if start.startswith(magic):
            return f"is packed with {name}", f"unpack it first: {command}"
    if start[257:262] == b"ustar":
        return "is a tar archive", "unpack it first (tar -xf FILE) and name the file of weights in it"
    return None


_PACKED = {
    b"\x1f\x8b": ("gzip", "mv FILE FILE.gz && gunzip FILE.gz"),
    b"BZh": ("bzip2", "bunzip2 FILE"),
    b"\xfd7zXZ\x00": ("xz", "unxz FILE"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd FILE"),
    b"7z\xbc\xaf\x27\x1c": ("7-Zip", "7z x FILE"),
    b"Rar!": ("RAR", "unrar x FILE"),
}


def _is_safetensors(path: Path) -> bool:
    """Return true if the file starts with a length and an opening brace, as safetensors files do."""
    with path.open("rb") as file:
        start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    return len(start) == 9 and start[8:] == b"{" and 2 <= length <= path.stat().st_size - 8


def _read_safetensors(path: Path, map_location: str | torch.device) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(
            "needs the package safetensors, which is not installed", where=str(path), remedy="pip install safetensors"
        ) from error
    try:
        return load_file(path, device=str(map_location))
    except SafetensorError as error:
        raise CheckpointError(f"cannot be read: it is damaged ({error})", where=str(path), remedy=_COPY) from error
