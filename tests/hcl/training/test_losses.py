"""Compare the training terms with METHOD's formulas, written as loops over anchors and clips."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hcl.config import PUBLISHED
from hcl.config.resolve import resolve
from hcl.matching.similarity import match_tuples
from hcl.models.features import ClipFeatures
from hcl.training.losses import (
    TERMS,
    classification_loss,
    contrastive_loss,
    contrastive_terms,
    cycle_loss,
    neighbouring_pairs,
    weighted_total,
)
from tests.hcl.matching.test_similarity import (
    naive_compare,
    naive_places,
    naive_spatial_means,
    naive_temporal_means,
    naive_tuple_pairs,
    naive_weights,
    noise,
    unit,
)

CLIPS, FRAMES, PATCHES, DIM = 6, 4, 3, 7
N_TUPLES = {2: 6, 3: 4}
TOP_TUPLES, TOP_PATCHES = 3, 4
SIZES = [(2,), (3,), (2, 3)]


def features_of(sizes: tuple[int, ...], semantic: bool = False) -> ClipFeatures:
    """Return random features with leaves `leaves_of`; the patches are one tensor for all sizes, as in the model."""
    patches = unit(CLIPS, FRAMES, PATCHES, DIM, seed=1)
    tuples = tuple(unit(CLIPS, N_TUPLES[size], DIM, seed=size) for size in sizes)
    embeddings = unit(CLIPS, DIM, seed=7)
    clip = (noise(CLIPS, DIM, seed=4) * 0.3).requires_grad_()
    return ClipFeatures((patches,) * len(sizes), tuples, clip, (embeddings,) * len(sizes) if semantic else None)


def leaves_of(features: ClipFeatures) -> list[Tensor]:
    semantics = [] if features.semantics is None else [features.semantics[0]]
    return [features.patches[0], *features.tuples, features.clip, *semantics]


# --- METHOD "Training terms" ----------------------------------------------------------------------------------------


def naive_contrast(similarity: dict[tuple[int, int], Tensor], tau: float, keep_anchor: bool) -> Tensor:
    losses = []
    for i in range(CLIPS):
        denominator = sum(torch.exp(similarity[i, j] / tau) for j in range(CLIPS) if j != i)
        if keep_anchor:
            denominator = denominator + 1  # exp(0) of the anchor's own similarity times 0
        losses.append(torch.log(denominator) - similarity[i, i ^ 1] / tau)
    return sum(losses) / CLIPS


def naive_cycle(x: Tensor, y: Tensor, tau: float, cycle_tau: float = 1.0, weight: Tensor | None = None) -> Tensor:
    """Compute the cycle loss of one clip's items (item, dim) and those of its positive."""
    losses = []
    for a in range(len(x)):
        factor = 1.0 if weight is None else weight[a]
        attention = [torch.exp(factor * (x[a] @ y[b]) / cycle_tau) for b in range(len(y))]
        neighbour = sum(value * y[b] for b, value in enumerate(attention)) / sum(attention)
        back = [torch.exp(neighbour @ x[c] / tau) for c in range(len(x))]
        losses.append(-torch.log(back[a] / sum(back)))
    return sum(losses) / len(losses)


def naive_terms(features: ClipFeatures, sizes, *, tau, cycle_tau, keep_anchor, renormalise, ranks, semantic) -> dict:
    pairs = [(i, j) for i in range(CLIPS) for j in range(CLIPS)]
    terms = {
        "global": naive_contrast({(i, j): features.clip[i] @ features.clip[j] for i, j in pairs}, tau, keep_anchor)
    }
    sums: dict[str, list[Tensor]] = {name: [] for name in TERMS[2:]}
    for level, size in enumerate(sizes):
        u, p = features.tuples[level], features.patches[level]
        temporal, spatial, spatial_cycle = {}, {}, []
        for i, j in pairs:
            kept = naive_tuple_pairs(u[i], u[j], TOP_TUPLES)
            weights = naive_weights(p[i], features.semantics[level][i], kept, size, ranks) if semantic else None
            temporal[i, j] = naive_compare(*naive_temporal_means(u[i], u[j], kept), renormalise=renormalise)
            means = naive_spatial_means(p[i], p[j], kept, size, ranks, TOP_PATCHES, weights)
            spatial[i, j] = naive_compare(*means, renormalise=renormalise)
            if j == i ^ 1:
                own = torch.stack([p[i][place] for place in naive_places(p[i], kept[0][0], size)])
                other = torch.stack([p[j][place] for place in naive_places(p[j], kept[0][1], size)])
                weight = None if weights is None else weights[0]
                spatial_cycle.append(naive_cycle(own, other, tau, cycle_tau, weight))
        cycles = [naive_cycle(u[i], u[i ^ 1], tau, cycle_tau) for i in range(CLIPS)]
        sums["temporal"].append(naive_contrast(temporal, tau, keep_anchor))
        sums["temporal_cycle"].append(sum(cycles) / CLIPS)
        sums["spatial"].append(naive_contrast(spatial, tau, keep_anchor))
        sums["spatial_cycle"].append(sum(spatial_cycle) / CLIPS)
    return terms | {name: sum(values) / len(values) for name, values in sums.items()}


