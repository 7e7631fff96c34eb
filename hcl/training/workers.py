"""Gather the features of all workers with gradients, so that the loss of W workers equals the loss of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hcl.models.hcl import ClipFeatures


class OneProcess:
    """Gather nothing: a single process holds the whole batch."""

    rank, world = 0, 1

    def features(self, features: ClipFeatures) -> ClipFeatures:
        return features

    def rows(self, rows: Tensor) -> Tensor:
        return rows

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        return dict(values)

    def numbers(self, numbers: Sequence[int]) -> list[int]:
        return list(numbers)

    def share_buffers(self, model: nn.Module) -> None:
        pass


class Workers:
    """Gather over the default process group, whose workers hold equal shares of the batch in rank order."""

    def __init__(self) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def features(self, features: ClipFeatures) -> ClipFeatures:
        """Gather all workers' features in rank order; gradients flow back to the worker of each feature."""
        shared: dict[int, Tensor] = {}  # a tensor shared by several tuple sizes is gathered once

        def gather(values: Tensor) -> Tensor:
            if id(values) not in shared:
                shared[id(values)] = _Gather.apply(values)
            return shared[id(values)]

        return ClipFeatures(
            tuple(gather(p) for p in features.patches),
            tuple(gather(u) for u in features.tuples),
            gather(features.clip),
            None if features.semantics is None else tuple(gather(e) for e in features.semantics),
        )

    def rows(self, rows: Tensor) -> Tensor:
        """Gather all workers' rows (without gradients) in rank order; shares may differ in length."""
        lengths = [0] * self.world
        dist.all_gather_object(lengths, len(rows))
        padded = rows.new_zeros(max(lengths), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the mean over workers of named numbers; every worker passes the same names."""
        tensor = torch.tensor(list(values.values()), dtype=torch.float64)
        if dist.get_backend() == "nccl":
            tensor = tensor.cuda()
        dist.all_reduce(tensor)
        return dict(zip(values, (tensor / self.world).tolist(), strict=True))

    def numbers(self, numbers: Sequence[int]) -> list[int]:
        """Gather all workers' numbers in rank order."""
        parts: list[list[int]] = [[]] * self.world
        dist.all_gather_object(parts, list(numbers))
        return [number for part in parts for number in part]

    def share_buffers(self, model: nn.Module) -> None:
        """Broadcast the batch-norm statistics of rank 0, which a checkpoint keeps, to every worker."""
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


Gather = OneProcess | Workers


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Every worker's loss depends on every worker's features, so a feature's gradient is the sum over the workers.
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]
