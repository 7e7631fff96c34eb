"""Cut a clip into ordered frame tuples and multi-scale patches (METHOD "Zoom-in matching")."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


@cache
def _combinations(n_frames: int, size: int) -> tuple[tuple[int, ...], ...]:
    if size > n_frames:
        raise ValueError(f"a tuple of {size} frames needs clips of at least {size} frames, these have {n_frames}")
    return tuple(combinations(range(n_frames), size))


def tuple_frames(n_frames: int, size: int, device: torch.device | None = None) -> Int[Tensor, "tuple size"]:
    """Return the frame indices of every tuple in lexicographic order: 28 pairs or 56 triples of 8 frames.

    Raises ValueError if a clip has fewer frames than a tuple.
    """
    return torch.tensor(_combinations(n_frames, size), device=device)


def concatenated_frames(
    frames: Float[Tensor, "clip frame dim"], size: int
) -> Float[Tensor, "clip tuple size_times_dim"]:
    """Concatenate the features of each tuple's frames in order."""
    indices = tuple_frames(frames.shape[1], size, frames.device)
    return rearrange(frames[:, indices], "v n t d -> v n (t d)")


def multi_scale_patches(
    patches: Float[Tensor, "clip frame patch dim"], rows: int, *, mix_clips: bool = False
) -> Float[Tensor, "clip frame scaled_patch dim"]:
    """Return each frame's patches, their 2x2 averages at stride 1 and their 4x4 averages at stride 2.

    7 x 7 patches give 49 + 36 + 4 = 89; a pooling window larger than the grid is left out.

    Args:
        rows: rows of the patch grid; the number of patches divided by it gives the columns.
        mix_clips: reproduce deviation 3: output [v, t] is frame [t * clips + v] of the flattened batch, so that most
            frames of a clip come from other clips.
    """
    n_clips, n_frames = patches.shape[:2]
    grid = rearrange(patches, "v t (y x) d -> (v t) d y x", y=rows)
    columns = grid.shape[-1]
    scales = [grid] + [
        functional.avg_pool2d(grid, window, stride=stride)
        for window, stride in ((2, 1), (4, 2))
        if window <= min(rows, columns)
    ]
    flat = torch.cat([rearrange(scale, "f d y x -> f (y x) d") for scale in scales], dim=1)
    order = "(t v) p d -> v t p d" if mix_clips else "(v t) p d -> v t p d"
    return rearrange(flat, order, v=n_clips, t=n_frames)
