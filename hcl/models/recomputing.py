"""Memory for time: a backbone's blocks are computed again in the backward pass instead of being kept from the forward.

Gradients, running statistics and weights stay the same bit for bit: the second pass draws the same random numbers and
leaves the batch norms' running statistics alone. What matching keeps is small (means of chosen features), so there is
nothing to gain there; its chunks bound it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_BLOCKS = ("BasicBlock", "Bottleneck", "MBConvBlock")  # class names: one package of the three is optional


def recompute_blocks(backbone: nn.Module) -> int:
    """Make every residual block of a backbone keep its input alone; returns how many blocks there are."""
    blocks = [module for module in backbone.modules() if type(module).__name__ in _BLOCKS]
    for block in blocks:
        block.forward = partial(_recomputed, block)  # type: ignore[method-assign]  # no wrapper: names stay as they are
    return len(blocks)


def _recomputed(block: nn.Module, *inputs: Any, **options: Any) -> Tensor:
    return checkpoint(
        partial(type(block).forward, block),
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _statistics_kept(block)),
        **options,
    )


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Let the second pass count into copies of the batch norms' running statistics: the first has counted already."""
    norms = [child for child in block.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm)]
    kept = [dict(norm._buffers) for norm in norms]
    for norm in norms:
        norm._buffers.update({name: None if value is None else value.clone() for name, value in norm._buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)
