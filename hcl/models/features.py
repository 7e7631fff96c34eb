"""The features of clips that matching compares, and their form as named tensors, which are sent and stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClipFeatures:
    """The features of clips that matching compares: unit vectors, but for `clip`, a mean of unit vectors as published.

    Attributes:
        patches: per tuple size, (clip, frame, patch, dim); the same tensor for every size unless deviation 2 is asked
            for.
        tuples: per tuple size, (clip, tuple, dim).
        clip: (clip, dim), or wider where frames or patches stand side by side.
        semantics: per tuple size, class-name embeddings (clip, dim), or None.
    """

    patches: tuple[Tensor, ...]
    tuples: tuple[Tensor, ...]
    clip: Tensor
    semantics: tuple[Tensor, ...] | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> ClipFeatures:
        """Apply a function to every tensor; one that serves several tuple sizes is passed once, and stays one."""
        results: dict[int, Tensor] = {}

        def apply(tensor: Tensor) -> Tensor:
            if id(tensor) not in results:
                results[id(tensor)] = function(tensor)
            return results[id(tensor)]

        return ClipFeatures(
            tuple(map(apply, self.patches)),
            tuple(map(apply, self.tuples)),
            apply(self.clip),
            None if self.semantics is None else tuple(map(apply, self.semantics)),
        )

    def __getitem__(self, index: slice | Tensor) -> ClipFeatures:
        """Return the features of some of the clips."""
        return self.map(lambda tensor: tensor[index])

    def __len__(self) -> int:
        return len(self.clip)


def concatenate(parts: Sequence[ClipFeatures]) -> ClipFeatures:
    """Join the features of several groups of clips, in their order."""
    named = [pack(part) for part in parts]
    return unpack({name: torch.cat([part[name] for part in named]) for name in named[0]})


def pack(features: ClipFeatures, *, half: bool = False) -> dict[str, Tensor]:
    """Return the features as named tensors; patches that serve several tuple sizes are kept once.

    Args:
        half: keep patches in half precision: they are all but a few hundredths of the bytes.
    """
    named = {"clip": features.clip}
    for level, patches in enumerate(features.patches):
        if level == 0 or patches is not features.patches[0]:
            named[f"patches-{level}"] = patches.half() if half else patches
    named |= {f"tuples-{level}": tuples for level, tuples in enumerate(features.tuples)}
    return named | {f"semantics-{level}": names for level, names in enumerate(features.semantics or ())}


def unpack(named: Mapping[str, Tensor]) -> ClipFeatures:
    """Return the features that `pack` named."""
    levels = range(sum(name.startswith("tuples-") for name in named))
    semantics = tuple(named[f"semantics-{level}"] for level in levels if f"semantics-{level}" in named)
    patches = tuple(named.get(f"patches-{level}", named["patches-0"]) for level in levels)
    tuples = tuple(named[f"tuples-{level}"] for level in levels)
    return ClipFeatures(patches, tuples, named["clip"], semantics or None)
