"""Compute the weights and images of the recorded cases from names, instead of storing them.

A parameter is a pure function of its name in the released state dict, its shape and a seed: MT19937's 53-bit uniform
numbers, the same on every platform, scaled by the kind of the parameter.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Mapping

import numpy as np

SEED = 20221023


def deterministic_state(shapes: Mapping[str, tuple[int, ...]], seed: int = SEED) -> dict[str, np.ndarray]:
    """Return a whole state dict: released names to float32 arrays (int64 for batch counters).

    `shapes` must hold every name of the state dict, without `.module.`: a batch norm's weight is distinguished from a
    linear layer's by the running mean beside it.
    """
    return {name: _parameter(name, tuple(shape), shapes, seed) for name, shape in shapes.items()}


def uniform(name: str, shape: tuple[int, ...], seed: int = SEED) -> np.ndarray:
    """Return uniform float64 numbers in [-1, 1)."""
    state = np.random.RandomState((zlib.crc32(name.encode()) ^ seed) & 0xFFFFFFFF)
    return 2.0 * state.random_sample(math.prod(shape)).reshape(shape) - 1.0


def upsample_tiles(tiles: np.ndarray, factor: int = 16) -> np.ndarray:
    """Upsample stored tiles (..., 14, 14) to float32 images (..., 224, 224) by repeating each value in a square."""
    square = np.ones((factor, factor), np.float32)
    return np.kron(tiles.astype(np.float32), square)


def _parameter(name: str, shape: tuple[int, ...], names: Collection[str], seed: int) -> np.ndarray:
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    centre, spread = _centre_and_spread(name, shape, names)
    return (centre + spread * uniform(name, shape, seed)).astype(np.float32)


def _centre_and_spread(name: str, shape: tuple[int, ...], names: Collection[str]) -> tuple[float, float]:
    module, _, leaf = name.rpartition(".")
    if f"{module}.running_mean" in names:
        return {"weight": (0.5, 0.2), "running_var": (1.0, 0.2)}.get(leaf, (0.0, 0.1))
    if "norm" in module.rpartition(".")[2]:
        return (1.0, 0.2) if leaf == "weight" else (0.0, 0.1)
    if leaf in ("bias", "in_proj_bias") or leaf.startswith("bias_"):
        return 0.0, 0.1
    if len(shape) == 4:
        return 0.0, math.sqrt(6.0 / math.prod(shape[1:]))
    if "embed" in name and leaf == "weight":
        return 0.5, 0.5
    return 0.0, math.sqrt(3.0 / shape[1]) if len(shape) == 2 else 1.0
