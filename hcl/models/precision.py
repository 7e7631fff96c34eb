"""Set the precision of products (`train.precision`).

Tokens and pooled features are computed under autocast, in training and in evaluation; heads, similarities, losses and
scores never are.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast(device: torch.device | str, precision: str) -> AbstractContextManager:
    """Return torch's autocast for `bfloat16` and `float16`, and a context without effect for the other precisions."""
    if precision in ("float32", "tf32"):
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=getattr(torch, precision))


def emulated_on_cpu() -> tuple[str, ...]:
    """Return the precisions that this machine's processor emulates, which takes several times longer than float32."""
    capabilities = torch.cpu.get_capabilities()
    if capabilities["architecture"] != "x86_64":
        return ()
    native = {"bfloat16": ("avx512_bf16", "amx_bf16"), "float16": ("avx512_fp16", "amx_fp16")}
    return tuple(name for name, flags in native.items() if not any(capabilities.get(flag) for flag in flags))


def in_full_precision(device: torch.device | str) -> AbstractContextManager:
    """Disable autocast in a block. The caller must cast values that were computed under it."""
    kind = torch.device(device).type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


def set_convolutions(precision: str) -> None:
    """Let a GPU round the operands of this process's float32 convolutions to TF32 if `precision` is `tf32`.

    torch's default allows it for convolutions. This is a setting of the process instead of a context, because the
    backward pass reads it again. Matrix products and recurrent layers are never rounded, because matching and heads
    use them too.
    """
    torch.backends.cudnn.conv.fp32_precision = "tf32" if precision == "tf32" else "ieee"  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "ieee"
