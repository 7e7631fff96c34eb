"""Which products are rounded, and to what (`train.precision`).

Tokens and pooled features are computed under autocast, in training and at test; heads, similarities, losses and scores
never are.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast(device: torch.device | str, precision: str) -> AbstractContextManager:
    """Compute in `bfloat16` or `float16` where asked for."""
    if precision in ("float32", "tf32"):
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=getattr(torch, precision))


def in_full_precision(device: torch.device | str) -> AbstractContextManager:
    """Leave autocast for a while. What comes from under it has to be cast by the caller."""
    return torch.autocast(torch.device(device).type, enabled=False)


def set_convolutions(precision: str) -> None:
    """Say for this process whether a GPU may round what float32 convolutions multiply to TF32: for `tf32` alone.

    torch lets it unless told otherwise. It is no context for a while, because the backward pass asks again. Matrix
    products and recurrent layers are never rounded, as torch has it: they are matching and heads, too.
    """
    torch.backends.cudnn.conv.fp32_precision = "tf32" if precision == "tf32" else "ieee"  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "ieee"
