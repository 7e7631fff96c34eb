"""The memory that a training step takes: by arithmetic, and by a dry run on tensors without content.

The dry run calls the real model, loss and optimiser, counts what tensors would take and computes nothing: a batch for a
GPU is tried out on a laptop in seconds. What libraries take inside an operation (workspaces, caches) is not counted.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from hcl.clips.batches import Batch
from hcl.models.features import ClipFeatures
from hcl.training.epoch import Loss
from hcl.training.process_group import SingleProcess


class StepMemory(NamedTuple):
    """Bytes, while a step runs.

    Attributes:
        backbone: kept from the backbone's forward pass for the backward one, its result included.
        forward: live when the loss is known: weights and all that the backward pass needs.
        peak: the most at any moment of forward, backward and update.
    """

    backbone: int
    forward: int
    peak: int


class Peak(TorchDispatchMode):
    """A count of the bytes of the tensors that are made while it is on, less those that are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:  # a view, or an operation in place
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._let_go, size)

    def _let_go(self, size: int) -> None:
        self.live -= size


class CopiesOfWorkers(SingleProcess):
    """A stand-in for a group of several workers, with this worker's features once for each of them."""

    def __init__(self, world_size: int):
        self.world_size = world_size  # type: ignore[misc]

    def all_gather(self, features: ClipFeatures) -> ClipFeatures:
        return features.map(lambda tensor: torch.cat([tensor] * self.world_size))


@contextmanager
def without_content() -> Iterator[Peak]:
    """Give tensors that are made in the block a shape and no content, and count the bytes that they would take."""
    with FakeTensorMode(), Peak() as peak:
        yield peak


def dry_step(
    peak: Peak, model: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, batch: Callable[[], Batch]
) -> StepMemory:
    """Run forward, backward and update inside `without_content` (or on real tensors, under a `Peak`)."""
    reached: list[int] = []
    for name, part in model.named_children():
        if name == "encoder":
            part.register_forward_pre_hook(lambda *_: reached.append(peak.live))
    clips = batch()
    before = peak.live
    result = loss(clips)
    forward = peak.live
    reached.append(forward)  # without an encoder nearly all that is left is the backbone's
    result.total.backward()
    optimizer.step()
    return StepMemory(reached[0] - before, forward, peak.peak)


def state_bytes(model: nn.Module, *, optimizer: str, workers: int) -> dict[str, int]:
    """Count the bytes of weights, their gradients, the optimiser's averages, and DDP's copy of the gradients."""
    weights = sum(value.nbytes for value in model.state_dict().values())
    learnt = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    averages = 1 if optimizer == "sgd" else 2
    state = {"weights": weights, "gradients": learnt, f"{optimizer}'s averages": averages * learnt}
    return state | ({"gradient buckets of the workers": learnt} if workers > 1 else {})


def matching_bytes(*, clips: int, chunk_size: int, tuple_size: int, patches: int, d_model: int) -> int:
    """Count the bytes of a chunk's matching in float32: the patches of both sides of each pair, and their affinities.

    Args:
        clips: of the whole batch.
        patches: of a frame, those of all scales.
    """
    places = tuple_size * patches
    return 4 * min(chunk_size, clips) * clips * places * (2 * d_model + places)
