"""Model and training state on disk, and the released checkpoints' names.

A file holds tensors and plain values only and is read with `weights_only`: no code runs from it.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hcl.errors import CheckpointError

FORMAT = "hcl-checkpoint-1"
_PARTIAL = ".partial"  # ends the name of a file that is being written

_PUBLISHED_PREFIXES = (
    # released name, our name; the first that fits is taken
    (r"encoder\.(?:module\.)?", "backbone.body."),
    (r"action_classifier\.", "classifier."),
    (r"st_transformer_encoder\.input_proj\.", "encoder.input_proj."),
    (r"st_transformer_encoder\.pos_encoder\.row_embed\.", "encoder.positions.row."),
    (r"st_transformer_encoder\.pos_encoder\.col_embed\.", "encoder.positions.column."),
    (r"st_transformer_encoder\.pos_encoder\.temp_embed\.", "encoder.positions.temporal."),
    (r"st_transformer_encoder\.transformer_encoder\.layers\.(\d+)\.self_attn\.", r"encoder.layers.\1.attention."),
    (r"st_transformer_encoder\.transformer_encoder\.", "encoder."),
    (r"bi_linear\.", "heads.tuple_linear.2."),
    (r"tri_linear\.", "heads.tuple_linear.3."),
    (r"temp_linear\.", "heads.temporal_linear."),
    (r"spa_linear\.", "heads.spatial_linear."),
    (r"norm_temp\.", "heads.temporal_norm."),
    (r"norm_spa\.", "heads.spatial_norm."),
    (r"emb_fc\.", "heads.semantic_linear."),
    (r"norm_emb\.", "heads.semantic_norm."),
)


def save_checkpoint(path: Path, *, model: nn.Module, state: dict[str, Any]) -> None:
    """Write whole or not at all: the model's tensors beside `state` (tensors, numbers, strings, lists, dicts).

    The content reaches the disk before the name does, so that a machine that goes down leaves the old file or the new.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_PARTIAL}")
    with partial.open("xb") as file:
        torch.save({"format": FORMAT, "model": model.state_dict(), **state}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def remove_partial_checkpoints(folder: Path) -> None:
    """What writers that were killed left behind; only for who is the folder's one writer."""
    for partial in folder.glob(f".*{_PARTIAL}"):
        partial.unlink(missing_ok=True)


def load_checkpoint(path: Path, *, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """What `save_checkpoint` wrote. Raises CheckpointError for a missing, damaged or foreign file."""
    remedy = "name a run's folder or one of its files under checkpoints/"
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError("no such file", where=str(path), remedy=remedy) from error
    except Exception as error:
        raise CheckpointError(
            f"cannot be read: it is damaged or holds more than tensors and plain values ({type(error).__name__})",
            where=str(path),
            remedy=remedy,
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError("is not a checkpoint of this program", where=str(path), remedy=remedy)
    return content


def load_model(model: nn.Module, state: dict[str, Tensor], *, source: str) -> None:
    """Every key and shape must fit. Raises CheckpointError naming the first differences."""
    wanted = model.state_dict()
    problems = [f"{key} is missing" for key in wanted.keys() - state.keys()]
    problems += [f"{key} is unknown" for key in state.keys() - wanted.keys()]
    problems += [
        f"{key} is {tuple(state[key].shape)} in the file and {tuple(wanted[key].shape)} in the model"
        for key in wanted.keys() & state.keys()
        if wanted[key].shape != state[key].shape
    ]
    if problems:
        raise CheckpointError(
            f"does not fit the model: {'; '.join(sorted(problems)[:3])} ({len(problems)} differences)",
            where=source,
            remedy="evaluate it with the experiment that it was trained with (experiment.yaml beside checkpoints/)",
        )
    model.load_state_dict(state)


def file_digest(path: Path) -> str:
    """Twelve hexadecimal digits of the file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def from_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The released state dict under our names, plain or with DataParallel's `module.`.

    The 1x1 convolution of the input projection becomes a linear layer; `query_embed`, which the release never uses,
    is left out. Raises CheckpointError for an unknown key.
    """
    result = {}
    for key, value in state.items():
        if key == "query_embed":
            continue
        name = _published_name(key)
        result[name] = value.flatten(1) if name == "encoder.input_proj.weight" else value
    return result


def _published_name(key: str) -> str:
    for pattern, ours in _PUBLISHED_PREFIXES:
        name, replaced = re.subn(f"^{pattern}", ours, key)
        if replaced:
            return name
    raise CheckpointError(
        f"key {key!r} is not one of the released model's", where="state dict", remedy="import a released HCL checkpoint"
    )
