from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hcl.clips.dataset import Draw
from hcl.clips.episodes import Episodes, sample_episodes
from hcl.evaluation.fusion import drawn_sigmas
from hcl.evaluation.matcher import Defects, Matcher, levels_by_shot, mixed_levels
from hcl.evaluation.scores import Levels, accuracies, fused, look_up, score_pairs
from hcl.models.encoding import encode, features_of
from hcl.training.validation import validate
from tests.hcl.models.test_hcl import ROWS, parts_of, pixels, seeded_heads, tiny_model, tokens_like

MATCHING: dict[str, Any] = {"tuple_sizes": (2, 3), "top_tuples": 3, "top_patches": 4, "zoom_ranks": 2}
LABELS = np.repeat(np.arange(3), 6)
SIGMAS = {"global": 1.0, "temporal": 0.5, "spatial": 0.5}


class Clips(Dataset):
    """Given clips; remembers which were read."""

    def __init__(self, clips: Tensor):
        self.clips = clips
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, draw: Draw | int) -> Tensor:
        index = draw.clip if isinstance(draw, Draw) else draw
        self.read.append(index)
        return self.clips[index]


def clips_of_classes() -> Clips:
    """Clips of class 0 dark, of class 2 bright."""
    clips = pixels(len(LABELS)).float() * 0.5 + torch.from_numpy(LABELS).view(-1, 1, 1, 1, 1) * 60
    return Clips(clips.to(torch.uint8))


def episode_levels(heads, tokens: Tensor, rows: int, episodes: Episodes, matcher: Matcher, **names: Any) -> Levels:
    return levels_by_shot(heads, tokens, rows, [episodes], matcher, **names)[0]


def assert_same_levels(one: Levels, other: Levels, **tolerance: float) -> None:
    for first, second in zip(one, other, strict=True):
        np.testing.assert_allclose(first, second, **({"rtol": 1e-9, "atol": 1e-12} | tolerance))


# --- encoding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_encoded_clips_are_the_tokens_of_each_in_the_order_asked_for(batch_size):
    model, dataset = tiny_model(dropout=0.5).train(), Clips(pixels(5))
    tokens, rows = encode(model, dataset, [4, 0, 3, 1], batch_size=batch_size)
    assert rows == ROWS and dataset.read == [4, 0, 3, 1]
    model.eval()
    for place, clip in enumerate([4, 0, 3, 1]):
        torch.testing.assert_close(tokens[place], model.tokens(dataset.clips[clip : clip + 1])[0][0])
    assert tokens.dtype == torch.float32 and not tokens.requires_grad


@pytest.mark.parametrize("settings", [{}, {"multi_scale": True}, {"reproject_per_size": True}], ids=str)
@pytest.mark.parametrize("project", [True, False])
def test_features_a_few_clips_at_a_time_are_those_of_all_at_once(project, settings, monkeypatch):
    monkeypatch.setattr("hcl.models.encoding._HEAD_CLIPS", 2)  # does not divide the 5 clips
    heads, tokens = seeded_heads(**settings), tokens_like(5)
    ours, whole = features_of(heads, tokens, ROWS, project=project), heads(tokens, ROWS, project=project)
    for one, other in zip(parts_of(ours), parts_of(whole), strict=True):
        torch.testing.assert_close(one, other.detach())
    if "reproject_per_size" not in settings:
        assert ours.patches[0] is ours.patches[1]  # once in memory


def test_projected_test_features_are_the_training_features():
    model, dataset = tiny_model().eval(), Clips(pixels(5))
    training, _ = model(dataset.clips)
    at_test = features_of(model.heads, *encode(model, dataset, range(5)), project=True)
    for one, other in zip(parts_of(at_test), parts_of(training), strict=True):
        torch.testing.assert_close(one, other.detach())
    released = features_of(model.heads, *encode(model, dataset, range(5)), project=False)
    assert not torch.allclose(released.clip, at_test.clip, atol=1e-3)


# --- episodes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "auto"])
@pytest.mark.parametrize("shot", [1, 2, 4])
def test_both_ways_to_the_levels_agree(shot, metric, monkeypatch):
    heads, tokens = seeded_heads(), tokens_like(len(LABELS))
    matcher = Matcher(metric, True, MATCHING)
    looked_up: list[int] = []

    def watched(table, episodes, **arguments):
        looked_up.append(len(episodes))
        return look_up(table, episodes, **arguments)

    monkeypatch.setattr("hcl.evaluation.matcher.look_up", watched)
    many = sample_episodes(LABELS, way=3, shot=shot, queries=2, episodes=20, seed=0)
    few = sample_episodes(LABELS, way=3, shot=shot, queries=2, episodes=2, seed=0)
    by_table = episode_levels(heads, tokens, ROWS, many, matcher)
    assert looked_up == [20]
    directly = episode_levels(heads, tokens, ROWS, few, matcher)
    assert looked_up == [20]
    assert_same_levels(Levels(*(level[:2] for level in by_table)), directly)


