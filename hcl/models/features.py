"""Convert `ClipFeatures` to named tensors and back, for transport between processes and for files."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from hcl.models.hcl import ClipFeatures


def pack(features: ClipFeatures, *, half: bool = False) -> dict[str, Tensor]:
    """Return features as named tensors; a tensor shared by several tuple sizes is kept once.

    Args:
        half: store patches, which take nearly all of the bytes, in half precision.
    """
    named = {"clip": features.clip}
    for level, patches in enumerate(features.patches):
        if level == 0 or patches is not features.patches[0]:
            named[f"patches-{level}"] = patches.half() if half else patches
    named |= {f"tuples-{level}": tuples for level, tuples in enumerate(features.tuples)}
    return named | {f"semantics-{level}": semantics for level, semantics in enumerate(features.semantics or ())}


def unpack(named: Mapping[str, Tensor]) -> ClipFeatures:
    """Return the features from the tensors of `pack`."""
    levels = range(sum(name.startswith("tuples-") for name in named))
    semantics = tuple(named[f"semantics-{level}"] for level in levels if f"semantics-{level}" in named)
    patches = tuple(named.get(f"patches-{level}", named["patches-0"]) for level in levels)
    tuples = tuple(named[f"tuples-{level}"] for level in levels)
    return ClipFeatures(patches, tuples, named["clip"], semantics or None)
