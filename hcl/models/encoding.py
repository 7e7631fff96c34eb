"""Encode clips into tokens, and tokens into matching features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hcl.clips.dataset import Draw
from hcl.models.features import ClipFeatures, concatenate
from hcl.models.hcl import HCL, MatchingHeads
from hcl.models.inference import for_inference
from hcl.models.pooled import PooledModel
from hcl.models.precision import autocast

_HEAD_CLIPS = 64  # clips that go through the matching heads at a time


@torch.no_grad()
def encode(
    model: HCL | PooledModel,
    dataset: Dataset,
    draws: Sequence[Draw] | Sequence[int],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    processes: int = 0,
    precision: str = "float32",
) -> tuple[Float[Tensor, "clip ..."], int]:
    """Return tokens of some clips in float32 (pooled features for `PooledModel`) and the rows of their patch grid."""
    model.eval()
    fast: HCL | PooledModel | None = None
    loader = DataLoader(dataset, sampler=list(draws), batch_size=batch_size, num_workers=processes)  # type: ignore[arg-type]
    tokens, rows = [], 0
    for clips in loader:
        if fast is None:
            fast = for_inference(model, has_grids=clips.shape[2] != 3)
        with autocast(device, precision):
            hidden, rows = fast.tokens(clips.to(device))
        tokens.append(hidden.float())
    return torch.cat(tokens), rows


@torch.no_grad()
def features_of(
    heads: MatchingHeads,
    tokens: Float[Tensor, "clip frame patch dim"],
    rows: int,
    *,
    project: bool,
    embeddings: Float[Tensor, "clip embedding"] | None = None,
) -> ClipFeatures:
    """Compute the matching features of many clips in small groups; heads that mix clips must not be passed here."""
    names = [None] * len(tokens) if embeddings is None else embeddings.to(tokens.device).split(_HEAD_CLIPS)
    parts = [
        heads(part, rows, project=project, embeddings=part_names)
        for part, part_names in zip(tokens.split(_HEAD_CLIPS), names, strict=False)
    ]
    return concatenate(parts)