@pytest.mark.parametrize("multi_scale", [False, True])
@pytest.mark.parametrize("shot", [1, 3])
def test_without_defects_cached_tokens_give_what_the_table_gives(shot, multi_scale):
    heads, tokens = seeded_heads(multi_scale=multi_scale), tokens_like(len(LABELS))
    episodes = sample_episodes(LABELS, way=2, shot=shot, queries=3, episodes=3, seed=1)
    mixed = mixed_levels(heads, tokens, ROWS, episodes, Matcher("auto", False, MATCHING))
    features = features_of(heads, tokens, ROWS, project=False)
    table = {name: value.numpy() for name, value in score_pairs(features, features, **MATCHING).items()}
    assert_same_levels(mixed, look_up(table, episodes, metric="auto", tuple_sizes=(2, 3)))


def test_each_defect_has_its_shots_and_its_reason():
    assert Defects().reason(1) is None and Defects().reason(5) is None
    assert "deviation 3" in Defects(mix_scales=True).reason(1)
    assert Defects(swap_shot_axes=True).reason(1) is None
    assert "deviation 5" in Defects(swap_shot_axes=True).reason(2)
    assert "deviation 7" in Defects(misplaced_semantics=True).reason(1)


def test_defects_go_episode_by_episode_and_change_the_levels():
    episodes = sample_episodes(LABELS, way=3, shot=2, queries=2, episodes=20, seed=0)
    tokens = tokens_like(len(LABELS))
    right = episode_levels(seeded_heads(multi_scale=True), tokens, ROWS, episodes, Matcher("auto", True, MATCHING))
    for heads, defects, level in (
        (seeded_heads(multi_scale=True, mix_scales=True), Defects(mix_scales=True), "global_"),
        (seeded_heads(multi_scale=True), Defects(swap_shot_axes=True), "temporal"),
    ):
        matcher = Matcher("auto", True, MATCHING, defects)
        wrong = episode_levels(heads, tokens, ROWS, episodes, matcher)
        expected = mixed_levels(heads, tokens, ROWS, episodes, matcher)
        assert_same_levels(wrong, expected)
        assert not np.allclose(getattr(wrong, level), getattr(right, level))


# --- validation -----------------------------------------------------------------------------------------------------


def test_validation_is_the_accuracy_of_the_episodes_and_reads_each_clip_once():
    model, dataset = tiny_model().eval(), clips_of_classes()
    episodes = sample_episodes(LABELS, way=3, shot=1, queries=2, episodes=3, seed=5)
    matcher = Matcher("auto", True, MATCHING)
    [ours] = validate(model, dataset, [episodes], matcher, sigmas=SIGMAS).accuracies
    needed = np.unique(np.concatenate([episodes.support.ravel(), episodes.query.ravel()]))
    assert sorted(dataset.read) == needed.tolist()
    tokens, rows = encode(model, dataset, range(len(LABELS)))
    levels = episode_levels(model.heads, tokens, rows, episodes, matcher)
    assert ours.tolist() == accuracies(fused(levels, SIGMAS), 2).tolist()
    assert ours.mean() > 0.5  # brightness tells the classes apart


def test_validation_of_several_shots_is_that_of_each_and_reads_each_clip_once():
    model, dataset, matcher = tiny_model().eval(), clips_of_classes(), Matcher("auto", True, MATCHING)
    lists = [sample_episodes(LABELS, way=3, shot=shot, queries=2, episodes=9, seed=5) for shot in (1, 3)]
    both = validate(model, dataset, lists, matcher, sigmas=SIGMAS).accuracies
    assert len(dataset.read) == len(set(dataset.read))
    for one, episodes in zip(both, lists, strict=True):
        assert one.tolist() == validate(model, dataset, [episodes], matcher, sigmas=SIGMAS).accuracies[0].tolist()


@pytest.mark.parametrize(("over_shots", "triples"), [("max", 0.5), ("mean", 0.9)])
def test_validation_combines_shots_and_sizes_as_the_evaluation_does(over_shots, triples):
    heads, tokens = seeded_heads(), tokens_like(len(LABELS))
    few = sample_episodes(LABELS, way=3, shot=3, queries=2, episodes=2, seed=0)
    matcher = Matcher("auto", True, MATCHING, triples=triples, over_shots=over_shots)
    features = features_of(heads, tokens, ROWS, project=True)
    table = {name: value.numpy() for name, value in score_pairs(features, features, **MATCHING).items()}
    asked = {"metric": "auto", "tuple_sizes": (2, 3), "triples": triples, "over_shots": over_shots}
    assert_same_levels(episode_levels(heads, tokens, ROWS, few, matcher), look_up(table, few, **asked))
    plain = episode_levels(heads, tokens, ROWS, few, Matcher("auto", True, MATCHING))
    assert not np.allclose(plain.temporal, look_up(table, few, **asked).temporal)