@pytest.mark.parametrize("semantic", [False, True])
@pytest.mark.parametrize("keep_anchor", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_terms_and_gradients_against_loops(sizes, keep_anchor, semantic):
    compare_with_loops(
        sizes, tau=0.07, cycle_tau=1.0, keep_anchor=keep_anchor, renormalise=False, ranks=1, semantic=semantic
    )


@pytest.mark.parametrize("semantic", [False, True])
def test_terms_with_the_optional_settings_against_loops(semantic):
    compare_with_loops((3, 2), tau=0.2, cycle_tau=0.3, keep_anchor=False, renormalise=True, ranks=2, semantic=semantic)


def compare_with_loops(sizes, *, tau, cycle_tau, keep_anchor, renormalise, ranks, semantic):
    features = features_of(sizes, semantic)
    ours = contrastive_terms(
        features,
        features,
        neighbouring_pairs(0, CLIPS),
        tuple_sizes=sizes,
        top_tuples=TOP_TUPLES,
        top_patches=TOP_PATCHES,
        zoom_ranks=ranks,
        temperature=tau,
        cycle_temperature=cycle_tau,
        keep_anchor=keep_anchor,
        renormalise=renormalise,
        spatial_cycle=True,
        chunk_size=4,
    )
    naive = naive_terms(
        features,
        sizes,
        tau=tau,
        cycle_tau=cycle_tau,
        keep_anchor=keep_anchor,
        renormalise=renormalise,
        ranks=ranks,
        semantic=semantic,
    )
    assert list(ours) == list(TERMS[1:])
    for name, value in ours.items():
        torch.testing.assert_close(value, naive[name], msg=lambda text, name=name: f"{name}: {text}")
        assert_same_gradients(value, naive[name], leaves_of(features), name)


def assert_same_gradients(first: Tensor, second: Tensor, leaves: list[Tensor], name: str) -> None:
    reached = 0
    gradients = [torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True) for value in (first, second)]
    for leaf, one, other in zip(leaves, *gradients, strict=True):
        one, other = (torch.zeros_like(leaf) if gradient is None else gradient for gradient in (one, other))
        torch.testing.assert_close(one, other, msg=lambda text: f"gradient of {name}: {text}")
        reached += bool(other.abs().max() > 0)
    assert reached, name


# --- chunks, workers' shares, order ---------------------------------------------------------------------------------


def terms_of(features: ClipFeatures, sizes=(2, 3), anchors: slice = slice(0, CLIPS), **settings) -> dict[str, Tensor]:
    pairs = neighbouring_pairs(anchors.start, anchors.stop - anchors.start)
    return contrastive_terms(
        features[anchors],
        features,
        pairs,
        tuple_sizes=sizes,
        **{"top_tuples": 3, "top_patches": 4, "spatial_cycle": True} | settings,
    )


@pytest.mark.parametrize("semantic", [False, True])
@pytest.mark.parametrize("chunk_size", [1, 4, 5])  # 4 and 5 do not divide the 6 clips
def test_chunks_change_nothing(chunk_size, semantic):
    features = features_of((2, 3), semantic)
    whole, chunked = (terms_of(features, zoom_ranks=2, chunk_size=size) for size in (100, chunk_size))
    for name in whole:
        torch.testing.assert_close(chunked[name], whole[name])
        assert_same_gradients(chunked[name], whole[name], leaves_of(features), name)


