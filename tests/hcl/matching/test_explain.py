"""What is drawn is what was compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from hcl.matching.explain import explain_pair, patch_boxes
from hcl.matching.similarity import compare
from hcl.models.features import ClipFeatures
from hcl.models.tuples import tuple_frames

N_FRAMES, N_PATCHES, DIM = 5, 6, 7
OPTIONS = {"tuple_sizes": (2, 3), "top_tuples": 4, "top_patches": 3, "zoom_ranks": 2}


@pytest.fixture
def clips() -> ClipFeatures:
    generator = torch.Generator().manual_seed(3)

    def unit(*shape: int) -> torch.Tensor:
        return functional.normalize(torch.randn(*shape, generator=generator), dim=-1)

    patches = unit(2, N_FRAMES, N_PATCHES, DIM)
    return ClipFeatures((patches, patches), (unit(2, 10, DIM), unit(2, 10, DIM)), patches.mean(dim=(1, 2)))


def test_the_kept_patches_give_the_spatial_similarity(clips):
    """The counts that are drawn are the weights of the means that `score_pairs` compares."""
    from hcl.evaluation.scores import score_pairs

    query, support = clips[slice(0, 1)], clips[slice(1, 2)]
    pairs = score_pairs(query, support, **OPTIONS)
    for size, found in explain_pair(query, support, **OPTIONS).items():
        kept = found.query_patches.sum()
        assert kept == pytest.approx(OPTIONS["top_patches"]) and found.support_patches.sum() == pytest.approx(kept)
        x = np.einsum("tp,tpd->d", found.query_patches / kept, query.patches[0][0].numpy())
        y = np.einsum("tp,tpd->d", found.support_patches / kept, support.patches[0][0].numpy())
        expected = compare(torch.from_numpy(x), torch.from_numpy(y), "cosine")
        assert float(pairs[f"spatial_cosine_{size}"]) == pytest.approx(float(expected), abs=1e-5)


def test_tuples_against_a_loop(clips):
    query, support = clips[slice(0, 1)], clips[slice(1, 2)]
    frames = tuple_frames(N_FRAMES, 2).tolist()
    affinity = query.tuples[0][0] @ support.tuples[0][0].T
    best = sorted(range(10), key=lambda a: -float(affinity[a].max()))[:4]
    found = explain_pair(query, support, **OPTIONS)[2].tuples
    assert [pair.query for pair in found] == [tuple(frames[a]) for a in best]
    assert [pair.support for pair in found] == [tuple(frames[int(affinity[a].argmax())]) for a in best]
    assert [pair.similarity for pair in found] == pytest.approx([float(affinity[a].max()) for a in best])


def test_patches_outside_the_zoomed_tuples_are_never_kept(clips):
    found = explain_pair(clips[slice(0, 1)], clips[slice(1, 2)], **OPTIONS)[3]
    zoomed = {frame for pair in found.tuples[: found.ranks] for frame in pair.query}
    assert {int(frame) for frame in np.nonzero(found.query_patches)[0]} <= zoomed


def test_boxes_tile_a_frame_and_follow_the_scales():
    assert patch_boxes(2, 3, 6)[4] == (1 / 3, 1 / 2, 1 / 3, 1 / 2)
    boxes = patch_boxes(7, 7, 89)
    assert len(boxes) == 89 and boxes[49] == (0, 0, 2 / 7, 2 / 7) and boxes[86] == (2 / 7, 0, 4 / 7, 4 / 7)
    with pytest.raises(ValueError, match="has 5 patches, not 6"):
        patch_boxes(2, 2, 6)


def test_one_clip_at_a_time(clips):
    with pytest.raises(ValueError, match="got 2 and 1"):
        explain_pair(clips, clips[slice(0, 1)], **OPTIONS)
