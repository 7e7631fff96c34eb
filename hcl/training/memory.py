"""What a training step takes of memory: by arithmetic, and by a dry run on tensors without content.

The dry run calls the real model, loss and optimiser, counts what tensors would take and computes nothing: a batch for a
GPU is tried out on a laptop in seconds. What libraries take inside an operation (workspaces, caches) is not counted.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
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
from hcl.training.workers import OneProcess


class StepMemory(NamedTuple):
    """Bytes, while a step runs.

    Attributes:
        backbone: what the backbone's forward pass leaves behind for the backward one, its result included.
        forward: live when the loss is known: weights and all that the backward pass needs.
        peak: the most at any moment of forward, backward and update.
    """

    backbone: int
    forward: int
    peak: int


class Peak(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is on, and of those that are let go."""

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


class CopiesOfWorkers(OneProcess):
    """Stands in for `hcl.training.workers.Workers`: this worker's features once for each of `world` workers."""

    def __init__(self, world: int):
        self.world = world  # type: ignore[misc]

    def features(self, features: ClipFeatures) -> ClipFeatures:
        def repeat(values: Sequence[Tensor]) -> tuple[Tensor, ...]:
            made = {id(value): torch.cat([value] * self.world) for value in values}
            return tuple(made[id(value)] for value in values)

        semantics = None if features.semantics is None else repeat(features.semantics)
        return ClipFeatures(repeat(features.patches), repeat(features.tuples), repeat([features.clip])[0], semantics)


@contextmanager
def without_content() -> Iterator[Peak]:
    """Tensors that are made in the block have a shape and no content; gives what they would take."""
    with FakeTensorMode(), Peak() as peak:
        yield peak


def dry_step(
    peak: Peak, model: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, batch: Callable[[], Batch]
) -> StepMemory:
    """Forward, backward and update inside `without_content` (or on real tensors, under a `Peak`)."""
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
    """What is there in every step: weights, their gradients, the optimiser's averages, DDP's copy of the gradients."""
    weights = sum(value.nbytes for value in model.state_dict().values())
    learnt = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    averages = 1 if optimizer == "sgd" else 2
    state = {"weights": weights, "gradients": learnt, f"{optimizer}'s averages": averages * learnt}
    return state | ({"gradient buckets of the workers": learnt} if workers > 1 else {})


def matching_bytes(*, clips: int, chunk_size: int, tuple_size: int, patches: int, d_model: int) -> int:
    """The patches of both sides of each pair of a chunk, copied side by side, and their affinities; float32.

    Args:
        clips: of the whole batch.
        patches: of a frame, those of all scales.
    """
    places = tuple_size * patches
    return 4 * min(chunk_size, clips) * clips * places * (2 * d_model + places)