def test_validation_tells_the_best_of_the_tried_weights():
    model, dataset, matcher = tiny_model().eval(), clips_of_classes(), Matcher("auto", True, MATCHING)
    lists = [sample_episodes(LABELS, way=3, shot=shot, queries=2, episodes=20, seed=5) for shot in (1, 2)]
    tried = drawn_sigmas(12, [SIGMAS])
    assert len(tried) == 12 and tried[0] == SIGMAS
    assert {sigmas["global"] for sigmas in tried[1:]} == {1.0}
    assert all(0 <= sigma <= 4 for sigmas in tried for sigma in sigmas.values())
    found = validate(model, dataset, lists, matcher, sigmas=SIGMAS, candidates=tried)
    values = []
    for sigmas in tried:
        alone = validate(model, dataset, lists, matcher, sigmas=sigmas).accuracies
        values.append(np.mean([one.mean() for one in alone]))
    assert found.fused_accuracy == pytest.approx(max(values))
    assert values[tried.index(found.sigmas)] == pytest.approx(max(values))
    assert len(set(values)) > 1


# --- semantics ------------------------------------------------------------------------------------------------------

EMBEDDING = 5


def named_clips() -> tuple[Any, Tensor, Tensor]:
    """Heads with semantics, the tokens of all clips, and the embedding of each clip's class name."""
    heads = seeded_heads(embedding_dim=EMBEDDING, tuple_sizes=(2,))
    of_class = torch.randn(3, EMBEDDING, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return heads, tokens_like(len(LABELS)).detach(), of_class[torch.from_numpy(LABELS)]


SEMANTIC = Matcher("cosine", True, MATCHING | {"tuple_sizes": (2,)})


def test_features_a_few_clips_at_a_time_carry_each_clips_own_name(monkeypatch):
    monkeypatch.setattr("hcl.models.encoding._HEAD_CLIPS", 4)
    heads, tokens, names = named_clips()
    ours = features_of(heads, tokens, ROWS, project=True, embeddings=names)
    whole = heads(tokens, ROWS, embeddings=names)
    torch.testing.assert_close(ours.semantics[0], whole.semantics[0].detach())


@pytest.mark.parametrize("episodes_count", [1, 400])  # episode by episode, and from a table of all pairs
def test_names_change_the_spatial_level_and_a_querys_own_name_changes_nothing(episodes_count):
    """Only the support's class names are known at test."""
    heads, tokens, names = named_clips()
    episodes = sample_episodes(LABELS, way=3, shot=1, queries=2, episodes=episodes_count, seed=0)
    plain = episode_levels(heads, tokens, ROWS, episodes, SEMANTIC)
    named = episode_levels(heads, tokens, ROWS, episodes, SEMANTIC, embeddings=names)
    assert not np.allclose(named.spatial, plain.spatial)
    assert_same_levels(Levels(named.global_, named.temporal, plain.spatial), plain)
    if episodes_count > 1:
        return
    unknown = names.clone()
    unknown[torch.from_numpy(episodes.query.ravel())] = 1e3  # had it been read, the weights would be others
    assert_same_levels(episode_levels(heads, tokens, ROWS, episodes, SEMANTIC, embeddings=unknown), named)


def test_the_table_and_the_episodes_weigh_pairs_alike():
    heads, tokens, names = named_clips()
    episodes = sample_episodes(LABELS, way=3, shot=2, queries=2, episodes=400, seed=0)
    by_table = episode_levels(heads, tokens, ROWS, episodes, SEMANTIC, embeddings=names)
    one_by_one = mixed_levels(heads, tokens, ROWS, episodes, SEMANTIC, embeddings=names)
    assert_same_levels(by_table, one_by_one)


def test_the_releases_defect_reads_the_names_of_queries():
    """Deviation 7: with more queries than supports, the batch rows that weigh them are queries themselves."""
    heads, tokens, names = named_clips()
    episodes = sample_episodes(LABELS, way=3, shot=1, queries=2, episodes=1, seed=0)
    leaking = replace(SEMANTIC, defects=Defects(misplaced_semantics=True))
    released = episode_levels(heads, tokens, ROWS, episodes, leaking, embeddings=names)
    other = names.clone()
    other[torch.from_numpy(episodes.query.ravel())] = -names[torch.from_numpy(episodes.query.ravel())]
    assert not np.allclose(
        episode_levels(heads, tokens, ROWS, episodes, leaking, embeddings=other).spatial, released.spatial
    )


def test_validation_hands_each_clip_its_own_name():
    model = tiny_model(embedding_dim=EMBEDDING, tuple_sizes=(2,)).eval()
    names = torch.randn(3, EMBEDDING, generator=torch.Generator().manual_seed(0))[torch.from_numpy(LABELS)]
    dataset = Clips(pixels(len(LABELS)))
    episodes = sample_episodes(LABELS, way=2, shot=1, queries=2, episodes=8, seed=1)  # not every clip is needed
    tokens, rows = encode(model, dataset, range(len(LABELS)))
    levels = episode_levels(model.heads, tokens, rows, episodes, SEMANTIC, embeddings=names)
    [ours] = validate(model, dataset, [episodes], SEMANTIC, sigmas=SIGMAS, embeddings=names).accuracies
    assert ours.tolist() == accuracies(fused(levels, SIGMAS), 2).tolist()
