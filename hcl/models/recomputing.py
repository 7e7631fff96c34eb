"""Save memory by activation checkpointing: compute a backbone's blocks again in the backward pass.

Gradients, running statistics and weights stay the same bit for bit: the second pass draws the same random numbers and
does not change the batch norms' running statistics. Matching is not recomputed, because it keeps only means of chosen
features, and its chunks bound them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute_blocks(backbone: nn.Module) -> int:
    """Make every block of a backbone keep only its input, and return the number of blocks.

    A block is what stands in a sequence or list of modules and has parts of its own: a residual block, or a block of a
    transformer. Stages, which hold their blocks under the name `blocks`, are looked into.
    """
    blocks = list(_blocks(backbone))
    for block in blocks:
        block.forward = partial(_recomputed, block)  # type: ignore[method-assign]  # a wrapper would change names
    return len(blocks)


def _blocks(parent: nn.Module) -> Iterator[nn.Module]:
    for child in parent.children():
        if not any(True for _ in child.children()) or isinstance(child, nn.Conv2d):  # a layer
            continue
        if isinstance(child, _SEQUENCES) or isinstance(getattr(child, "blocks", None), _SEQUENCES):
            yield from _blocks(child)
        elif isinstance(parent, _SEQUENCES):
            yield child


_SEQUENCES = (nn.Sequential, nn.ModuleList)


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
    """Let the second pass update copies of the batch norms' running statistics, which the first pass has updated."""
    norms = [child for child in block.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm)]
    kept = [dict(norm._buffers) for norm in norms]
    for norm in norms:
        norm._buffers.update({name: None if value is None else value.clone() for name, value in norm._buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)
