"""Read the recorded cases of the rivals, run a head on them, and compare values and gradients.

`tests/golden/rivals` holds the episodes, logits, losses and gradients of the released heads, recorded in float64;
weights, maps and images are computed from names as they were for the recording.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from hcl.rivals.heads import Head, Output, Targets
from tests.golden.weights import deterministic_state, uniform
from tests.parity.recorded import GOLDEN, largest_errors, relative_error

FOLDER = GOLDEN / "rivals"
MANIFEST: dict = json.loads((FOLDER / "manifest.json").read_text())
CASES: dict[str, dict] = MANIFEST["cases"]
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4}
"""Largest relative L2 error of values and of gradients."""


@dataclass(frozen=True)
class Episode:
    """Hold a recorded episode as a batch of one; `support` and `query` are leaves with gradients."""

    support: Tensor
    query: Tensor
    targets: Targets


@cache
def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as stored:
        return {key: stored[key] for key in stored}


def episode(case: str, dtype: torch.dtype) -> Episode:
    """Return the episode of a case."""
    shape = CASES[case]["episode"]
    stored = arrays(f"inputs_{shape['name']}")
    assert (np.diff(stored["support_labels"]) >= 0).all()  # recorded class by class
    clips, images = _clips(shape, stored)
    n_supports = len(stored["support_labels"])
    support = torch.from_numpy(clips[:n_supports]).to(dtype).unflatten(0, (shape["way"], shape["shot"]))[None]
    query = torch.from_numpy(clips[n_supports:]).to(dtype)[None]
    classes = np.concatenate([stored["support_classes"], stored["query_classes"]])
    targets = Targets(
        torch.from_numpy(stored["query_labels"])[None],
        torch.from_numpy(classes)[None],
        None if images is None else torch.from_numpy(images).to(dtype)[None],
    )
    return Episode(support.requires_grad_(), query.requires_grad_(), targets)


def _clips(shape: dict, stored: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the clips, supports first, and the images of an episode of maps."""
    if not shape.get("maps"):
        return np.concatenate([stored["support"], stored["query"]]), None
    labels = np.concatenate([stored["support_labels"], stored["query_labels"]])
    name, frames = shape["name"], shape["frames"]
    return _maps(name, labels, frames, shape["dim"]), _images(name, len(labels), frames)


def _maps(name: str, labels: np.ndarray, n_frames: int, dim: int, side: int = 7) -> np.ndarray:
    """Compute float16 feature maps (clip, frame, dim, row, column): class, course in time, clip, place and noise."""
    n_classes, n_clips = int(labels.max()) + 1, len(labels)
    look = uniform(f"{name}/look", (n_classes, 1, dim))[labels]
    course = uniform(f"{name}/course", (n_classes, n_frames, dim))[labels]
    own = uniform(f"{name}/own", (n_clips, 1, dim))
    noise = uniform(f"{name}/noise", (n_clips, n_frames, dim))
    pooled = (0.25 * look + 0.35 * course + 0.5 * own + 0.8 * noise).astype(np.float16).astype(np.float64)
    place = uniform(f"{name}/place", (n_clips, n_frames, 1, side, side))
    grain = uniform(f"{name}/grain", (n_clips, n_frames, dim, side, side))
    return np.maximum(pooled[..., None, None] + 0.4 * place + 0.6 * grain, 0).astype(np.float16)


def _images(name: str, n_clips: int, n_frames: int) -> np.ndarray:
    """Compute float16 images (clip, frame, 3, 224, 224): 14 x 14 tiles of 16 x 16 equal pixels."""
    tiles = uniform(f"{name}/images", (n_clips, n_frames, 3, 14, 14)).astype(np.float16)
    return tiles.repeat(16, axis=-2).repeat(16, axis=-1)


def fill(head: nn.Module, case: str, dtype: torch.dtype) -> None:
    """Load the recorded weights, under the released names and in the released shapes, all of them and no others."""
    shapes = {name: tuple(shape) for name, shape in CASES[case]["shapes"].items()}
    flat = {  # the recording drew 1-D and 3-D convolutions as matrices
        name: (shape[0], math.prod(shape[1:])) if name.endswith(".weight") and len(shape) in (3, 5) else shape
        for name, shape in shapes.items()
    }
    state = {name: torch.from_numpy(values.reshape(shapes[name])) for name, values in deterministic_state(flat).items()}
    for name in ("scale", "scale_motion"):
        if name in state:
            state[name] = torch.full_like(state[name], CASES[case]["settings"][name])
    head.load_state_dict(state, strict=True)
    head.to(dtype)


def run(head: Head, case: str, dtype: torch.dtype) -> tuple[Episode, Output, dict[str, Tensor]]:
    """Run a head on a case's episode in training mode, forward and backward; the weighted loss is the term `loss`."""
    assert isinstance(head, nn.Module)
    fill(head, case, dtype)
    head.train()
    given = episode(case, dtype)
    output = head(given.support, given.query)
    terms = head.losses(output, given.targets)
    terms["loss"] = sum((head.weights[name] * term for name, term in terms.items()), torch.zeros((), dtype=dtype))
    terms["loss"].backward()
    return given, output, terms


def compare(head: Head, case: str, dtype: torch.dtype) -> None:
    """Run a head on a case and compare logits, class logits, all terms of the loss and all recorded gradients."""
    given, output, terms = run(head, case, dtype)
    values = {"logits": output.logits[0]} | {f"logits_{name}": each[0] for name, each in output.contrastive.items()}
    if output.class_logits is not None:
        values["class_logits"] = output.class_logits[0].flatten(0, -2)
    values |= {name if name == "loss" else f"term_{name}": term for name, term in terms.items()}
    assert given.support.grad is not None and given.query.grad is not None
    gradients = {
        "grad_support": given.support.grad[0].flatten(0, 1),
        "grad_query": given.query.grad[0],
    }
    assert isinstance(head, nn.Module)
    parameters = dict(head.named_parameters())
    gradients |= {f"grad:{name}": parameters[name].grad for name in CASES[case]["gradients"]}
    recorded = arrays(case)
    for kind, found in (("values", values), ("gradients", gradients)):
        for name, ours in found.items():
            _check(case, kind, ours, recorded, name, dtype)
    left = {name.removeprefix("sketch:") for name in recorded} - values.keys() - gradients.keys()
    assert all(name.startswith("inner_") or name == "loss_original_summed" for name in left), left


def _check(case: str, kind: str, ours: Tensor, recorded: dict, name: str, dtype: torch.dtype) -> None:
    error = relative_error(ours, recorded, name)
    if dtype == torch.float32:
        stage = f"rivals: {CASES[case]['head'].partition('_')[0]}"
        largest_errors[stage][kind] = max(error, largest_errors[stage].get(kind, 0.0))
    assert error <= TOLERANCE[dtype], f"{case}, {name}: relative error {error:.2e} exceeds {TOLERANCE[dtype]}"
