"""Find the pretrained weights of a network of timm, here or on their server, and load them after a check."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hcl.errors import BackboneError
from hcl.models.backbone import read_state_dict
from hcl.models.checkpoint import file_digest

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_A_FILE = "--set model.weights=/path/to/model.safetensors"
_SAFE_TWINS = {"open_clip_pytorch_model.bin": "open_clip_model.safetensors"}


def weights_file(name: str, weights: str) -> Path:
    """Return the file that `model.weights` means, and download the pretrained weights of a name if they are not here.

    Args:
        name: of the network in timm.
        weights: `imagenet` for timm's pretrained weights of that name, or a path.

    Raises:
        BackboneError: the file cannot be read or downloaded, or timm has no pretrained weights of this name.
    """
    if weights == "imagenet":
        return _pretrained_file(name)
    path = Path(weights)
    if not path.is_file():
        raise BackboneError("no such file", where=f"model.weights={weights}", remedy="check the path")
    return path


def digest_of_weights(path: Path) -> str:
    """Return the digest of a file's content; a file that has not changed is read once."""
    state = path.stat()
    return _digest(path, state.st_mtime_ns, state.st_size)


def load_weights(network: nn.Module, whole: nn.Module, path: Path) -> None:
    """Load a file, in the form that timm saves or in one that timm converts, into a network.

    Args:
        network: the network, or the levels of it that timm made with `features_only`.
        whole: the network with its own names, which may be the same one; it is not changed.

    Raises:
        BackboneError: the file is damaged, holds other things than tensors, or lacks a weight of this network.
    """
    state = _converted(whole, read_state_dict(path), path)
    wanted = network.state_dict()
    found = {new: state[old] for old in state for new in _names_in_levels(old) if new in wanted}
    problems = [f"{key} is missing" for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    problems += [
        f"{key} is {tuple(value.shape)}, not {tuple(wanted[key].shape)}"
        for key, value in found.items()
        if value.shape != wanted[key].shape
    ]
    # What is not wanted belongs to heads that are left out.
    if problems:
        raise BackboneError(
            f"does not fit timm's {type(whole).__name__}: {'; '.join(problems[:3])} ({len(problems)} differences)",
            where=str(path),
            remedy="give the weights of the network that model.backbone names",
        )
    network.load_state_dict(found, strict=False)


def _converted(whole: nn.Module, state: Mapping[str, Tensor], path: Path) -> Mapping[str, Tensor]:
    """Return a state dict with timm's names; timm knows the names of the networks' first authors."""
    convert = getattr(sys.modules[type(whole).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        converted: Mapping[str, Tensor] = convert(dict(state), whole)
    except Exception as error:  # whatever a conversion raises that meets other names or shapes
        raise BackboneError(
            f"does not fit timm's {type(whole).__name__}: {type(error).__name__}: {error}",
            where=str(path),
            remedy="give the weights of the network that model.backbone names",
        ) from error
    return converted


def _names_in_levels(name: str) -> tuple[str, ...]:
    """Return the names that a weight may have in the levels of a network: as it is, in a wrapper, or flattened."""
    first, dot, rest = name.partition(".")
    flattened = f"{first}_{rest}" if dot else name
    return (name, f"model.{name}", flattened)


@functools.cache
def _digest(path: Path, modified_ns: int, size: int) -> str:
    return file_digest(path)


@functools.cache
def _pretrained_file(name: str) -> Path:
    import timm

    config = timm.get_pretrained_cfg(name)
    source = None if config is None else config.hf_hub_id or config.url
    if config is None or not source:
        raise BackboneError(
            f"timm has no pretrained weights of {name}",
            where="model.weights",
            remedy=f"give a local file: {_A_FILE}; or take random ones: model.weights=none",
        )
    try:
        return _from_hub(config) if config.hf_hub_id else _from_address(config.url)
    except Exception as error:  # whatever the clients of two servers raise
        raise BackboneError(
            f"timm's pretrained weights of {name} are neither here nor can they be downloaded from {source} "
            f"({type(error).__name__})",
            where="model.weights",
            remedy=f"download them elsewhere and give the file: {_A_FILE}; or take random ones: model.weights=none",
        ) from error


def _from_hub(config: Any) -> Path:
    """Return the file of the Hugging Face hub, from its cache where it is there, preferring safetensors."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, _, revision = config.hf_hub_id.partition("@")
    named = config.hf_hub_filename
    names = _HUB_FILES if named is None else (*filter(None, [_SAFE_TWINS.get(named)]), named)
    place = {"repo_id": repository, "revision": revision or None}
    for name in names:
        if isinstance(cached := try_to_load_from_cache(filename=name, **place), str):
            return Path(cached)
    for name in names[:-1]:
        try:
            return Path(hf_hub_download(filename=name, **place))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            continue
    return Path(hf_hub_download(filename=names[-1], **place))


def _from_address(address: Any) -> Path:
    from timm.models._hub import download_cached_file

    return Path(download_cached_file(address))
