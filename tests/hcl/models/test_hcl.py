"""Tokens to features against loops; `tiny_model` serves the other tests too."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from hcl.evaluation.scores import score_pairs
from hcl.models.backbone import Backbone
from hcl.models.encoder import Encoder
from hcl.models.features import ClipFeatures, concatenate
from hcl.models.hcl import HCL, MatchingHeads
from hcl.training.losses import contrastive_terms, neighbouring_pairs
from tests.hcl.matching.test_similarity import assert_same, noise, unit

CLIPS, FRAMES, ROWS, COLUMNS, DIM = 3, 4, 2, 3, 8
HEIGHT, WIDTH, CHANNELS, CLASSES = 8, 12, 5, 4


def seeded_heads(*, double: bool = True, **settings) -> MatchingHeads:
    """Heads whose layer norms do something; the same weights for every order of the tuple sizes."""
    settings = {"tuple_sizes": (2, 3)} | settings
    heads = MatchingHeads(DIM, **settings)
    with torch.no_grad():
        for name, parameter in sorted(heads.named_parameters()):
            generator = torch.Generator().manual_seed(sum(map(ord, name)))
            centre = 1.0 if "norm.weight" in name else 0.0
            parameter.copy_(centre + 0.5 * torch.randn(parameter.shape, generator=generator))
    return heads.double() if double else heads


def tiny_model(*, seed: int = 0, dropout: float = 0.0, batch_norm_layer: bool = False, **settings) -> HCL:
    """Frames of 8 x 12 pixels to 2 x 3 patches; nothing in it looks at other clips, unless it has a batch norm."""
    torch.manual_seed(seed)
    body: list[nn.Module] = [nn.Conv2d(3, CHANNELS, 4, stride=4), nn.Tanh()]
    if batch_norm_layer:
        body.insert(1, nn.BatchNorm2d(CHANNELS))
    heads = {
        name: settings.pop(name)
        for name in ("multi_scale", "embedding_dim", "mix_scales", "global_pooling")
        if name in settings
    }
    return HCL(
        Backbone(nn.Sequential(*body), CHANNELS, (0.5,) * 3, (0.25,) * 3),
        Encoder(CHANNELS, d_model=DIM, n_heads=2, dropout=dropout),
        MatchingHeads(DIM, tuple_sizes=settings.pop("tuple_sizes", (2, 3)), **heads),
        n_classes=CLASSES,
        **settings,
    )


def pixels(clips: int = CLIPS, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (clips, FRAMES, 3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)


def tokens_like(clips: int = CLIPS, seed: int = 0) -> Tensor:
    return noise(clips, FRAMES, ROWS * COLUMNS, DIM, seed=seed).requires_grad_()


# --- METHOD "Features" 6 and "Zoom-in matching", one vector at a time -----------------------------------------------


def naive_normalise(x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).sum())


def naive_activate(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    x = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    x = (x - x.mean()) / torch.sqrt(x.var(unbiased=False) + 1e-12)
    return naive_normalise(x * norm.weight + norm.bias)


def naive_affine(layer: nn.Linear, x: Tensor) -> Tensor:
    return layer.weight @ x + layer.bias


def naive_tuple_features(heads: MatchingHeads, clip: Tensor, size: int, project: bool) -> Tensor:
    means = [sum(frame) / len(frame) for frame in clip]
    features = []
    for chosen in combinations(range(len(means)), size):
        u = naive_affine(heads.tuple_linear[str(size)], torch.cat([means[frame] for frame in chosen]))
        if project:
            u = naive_activate(naive_affine(heads.temporal_linear, u), heads.temporal_norm)
        features.append(naive_normalise(u))
    return torch.stack(features)


def naive_patch_features(heads: MatchingHeads, clip: Tensor, project: bool) -> Tensor:
    def feature(h: Tensor) -> Tensor:
        if project:
            return naive_activate(naive_affine(heads.spatial_linear, h), heads.spatial_norm)
        return naive_normalise(h)

    return torch.stack([torch.stack([feature(h) for h in frame]) for frame in clip])


@pytest.mark.parametrize("project", [True, False])
def test_features_and_gradients_against_loops(project):
    heads, tokens = seeded_heads(), tokens_like()
    features = heads(tokens, ROWS, project=project)
    leaves = [tokens, *(heads.get_parameter(name) for name in ("tuple_linear.2.weight", "tuple_linear.3.bias"))]
    if project:
        leaves += [heads.temporal_linear.weight, heads.temporal_norm.bias]
    for level, size in enumerate((2, 3)):
        naive = torch.stack([naive_tuple_features(heads, clip, size, project) for clip in tokens])
        if size == 2:
            leaves_here = [leaf for leaf in leaves if leaf is not heads.get_parameter("tuple_linear.3.bias")]
        else:
            leaves_here = [leaf for leaf in leaves if leaf is not heads.get_parameter("tuple_linear.2.weight")]
        assert_same(features.tuples[level], naive, leaves_here)
    patches = torch.stack([naive_patch_features(heads, clip, project) for clip in tokens])
    spatial = [tokens, heads.spatial_linear.weight, heads.spatial_norm.weight] if project else [tokens]
    assert_same(features.patches[0], patches, spatial)
    assert features.patches[1] is features.patches[0]
    assert_same(features.clip, patches.mean(dim=(1, 2)), spatial)
    assert features.semantics is None


def test_everything_but_the_clip_feature_is_a_unit_vector():
    features = seeded_heads(embedding_dim=5, multi_scale=False)(tokens_like(), ROWS, embeddings=noise(CLIPS, 5))
    for part in (*features.patches, *features.tuples, *features.semantics):
        torch.testing.assert_close(part.norm(dim=-1), torch.ones_like(part[..., 0]))
    assert (features.clip.norm(dim=-1) < 0.999).all()


def test_the_clip_feature_is_the_mean_over_all_scales():
    features = seeded_heads(multi_scale=True)(tokens_like(), ROWS)
    assert features.patches[0].shape == (CLIPS, FRAMES, 6 + 2, DIM)
    torch.testing.assert_close(features.clip, features.patches[0].mean(dim=(1, 2)))


# --- corrected mode -------------------------------------------------------------------------------------------------


def matched_numbers(sizes: tuple[int, ...], **settings) -> dict[str, Tensor]:
    """Training terms and test similarities of six clips."""
    heads = seeded_heads(tuple_sizes=sizes, **settings)
    embeddings = noise(6, settings["embedding_dim"], seed=3) if "embedding_dim" in settings else None
    features = heads(tokens_like(6), ROWS, embeddings=embeddings)
    terms = contrastive_terms(
        features, features, neighbouring_pairs(0, 6), tuple_sizes=sizes, top_tuples=2, top_patches=3, spatial_cycle=True
    )
    pairs = score_pairs(features[:4], features[4:], tuple_sizes=sizes, top_tuples=2, top_patches=3, zoom_ranks=2)
    return {f"{name} term": value for name, value in terms.items()} | pairs


@pytest.mark.parametrize("settings", [{}, {"multi_scale": True}, {"embedding_dim": DIM}, {"embedding_dim": 5}], ids=str)
def test_the_order_of_the_tuple_sizes_changes_nothing(settings):
    one, other = matched_numbers((2, 3), **settings), matched_numbers((3, 2), **settings)
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value)


def test_the_order_of_the_tuple_sizes_matters_where_patches_are_projected_once_more():
    one, other = (matched_numbers(sizes, reproject_per_size=True) for sizes in ((2, 3), (3, 2)))
    for name in ("temporal term", "spatial term", "spatial_cosine_2", "temporal_cosine_3"):
        assert not torch.isclose(one[name], other[name], rtol=1e-3).all()


def test_each_size_alone_has_the_features_that_it_has_beside_another():
    both, alone = seeded_heads()(tokens_like(), ROWS), seeded_heads(tuple_sizes=(3,))(tokens_like(), ROWS)
    torch.testing.assert_close(alone.tuples[0], both.tuples[1])
    torch.testing.assert_close(alone.patches[0], both.patches[1])
    torch.testing.assert_close(alone.clip, both.clip)


@pytest.mark.parametrize("project", [True, False])
def test_the_features_of_a_clip_do_not_depend_on_the_other_clips(project):
    heads, tokens = seeded_heads(multi_scale=True, embedding_dim=5), tokens_like()
    embeddings = noise(CLIPS, 5, seed=2)
    together = heads(tokens, ROWS, project=project, embeddings=embeddings)
    for clip in range(CLIPS):
        rows = slice(clip, clip + 1)
        alone = heads(tokens[rows], ROWS, project=project, embeddings=embeddings[rows])
        for one, other in zip(parts_of(alone), parts_of(together[rows]), strict=True):
            torch.testing.assert_close(one, other)


def test_mixed_scales_depend_on_the_other_clips():
    heads, tokens = seeded_heads(multi_scale=True, mix_scales=True), tokens_like()
    assert not torch.allclose(heads(tokens[:1], ROWS).clip, heads(tokens, ROWS).clip[:1])


def test_embeddings_are_projected_once_whatever_the_sizes():
    heads, embeddings = seeded_heads(embedding_dim=5), noise(CLIPS, 5)
    features = heads(tokens_like(), ROWS, embeddings=embeddings)
    assert features.semantics[0] is features.semantics[1]
    naive = [naive_activate(naive_affine(heads.semantic_linear, e), heads.semantic_norm) for e in embeddings]
    torch.testing.assert_close(features.semantics[0], torch.stack(naive))


def test_without_temporal_projection_only_the_norm_is_left():
    heads = seeded_heads(tuple_sizes=(2,), temporal_projection=False)
    assert "temporal_linear.weight" not in heads.state_dict()
    u = naive_affine(heads.tuple_linear["2"], torch.cat(list(tokens_like()[0, :2].mean(dim=1))))
    features = heads(tokens_like(), ROWS)
    torch.testing.assert_close(features.tuples[0][0, 0], naive_activate(u, heads.temporal_norm))


# --- ClipFeatures ---------------------------------------------------------------------------------------------------


def parts_of(features: ClipFeatures) -> list[Tensor]:
    return [*features.patches, *features.tuples, features.clip, *(features.semantics or ())]


def test_features_of_some_clips():
    features = ClipFeatures((unit(5, 2, 3, 7),), (unit(5, 1, 7),), noise(5, 7), (noise(5, 7, seed=1),))
    assert len(features) == 5
    for index, clips in ((slice(1, 3), [1, 2]), (torch.tensor([4, 0]), [4, 0])):
        chosen = features[index]
        assert len(chosen) == 2
        for part, whole in zip(parts_of(chosen), parts_of(features), strict=True):
            assert torch.equal(part, whole[clips])
    assert ClipFeatures((unit(5, 2, 3, 7),), (unit(5, 1, 7),), noise(5, 7))[:2].semantics is None


def test_a_tensor_that_serves_several_sizes_is_mapped_once_and_stays_one():
    patches, names = unit(5, 2, 3, 7), noise(5, 7, seed=1)
    features = ClipFeatures((patches, patches), (unit(5, 1, 7), unit(5, 4, 7)), noise(5, 7), (names, names))
    passed = []

    def double(tensor: Tensor) -> Tensor:
        passed.append(tensor)
        return 2 * tensor

    doubled = features.map(double)
    assert len(passed) == 5
    assert doubled.patches[0] is doubled.patches[1] and doubled.semantics[0] is doubled.semantics[1]
    for part, whole in zip(parts_of(doubled), parts_of(features), strict=True):
        assert torch.equal(part, 2 * whole)


def test_parts_are_concatenated_to_the_whole():
    patches = unit(5, 2, 3, 7)
    features = ClipFeatures(
        (patches, patches), (unit(5, 1, 7), unit(5, 4, 7)), noise(5, 7), (noise(5, 7, seed=1), noise(5, 7, seed=2))
    )
    joined = concatenate([features[:2], features[2:3], features[3:]])
    assert joined.patches[0] is joined.patches[1]
    for part, whole in zip(parts_of(joined), parts_of(features), strict=True):
        assert torch.equal(part, whole)


# --- the whole model ------------------------------------------------------------------------------------------------


def test_logits_come_from_the_mean_over_all_tokens():
    model = tiny_model().double().eval()
    features, logits = model(pixels())
    tokens, rows = model.tokens(pixels())
    assert (rows, tokens.shape) == (ROWS, (CLIPS, FRAMES, ROWS * COLUMNS, DIM))
    for clip in range(CLIPS):
        mean = sum(token for frame in tokens[clip] for token in frame) / (FRAMES * ROWS * COLUMNS)
        torch.testing.assert_close(logits[clip], naive_affine(model.classifier, mean))
    for one, other in zip(parts_of(features), parts_of(model.heads(tokens, rows)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("pooling", "places"), [("frames", FRAMES), ("patches", FRAMES * ROWS * COLUMNS)])
def test_tokens_side_by_side_keep_their_places_and_are_not_projected(pooling, places):
    model = tiny_model(global_pooling=pooling).eval()
    tokens, rows = model.tokens(pixels())
    clips = model.heads(tokens, rows).clip
    assert clips.shape == (CLIPS, places * DIM)
    assert torch.equal(clips, model.heads(tokens, rows, project=False).clip)
    for clip in range(CLIPS):
        parts = [token for frame in tokens[clip] for token in (frame if pooling == "patches" else [frame.mean(dim=0)])]
        torch.testing.assert_close(clips[clip], naive_normalise(torch.cat(parts)))
    backwards = model.heads(tokens.flip(1), rows).clip
    assert not torch.allclose(backwards, clips) and torch.allclose(
        tiny_model().heads(tokens.flip(1), rows).clip, tiny_model().heads(tokens, rows).clip
    )


def test_grids_are_each_frame_by_itself_in_its_place():
    model = tiny_model()
    grids = model.grids(pixels())
    assert grids.shape == (CLIPS, FRAMES, CHANNELS, ROWS, COLUMNS)
    for clip in range(CLIPS):
        for frame in range(FRAMES):
            torch.testing.assert_close(grids[clip, frame], model.backbone(pixels()[clip, frame : frame + 1])[0])


def test_cached_grids_give_what_their_frames_give():
    model = tiny_model(frozen_stages=None).eval()
    grids = model.grids(pixels())
    (from_frames, first), (from_grids, second) = model(pixels()), model(grids)
    assert torch.equal(first, second)
    assert torch.equal(from_frames.clip, from_grids.clip)
    _, from_half = model(grids.half())
    torch.testing.assert_close(from_half, first, rtol=0, atol=0.01)


def test_the_model_takes_embeddings():
    model = tiny_model(embedding_dim=5)
    features, _ = model(pixels(), torch.ones(CLIPS, 5))
    assert [e.shape for e in features.semantics] == [(CLIPS, DIM)] * 2


def test_a_frozen_backbone_has_no_gradients_and_stays_in_eval_mode():
    model = tiny_model(batch_norm_layer=True, frozen_stages=None).train()
    assert model.encoder.training and not any(layer.training for layer in model.backbone.body)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    features, logits = model(pixels())
    assert not model.grids(pixels()).requires_grad
    (features.clip.sum() + logits.sum()).backward()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.backbone.parameters())
    assert model.encoder.input_proj.weight.grad.abs().max() > 0
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())


def test_frozen_batch_norm_keeps_its_statistics_and_still_learns():
    model = tiny_model(batch_norm_layer=True, batch_norm="frozen").train()
    norm = model.backbone.body[1]
    assert not norm.training and model.backbone.body[0].training
    _, logits = model(pixels())
    logits.sum().backward()
    assert norm.running_mean.tolist() == [0.0] * CHANNELS and norm.weight.grad is not None
    model.eval()
    model.train()
    assert not norm.training


def test_trained_batch_norm_follows_its_batches():
    model = tiny_model(batch_norm_layer=True).train()
    model(pixels())
    assert model.backbone.body[1].running_mean.abs().max() > 0
