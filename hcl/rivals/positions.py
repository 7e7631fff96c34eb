"""Encode the place of a frame by sines and cosines, for TRX and for HyRSM and MoLo; the tables have no parameters."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

_BASE = 10000.0


def trx_positions(n_frames: int, like: Float[Tensor, "*axis channel"]) -> Float[Tensor, "frame channel"]:
    """Return sin and cos of t * 10000^(-2i / d) in channels 2i and 2i + 1; dtype and device are those of `like`."""
    even, _ = _exponents(like)
    return _interleaved(n_frames, even, even, like)


def hyrsm_positions(n_frames: int, like: Float[Tensor, "*axis channel"]) -> Float[Tensor, "frame channel"]:
    """Return sin(t / 10000^(4i / d)) and cos(t / 10000^((4i + 2) / d)) in channels 2i and 2i + 1.

    Sine and cosine differ in frequency and the exponents are twice those of the common encoding, as released
    (oddity 8); trained weights rely on it.
    """
    even, odd = _exponents(like)
    return _interleaved(n_frames, 2 * even, 2 * odd, like)


def feature_scale(channels: int, position_a: float) -> float:
    """Return the factor of the features beside the positions in HyRSM and MoLo, the root of channels / A."""
    return math.sqrt(channels / position_a)


def _exponents(like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the exponents 2i / d and (2i + 1) / d, in float64, because powers lose digits."""
    channel = torch.arange(like.shape[-1], device=like.device, dtype=torch.float64) / like.shape[-1]
    return channel[0::2], channel[1::2]


def _interleaved(n_frames: int, sines: Tensor, cosines: Tensor, like: Tensor) -> Tensor:
    time = torch.arange(n_frames, device=like.device, dtype=torch.float64)[:, None]
    table = torch.empty(n_frames, like.shape[-1], device=like.device, dtype=torch.float64)
    table[:, 0::2] = (time / _BASE**sines).sin()
    table[:, 1::2] = (time / _BASE ** cosines[: like.shape[-1] // 2]).cos()
    return table.to(like.dtype)
