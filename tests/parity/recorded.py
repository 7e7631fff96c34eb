"""Load the recorded cases, fill our model with the recorded run's weights, and compute the error between both."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hcl.models.published import from_published
from tests.golden.sketch import sketch
from tests.golden.weights import deterministic_state

GOLDEN = Path(__file__).parents[1] / "golden"
CASES: dict[str, dict] = json.loads((GOLDEN / "cases.json").read_text())
VALUES, GRADIENTS = 1e-4, 1e-3
"""Tolerances: relative L2 error in float32."""

largest_errors: dict[str, dict[str, float]] = defaultdict(dict)
"""Largest error of values and of gradients in this session for each stage, printed at its end."""


def names(prefix: str) -> list[str]:
    return [name for name in CASES if name.startswith(prefix)]


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays}


def tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def relative_error(ours: Tensor | np.ndarray, recorded: dict[str, np.ndarray], name: str) -> float:
    """Return the relative L2 distance to a recorded array, which may be stored as a sketch."""
    values = ours.detach().cpu().double().numpy() if isinstance(ours, Tensor) else np.asarray(ours, dtype=np.float64)
    reference = recorded.get(name)
    if reference is None:
        values, reference = sketch(values, name), recorded[f"sketch:{name}"]
    assert values.shape == reference.shape, f"{name}: shape {values.shape}, recorded {reference.shape}"
    return float(np.linalg.norm(values - reference) / max(np.linalg.norm(reference.astype(np.float64)), 1e-12))


def check(stage: str, kind: str, ours, recorded: dict[str, np.ndarray], name: str) -> None:
    """Assert that an array is within its tolerance (`values` or `gradients`), and record the error."""
    error = relative_error(ours, recorded, name)
    largest_errors[stage][kind] = max(error, largest_errors[stage].get(kind, 0.0))
    tolerance = VALUES if kind == "values" else GRADIENTS
    assert error <= tolerance, f"{name}: relative error {error:.2e} exceeds {tolerance}"


def check_predictions(scores: np.ndarray, recorded: dict[str, np.ndarray], prefix: str = "") -> None:
    """Assert that predicted classes equal the recorded ones, except in near ties, which rounding decides.

    In a near tie the recorded scores of a query's two best classes differ by less than `VALUES` allows for both.
    """
    reference, expected = recorded[f"{prefix}sims"].astype(np.float64), recorded[f"{prefix}pred"]
    queries, predicted = np.arange(len(reference)), scores.argmax(axis=-1)
    near = 2 * VALUES * np.abs(reference).max()
    behind = reference[queries, expected] - reference[queries, predicted]
    assert (behind <= near).all(), f"{prefix}pred: {predicted.tolist()}, recorded {expected.tolist()}"
    margins = np.diff(np.sort(reference, axis=-1)[:, -2:], axis=-1)
    assert (margins > near).mean() > 0.8  # near ties are rare


PUBLISHED_NAMES = (
    ("backbone.body.", "encoder."),
    ("classifier.", "action_classifier."),
    ("encoder.input_proj.", "st_transformer_encoder.input_proj."),
    ("encoder.positions.row.", "st_transformer_encoder.pos_encoder.row_embed."),
    ("encoder.positions.column.", "st_transformer_encoder.pos_encoder.col_embed."),
    ("encoder.positions.temporal.", "st_transformer_encoder.pos_encoder.temp_embed."),
    ("encoder.", "st_transformer_encoder.transformer_encoder."),
    ("heads.tuple_linear.2.", "bi_linear."),
    ("heads.tuple_linear.3.", "tri_linear."),
    ("heads.temporal_linear.", "temp_linear."),
    ("heads.spatial_linear.", "spa_linear."),
    ("heads.temporal_norm.", "norm_temp."),
    ("heads.spatial_norm.", "norm_spa."),
    ("heads.semantic_linear.", "emb_fc."),
    ("heads.semantic_norm.", "norm_emb."),
)


def published_name(ours: str) -> str:
    """Return the released name of one of our parameters."""
    for prefix, released in PUBLISHED_NAMES:
        if ours.startswith(prefix):
            return released + ours.removeprefix(prefix).replace("attention.", "self_attn.")
    raise KeyError(ours)


def fill(module: nn.Module, prefix: str = "", released_prefix: str = "") -> None:
    """Load the recorded run's weights into a module, through the released names and `from_published`.

    Args:
        prefix: the module's prefix in the whole model, such as `encoder.`.
        released_prefix: the prefix that the recorded run omitted from the names that determine the weights.
    """
    state = module.state_dict()
    shapes = {}
    for key, value in state.items():
        name = published_name(prefix + key).removeprefix(released_prefix)
        shapes[name] = (*value.shape, 1, 1) if key.endswith("input_proj.weight") else tuple(value.shape)
    filled = {released_prefix + key: torch.from_numpy(value) for key, value in deterministic_state(shapes).items()}
    ours = {key.removeprefix(prefix): value for key, value in from_published(filled).items()}
    module.load_state_dict({key: ours[key].to(value.dtype) for key, value in state.items()})


def tokens_of(hidden: np.ndarray, n_frames: int = 8) -> Tensor:
    """Reshape recorded (frame * patch, clip, dim) to (clip, frame, patch, dim), as a leaf with gradients."""
    tokens = tensor(hidden).transpose(0, 1).unflatten(1, (n_frames, -1)).contiguous()
    return tokens.requires_grad_()


def hidden_of(tokens: Tensor) -> Tensor:
    return tokens.flatten(1, 2).transpose(0, 1)
