"""Save and load checkpoints of model and training state.

A file holds tensors and plain values only and is read with `weights_only`, so that no code runs from it.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hcl.errors import CheckpointError
from hcl.files.archives import archive_problem
from hcl.files.atomic import PARTIAL, whole_file
from hcl.models.backbone import Backbone
from hcl.models.tensor_files import read_tensor_file
from hcl.models.tuning import base_digest

FORMAT = "hcl-checkpoint-1"
_REMEDY = "name a run's folder or one of its files under checkpoints/"
_OTHERS = (
    "or run `hcl train` again, which resumes from the checkpoint before last.pt and restores best.pt if possible; "
    "`hcl evaluate RUN/checkpoints/last.pt` evaluates the last epoch instead of the best"
)


def save_checkpoint(path: Path, *, model: nn.Module, state: dict[str, Any]) -> None:
    """Write the model's tensors and `state` (tensors, numbers, strings, lists, dicts) atomically.

    Of an adapted backbone only what was learnt is written, and the digest of the weights that it was given (`base`).

    Raises StorageError if the disk is full or not writable.
    """
    base = base_of(model)
    identified = {"base": base} if base else {}
    write_checkpoint(path, {"format": FORMAT, "model": learnt_state(model), **identified, **state})


def learnt_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a model without the weights that an adapted backbone was given."""
    backbone = getattr(model, "backbone", None)
    given = {f"backbone.{name}" for name in backbone.given} if isinstance(backbone, Backbone) else set()
    return {name: value for name, value in model.state_dict().items() if name not in given}


def base_of(model: nn.Module) -> str:
    """Return the digest of the weights that an adapted backbone was given; empty for other models."""
    backbone = getattr(model, "backbone", None)
    return base_digest(backbone) if isinstance(backbone, Backbone) else ""


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write the content of a checkpoint, as `load_checkpoint` returns it, atomically. Raises StorageError."""
    with whole_file(path) as file:
        torch.save(dict(content), file)


def remove_partial_checkpoints(folder: Path) -> None:
    """Remove the partial files of killed writers; the caller must be the only writer of the folder."""
    for partial in folder.glob(f".*{PARTIAL}"):
        partial.unlink(missing_ok=True)


def load_checkpoint(
    path: Path, *, map_location: str | torch.device = "cpu", holding: Collection[str] = ()
) -> dict[str, Any]:
    """Read a file of `save_checkpoint`. Raises CheckpointError for a missing, damaged or foreign file.

    Args:
        holding: the names of the parts of the state that must be there.
    """
    try:
        content = read_tensors_only(path, map_location=map_location)
    except CheckpointError as error:
        remedy = f"{error.remedy}; {_OTHERS}" if path.exists() else _REMEDY
        raise CheckpointError(error.problem, where=error.where, remedy=remedy) from error
    if content.get("format") != FORMAT:
        raise CheckpointError("is not a checkpoint of this program", where=str(path), remedy=_REMEDY)
    if wrong := _misshapen(content, holding):
        raise CheckpointError(f"is damaged: {wrong}", where=str(path), remedy=_REMEDY)
    return content


def check_checkpoint(path: Path) -> None:
    """Verify a checkpoint's checksums without loading it. Raises CheckpointError if it is missing or damaged."""
    if not path.exists():
        raise CheckpointError("no such file", where=str(path), remedy=_REMEDY)
    if problem := archive_problem(path) or ("" if zipfile.is_zipfile(path) else "it does not begin like a checkpoint"):
        raise CheckpointError(
            f"cannot be read: it is damaged ({problem})",
            where=str(path),
            remedy=f"copy it again from an intact source; {_OTHERS}",
        )


def read_tensors_only(path: Path, *, map_location: str | torch.device = "cpu", lenient: bool = False) -> dict[Any, Any]:
    """Read the dict in a file of tensors and plain values, written by this or another program, without running code.

    Raises CheckpointError as `hcl.models.tensor_files.read_tensor_file`, and for a file that holds no dict.
    """
    content = read_tensor_file(path, map_location=map_location, lenient=lenient)
    if not isinstance(content, dict):
        raise CheckpointError("is not a checkpoint of this program", where=str(path), remedy=_REMEDY)
    if odd := [name for name, value in tensors_in(content) if value.layout != torch.strided or value.is_meta]:
        raise CheckpointError(  # sparse tensors, and tensors without data
            f"cannot be read: {odd[0]} has no values of its own", where=str(path), remedy=_REMEDY
        )
    return content


def _misshapen(content: Mapping[Any, Any], holding: Collection[str]) -> str:
    """Describe the first problem in the parts of a checkpoint; return "" if there is none."""
    if missing := [name for name in ("model", *holding) if name not in content]:
        return f"it lacks `{missing[0]}`"
    wrong = [name for name, kind in _KINDS.items() if name in content and not isinstance(content[name], kind)]
    if wrong:
        return f"`{wrong[0]}` is {content[wrong[0]]!r:.80}"
    entries = content["model"].items()
    other = [name for name, value in entries if not isinstance(name, str) or not isinstance(value, Tensor)]
    return f"`model` holds {other[0]!r:.80}, which is no named tensor" if other else ""


_KINDS: dict[str, type] = {
    "model": dict,
    "epoch": int,
    "classes": list,
    "metrics": dict,
    "best": dict,
    "sums": dict,
    "base": str,
}


def load_model(model: nn.Module, state: dict[str, Tensor], *, source: str, base: str = "") -> None:
    """Load a state whose every key and shape must fit.

    Args:
        base: digest of the weights that an adapted backbone was given when this state was learnt.

    Raises:
        CheckpointError: it does not fit, and the first differences are named; or it was learnt on other weights.
    """
    if problems := state_problems(state, learnt_state(model)):
        raise CheckpointError(
            f"does not fit the model: {'; '.join(problems[:3])} ({len(problems)} differences)",
            where=source,
            remedy="evaluate it with the experiment that it was trained with (experiment.yaml beside checkpoints/)",
        )
    if base != base_of(model):
        raise CheckpointError(
            "was learnt on other weights of the backbone than those of model.weights here",
            where=source,
            remedy="set model.weights to the file that it was trained with (experiment.yaml beside checkpoints/)",
        )
    model.load_state_dict(state, strict=False)  # what an adapted backbone was given is there


def state_problems(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """List every entry that is missing, unknown, or of another shape or kind of number than expected, sorted."""
    problems = [f"{key} is missing" for key in wanted.keys() - state.keys()]
    problems += [f"{key} is unknown" for key in state.keys() - wanted.keys()]
    for key in wanted.keys() & state.keys():
        if wanted[key].shape != state[key].shape:
            shapes = f"{tuple(state[key].shape)} in the file and {tuple(wanted[key].shape)} in the model"
            problems.append(f"{key} is {shapes}")
        elif wanted[key].is_floating_point() != state[key].is_floating_point():
            problems.append(f"{key} holds {state[key].dtype} in the file and {wanted[key].dtype} in the model")
    return sorted(problems)


def tensors_in(content: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor in nested dicts and lists with its dotted path."""
    if isinstance(content, Tensor):
        yield name, content
    elif isinstance(content, Mapping | list | tuple):
        pairs = content.items() if isinstance(content, Mapping) else enumerate(content)
        for key, value in pairs:
            yield from tensors_in(value, f"{name}.{key}" if name else str(key))


def file_digest(path: Path) -> str:
    """Return the first twelve hexadecimal digits of the SHA-256 of the file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