@pytest.mark.parametrize("share", [1, 2, 3])  # 1 and 3 split pairs
def test_the_mean_over_shares_of_the_anchors_is_the_whole(share):
    features = features_of((2, 3), semantic=True)
    whole = terms_of(features)
    shares = [terms_of(features, anchors=slice(start, start + share)) for start in range(0, CLIPS, share)]
    for name in whole:
        mean = torch.stack([part[name] for part in shares]).mean()
        torch.testing.assert_close(mean, whole[name])
        assert_same_gradients(mean, whole[name], leaves_of(features), name)


def test_the_order_of_the_pairs_changes_nothing():
    features = features_of((2, 3), semantic=True)
    shuffled = features[torch.tensor([4, 5, 1, 0, 3, 2])]
    for name, value in terms_of(features).items():
        torch.testing.assert_close(terms_of(shuffled)[name], value)


def test_the_order_of_the_sizes_changes_nothing():
    features = features_of((2, 3))
    turned = ClipFeatures(features.patches, features.tuples[::-1], features.clip)
    for name, value in terms_of(features).items():
        torch.testing.assert_close(terms_of(turned, sizes=(3, 2))[name], value)


def test_terms_that_are_not_asked_for_are_left_out():
    features = features_of((2,))
    whole = terms_of(features, sizes=(2,))
    without_cycle = terms_of(features, sizes=(2,), spatial_cycle=False)
    assert list(without_cycle) == ["global", "temporal", "temporal_cycle", "spatial"]
    assert list(terms_of(features, sizes=(2,), spatial=False)) == [
        "global",
        "temporal",
        "temporal_cycle",
        "spatial_cycle",
    ]
    temporal_only = terms_of(features, sizes=(2,), spatial=False, spatial_cycle=False)
    assert list(temporal_only) == ["global", "temporal", "temporal_cycle"]
    assert all(torch.equal(value, whole[name]) for name, value in {**without_cycle, **temporal_only}.items())


def test_misplaced_semantics_take_the_tuples_kept_for_support_0():
    features = features_of((2,), semantic=True)
    settings = {"sizes": (2,), "top_patches": 2}
    right, misplaced = terms_of(features, **settings), terms_of(features, misplaced_semantics=True, **settings)
    u, p, e = features.tuples[0], features.patches[0], features.semantics[0]
    spatial = {}
    for i in range(CLIPS):
        weights = naive_weights(p[i], e[i], naive_tuple_pairs(u[i], u[0], 3), 2, 1)
        if i == 0:  # the tuples of a clip tie with themselves, so that the first is kept
            weights = naive_weights(p[0], e[0], [(0, 0)], 2, 1)
        for j in range(CLIPS):
            kept = naive_tuple_pairs(u[i], u[j], 3)
            spatial[i, j] = naive_compare(*naive_spatial_means(p[i], p[j], kept, 2, 1, 2, weights))
    torch.testing.assert_close(misplaced["spatial"], naive_contrast(spatial, 0.07, keep_anchor=False))
    assert not torch.isclose(misplaced["spatial"], right["spatial"], rtol=1e-6)


# --- the terms by themselves ----------------------------------------------------------------------------------------


def test_corrected_contrast_leaves_the_anchor_out():
    similarity = noise(CLIPS, CLIPS)
    pairs = neighbouring_pairs(0, CLIPS)
    value = contrastive_loss(similarity, pairs, temperature=0.1)
    changed = similarity + 1000 * torch.eye(CLIPS)
    assert torch.equal(contrastive_loss(changed, pairs, temperature=0.1), value)
    assert torch.equal(
        contrastive_loss(changed, pairs, temperature=0.1, keep_anchor=True),
        contrastive_loss(similarity, pairs, temperature=0.1, keep_anchor=True),
    )


def test_two_clips_alone_have_no_negative_but_the_kept_anchor():
    similarity = torch.tensor([[5.0, 0.3], [0.3, 5.0]])
    pairs = neighbouring_pairs(0, 2)
    assert contrastive_loss(similarity, pairs, temperature=0.1) == 0
    kept = contrastive_loss(similarity, pairs, temperature=0.1, keep_anchor=True)
    assert float(kept) == pytest.approx(math.log(math.exp(3) + 1) - 3, rel=1e-6)


def test_a_contrast_of_anchors_that_are_not_the_first_clips():
    similarity = noise(CLIPS, CLIPS)
    rows = slice(2, 4)
    ours = contrastive_loss(similarity[rows], neighbouring_pairs(2, 2), temperature=0.5)
    losses = []
    for i, positive in ((2, 3), (3, 2)):
        others = [float(similarity[i, j]) / 0.5 for j in range(CLIPS) if j != i]
        losses.append(math.log(sum(map(math.exp, others))) - float(similarity[i, positive]) / 0.5)
    assert float(ours) == pytest.approx(sum(losses) / 2)


