"""Compare matching frame by frame with matching tuple by tuple, on unequal prime axes."""

from __future__ import annotations

import pytest
import torch

from hcl.matching import zoom
from hcl.matching.similarity import PatchMatch, match_patches, match_tuples, spatial_means
from hcl.matching.zoom import match_patches_by_frame
from tests.hcl.matching.test_similarity import noise, unit

FRAMES, PATCHES, DIM = 5, 7, 11
N_TUPLES = {2: 10, 3: 10}


@pytest.fixture(params=["frames", "clips"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Select products of single frames, or of whole clips."""
    monkeypatch.setattr(zoom, "_LARGE", 0 if request.param == "frames" else 10**9)
    monkeypatch.setattr(zoom, "_BLOCK", 13)  # divides no axis here
    return request.param


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(("ranks", "top"), [(1, 1), (3, 4), (100, 100)])
def test_the_kept_patches_are_those_of_whole_tuples(way, ranks, top, size, weighted):
    query, support = unit(3, FRAMES, PATCHES, DIM, seed=1).detach(), unit(5, FRAMES, PATCHES, DIM, seed=2).detach()
    match = match_tuples(unit(3, N_TUPLES[size], DIM, seed=3), unit(5, N_TUPLES[size], DIM, seed=4), 4)
    weight = torch.rand(3, 5, min(ranks, 4), size * PATCHES, dtype=query.dtype) if weighted else None
    settings = {"size": size, "ranks": ranks, "top": top, "weight": weight}
    ours, expected = (
        match_patches_by_frame(query, support, match, **settings),
        match_patches(query, support, match, **settings),
    )
    assert ours.kept == expected.kept
    assert torch.equal(ours.query, expected.query.float()) and torch.equal(ours.support, expected.support.float())
    assert ours.query.sum() == 15 * ours.kept


def test_equal_patches_go_to_the_first(way):
    """Match a clip that repeats one frame, so that the two frames of each tuple tie. With small whole numbers every
    product is exact, on every processor and in every order of summing, so that the ties are exact too."""
    clip = torch.randint(-3, 4, (1, 1, PATCHES, DIM), generator=torch.Generator().manual_seed(1))
    clip = clip.double().expand(2, FRAMES, -1, -1)
    match = match_tuples(unit(2, 10, DIM, seed=3), unit(2, 10, DIM, seed=4), 3)
    ours = match_patches_by_frame(clip, clip, match, size=2, ranks=3, top=5)
    expected = match_patches(clip, clip, match, size=2, ranks=3, top=5)
    assert torch.equal(ours.query, expected.query.float()) and torch.equal(ours.support, expected.support.float())


def test_whichever_of_equal_patches_is_chosen_the_means_are_the_same(way):
    """Add noise far above rounding and far below relevant differences, in place of the rounding by which equal patches
    differ on each processor. Then the same patch of another, equal frame is chosen, and neither the compared means nor
    their gradients change."""
    frames = [unit(3, 1, PATCHES, DIM, seed=seed) for seed in (1, 2)]
    query, support = (torch.cat([one] * FRAMES, dim=1) for one in frames)
    match = match_tuples(unit(3, 10, DIM, seed=3), unit(3, 10, DIM, seed=4), 3)
    rounded = [clip.detach() + 1e-12 * noise(*clip.shape, seed=5) for clip in (query, support)]
    choices = [
        match_patches_by_frame(query.detach(), support.detach(), match, size=2, ranks=3, top=5),
        match_patches_by_frame(*rounded, match, size=2, ranks=3, top=5),
        match_patches(*rounded, match, size=2, ranks=3, top=5),
    ]
    assert not torch.equal(choices[0].support, choices[1].support)
    outcomes = []
    for choice in choices:
        counts = PatchMatch(choice.query.double(), choice.support.double(), choice.kept)
        x, y = spatial_means(query, support, counts)
        outcomes.append((x, y, *torch.autograd.grad((x * y).sum(), frames)))
    for outcome in outcomes[1:]:
        for ours, expected in zip(outcome, outcomes[0], strict=True):
            torch.testing.assert_close(ours, expected)  # in float64, to 1e-7 of a value


def test_half_precision_chooses_nearly_the_same():
    query, support = unit(3, FRAMES, PATCHES, DIM, seed=1).detach(), unit(5, FRAMES, PATCHES, DIM, seed=2).detach()
    match = match_tuples(unit(3, 10, DIM, seed=3), unit(5, 10, DIM, seed=4), 4)
    settings = {"size": 2, "ranks": 4, "top": 6}
    ours = match_patches_by_frame(query.float(), support.float(), match, is_rounded=True, **settings)
    expected = match_patches(query, support, match, **settings)
    moved = (ours.query - expected.query).abs().sum() / expected.query.sum()
    assert ours.query.sum() == expected.query.sum() and moved < 0.05
