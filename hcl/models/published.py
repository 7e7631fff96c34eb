"""Read the released checkpoint's format: a plain dict of tensors under the release's own names.

Backbone entries begin with `encoder.`, or with `encoder.module.` if they were saved from DataParallel; all entries may
have the prefix `module.` too. Every file holds the linear layers of both tuple sizes and `query_embed`, used or not
(METHOD "Features" 6).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from hcl.errors import CheckpointError
from hcl.models.checkpoint import FORMAT, read_tensors_only, state_problems
from hcl.models.hcl import HCL
from hcl.models.tensor_files import Inert, state_dict_in, without_wrappers

_PREFIXES = (
    # released prefix, our prefix; the first match is used, in either direction
    ("action_classifier.", "classifier."),
    ("st_transformer_encoder.input_proj.", "encoder.input_proj."),
    ("st_transformer_encoder.pos_encoder.row_embed.", "encoder.positions.row."),
    ("st_transformer_encoder.pos_encoder.col_embed.", "encoder.positions.column."),
    ("st_transformer_encoder.pos_encoder.temp_embed.", "encoder.positions.temporal."),
    ("st_transformer_encoder.transformer_encoder.", "encoder."),
    ("encoder.", "backbone.body."),
    ("bi_linear.", "heads.tuple_linear.2."),
    ("tri_linear.", "heads.tuple_linear.3."),
    ("temp_linear.", "heads.temporal_linear."),
    ("spa_linear.", "heads.spatial_linear."),
    ("norm_temp.", "heads.temporal_norm."),
    ("norm_spa.", "heads.spatial_norm."),
    ("emb_fc.", "heads.semantic_linear."),
    ("norm_emb.", "heads.semantic_norm."),
)
_QUERY_EMBED = "query_embed"  # 17 rows in every file, which the release never reads
_TUPLE_LAYERS = {2: "bi_linear", 3: "tri_linear"}


class Published(NamedTuple):
    """Hold a released state under our names, and the released entries that the model does not use."""

    state: dict[str, Tensor]
    ignored: tuple[str, ...]


def read_published(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a released file by released name, under any usual wrapper and prefix, without running code.

    Raises CheckpointError if it is missing, damaged, holds more than tensors, or a name twice (plain and prefixed).
    """
    content = read_tensors_only(path, lenient=True)
    if content.get("format") == FORMAT:
        raise CheckpointError(
            "is a checkpoint of this program, not a released state dict",
            where=str(path),
            remedy=f"evaluate it in its run's folder: hcl evaluate RUN/checkpoints/{shlex.quote(path.name)}",
        )
    wrapped, _ = state_dict_in(content)
    wrong = [
        (key, value) for key, value in wrapped.items() if not isinstance(key, str) or not isinstance(value, Tensor)
    ]
    if wrong or not wrapped:
        problem = f"entry {str(wrong[0][0])!r} is no tensor but {_kind(wrong[0][1])}" if wrong else "it is empty"
        raise CheckpointError(
            f"is not a released state dict: {problem}",
            where=str(path),
            remedy="save the model's state dict alone: torch.save(model.state_dict(), FILE); "
            "`hcl checkpoint show FILE` lists the content of a file",
        )
    common = _common_prefix(wrapped)
    plain = {_plain(without_wrappers(key).removeprefix(common)): value for key, value in wrapped.items()}
    if len(plain) < len(wrapped):
        raise CheckpointError(
            f"holds {len(wrapped) - len(plain)} entries both with and without `module.`",
            where=str(path),
            remedy="save the state dict of one model",
        )
    return plain


def _kind(value: object) -> str:
    return "an object" if isinstance(value, Inert) else f"a {type(value).__name__}"


def fit_published(state: dict[str, Tensor], model: HCL, *, source: str) -> Published:
    """Check every name, shape and type of a released state against the model, and return it under our names.

    Raises CheckpointError naming the first differing entries by their released names.
    """
    expected = {_released_name(key): _released_shape(key, value) for key, value in model.state_dict().items()}
    needed = set(expected)
    width = model.heads.spatial_linear.out_features
    expected[_QUERY_EMBED] = model.heads.spatial_linear.weight.new_empty(17, width)
    for size, name in _TUPLE_LAYERS.items():
        expected[f"{name}.weight"] = model.heads.spatial_linear.weight.new_empty(width, size * width)
        expected[f"{name}.bias"] = model.heads.spatial_linear.weight.new_empty(width)
    if problems := state_problems(state, expected):
        raise CheckpointError(
            f"does not fit the released model: {'; '.join(problems[:3])} ({len(problems)} differences)",
            where=source,
            remedy="import it with the experiment that it was trained with (--experiment, --set model.d_model=..., "
            "--set matching.semantic=true)",
        )
    ignored = tuple(key for key in state if key not in needed)
    return Published(from_published({key: state[key] for key in state if key in needed}), ignored)


def from_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename released tensors to our names; the 1x1 convolution of the input projection becomes a linear layer.

    `query_embed` is left out. Raises CheckpointError for an unknown name.
    """
    result = {}
    for key, value in state.items():
        if _plain(key) == _QUERY_EMBED:
            continue
        name = _our_name(key)
        result[name] = value.flatten(1) if name == "encoder.input_proj.weight" else value
    return result


def _common_prefix(keys: Iterable[str]) -> str:
    """Return the prefix of a wrapping attribute, such as Lightning's `model.`, if every entry has it; otherwise ""."""
    names = [without_wrappers(key) for key in keys]
    first = f"{names[0].partition('.')[0]}."
    is_ours = any(name.startswith((_QUERY_EMBED, *(released for released, _ in _PREFIXES))) for name in names)
    return first if not is_ours and all(name.startswith(first) for name in names) else ""


def _plain(key: str) -> str:
    """Remove the prefixes of wrappers around the whole model or around the backbone."""
    key = without_wrappers(key)
    return "encoder." + key.removeprefix("encoder.").removeprefix("module.") if key.startswith("encoder.") else key


def _our_name(key: str) -> str:
    plain = _plain(key)
    for released, ours in _PREFIXES:
        if plain.startswith(released):
            return ours + plain.removeprefix(released).replace("self_attn.", "attention.")
    raise CheckpointError(
        f"key {key!r} is not one of the released model's", where="state dict", remedy="import a released HCL checkpoint"
    )


def _released_name(key: str) -> str:
    for released, ours in _PREFIXES:
        if key.startswith(ours):
            return released + key.removeprefix(ours).replace("attention.", "self_attn.")
    raise ValueError(f"{key} has no name in the release")


def _released_shape(key: str, value: Tensor) -> Tensor:
    return value[..., None, None] if key == "encoder.input_proj.weight" else value


def was_never_trained(weight: Tensor) -> bool:
    """Return true if a linear layer's weight still lies within the uniform initialisation's bound, 1/sqrt(inputs).

    For `temp_linear.weight` this indicates the older release, which trained without the layer (METHOD "Which release
    trained the checkpoint?"): projecting at test would multiply by noise.
    """
    bound = weight.shape[1] ** -0.5
    return float(weight.abs().max()) <= bound * (1 + 1e-6)  # the bound itself is rounded to float32