@pytest.mark.parametrize("temperature", [0.07, 0.005, 1e-3])
def test_small_temperatures_stay_finite(temperature):
    features = features_of((2, 3))
    single = ClipFeatures(
        tuple(p.float() for p in features.patches), tuple(u.float() for u in features.tuples), features.clip.float()
    )
    terms = terms_of(single, temperature=temperature)
    assert all(torch.isfinite(value) for value in terms.values())
    gradients = torch.autograd.grad(sum(terms.values()), leaves_of(features))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("cycle_temperature", [1.0, 0.3])
def test_cycle_loss_against_a_loop(cycle_temperature, weighted):
    x, y = unit(3, 5, DIM, seed=1), unit(3, 5, DIM, seed=2)
    weight = noise(3, 5, seed=3).softmax(dim=-1).requires_grad_() if weighted else None
    ours = cycle_loss(x, y, temperature=0.07, cycle_temperature=cycle_temperature, weight=weight)
    naive = [naive_cycle(x[i], y[i], 0.07, cycle_temperature, None if weight is None else weight[i]) for i in range(3)]
    torch.testing.assert_close(ours, sum(naive) / 3)
    leaves = [x, y] if weight is None else [x, y, weight]
    assert_same_gradients(ours, sum(naive) / 3, leaves, "cycle")


def test_the_default_cycle_finds_similar_items_again_and_the_published_one_does_not():
    n_items, default = 28, resolve(None).experiment.loss.cycle_temperature
    common = torch.ones(1, 1, 64)
    x = functional.normalize(3 * common + noise(2, n_items, 64, seed=4), dim=-1)  # cosines near 0.9, as a clip's tuples
    y = functional.normalize(x + 0.02 * noise(2, n_items, 64, seed=5), dim=-1)
    chance = math.log(n_items)
    assert cycle_loss(x, y, temperature=0.07, cycle_temperature=PUBLISHED["loss.cycle_temperature"]) > 0.97 * chance
    assert cycle_loss(x, y, temperature=0.07, cycle_temperature=default) < 0.8 * chance


def test_a_cycle_between_orthogonal_items_ends_where_it_began():
    x = torch.eye(5)[None]
    # the temperature limits the soft neighbour's preference for the right item
    assert cycle_loss(x, x, temperature=0.01, cycle_temperature=0.01) < 1e-6
    assert cycle_loss(x, x, temperature=0.01, cycle_temperature=100.0) > 0.1


def test_classification_loss_against_a_loop():
    logits, labels = noise(5, 3), torch.tensor([0, 2, 1, 1, 0])
    losses = [
        math.log(sum(math.exp(float(v)) for v in row)) - float(row[label])
        for row, label in zip(logits, labels, strict=True)
    ]
    assert float(classification_loss(logits, labels)) == pytest.approx(sum(losses) / 5)


def test_the_total_weighs_each_term_by_its_name():
    terms = {"ce": torch.tensor(1.0), "spatial": torch.tensor(10.0), "global": torch.tensor(100.0)}
    sigmas = {"global": 2.0, "ce": 3.0, "spatial": 0.5, "temporal": 1000.0}
    assert float(weighted_total(terms, sigmas)) == 200 + 3 + 5


def test_pairs_are_neighbours_in_the_whole_batch():
    pairs = neighbouring_pairs(6, 4)
    assert pairs.anchor.tolist() == [6, 7, 8, 9]
    assert pairs.positive.tolist() == [7, 6, 9, 8]


def test_losses_change_no_input():
    features = features_of((2, 3), semantic=True)
    before = [leaf.detach().clone() for leaf in leaves_of(features)]
    sum(terms_of(features).values()).backward()
    assert all(torch.equal(leaf.detach(), was) for leaf, was in zip(leaves_of(features), before, strict=True))


def test_the_rounding_of_self_similarity_does_not_choose_tuples():
    u = functional.normalize(torch.randn(4, 6, DIM, generator=torch.Generator().manual_seed(0)), dim=-1)
    match = match_tuples(u, u, 3, same=torch.arange(4))
    assert match.query[torch.arange(4), torch.arange(4)].tolist() == [[0, 1, 2]] * 4
