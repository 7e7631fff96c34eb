"""The process group of training: what a worker exchanges with the others, so that W workers compute the loss of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hcl.models.features import ClipFeatures


@runtime_checkable
class ProcessGroup(Protocol):
    """The workers that share each step in equal parts, in the order of their ranks. Every worker calls the same."""

    @property
    def rank(self) -> int:
        """The number of this worker, from 0."""
        ...

    @property
    def world_size(self) -> int:
        """The number of workers."""
        ...

    def all_gather(self, features: ClipFeatures) -> ClipFeatures:
        """Return all workers' features, in rank order; gradients flow back to the worker that each came from."""
        ...

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        """Return all workers' rows (without gradients), in rank order; shares may differ in length."""
        ...

    def all_gather_numbers(self, numbers: Sequence[int]) -> list[int]:
        """Return all workers' numbers, in rank order."""
        ...

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the mean over workers of named numbers; every worker names the same."""
        ...

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give every worker the batch-norm statistics of rank 0, those that a checkpoint keeps."""
        ...

    def barrier(self) -> None:
        """Wait until every worker has come here."""
        ...


class SingleProcess:
    """The group of one worker, which has the whole batch."""

    rank, world_size = 0, 1

    def all_gather(self, features: ClipFeatures) -> ClipFeatures:
        return features

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        return rows

    def all_gather_numbers(self, numbers: Sequence[int]) -> list[int]:
        return list(numbers)

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        return dict(values)

    def broadcast_buffers(self, model: nn.Module) -> None:
        pass

    def barrier(self) -> None:
        pass


class DistributedGroup:
    """The default process group of `torch.distributed`, by NCCL or gloo."""

    def __init__(self) -> None:
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()

    def all_gather(self, features: ClipFeatures) -> ClipFeatures:
        return features.map(_AllGather.apply)

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        lengths = [0] * self.world_size
        dist.all_gather_object(lengths, len(rows))
        padded = rows.new_zeros(max(lengths), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.world_size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    def all_gather_numbers(self, numbers: Sequence[int]) -> list[int]:
        parts: list[list[int]] = [[]] * self.world_size
        dist.all_gather_object(parts, list(numbers))
        return [number for part in parts for number in part]

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        tensor = torch.tensor(list(values.values()), dtype=torch.float64)
        if dist.get_backend() == "nccl":
            tensor = tensor.cuda()
        dist.all_reduce(tensor)
        return dict(zip(values, (tensor / self.world_size).tolist(), strict=True))

    def broadcast_buffers(self, model: nn.Module) -> None:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)

    def barrier(self) -> None:
        dist.barrier(device_ids=[torch.cuda.current_device()] if dist.get_backend() == "nccl" else None)


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Every worker's loss depends on every worker's features: the gradients add up where the features came from.
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]
