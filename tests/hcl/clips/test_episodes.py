from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from hcl.clips.episodes import Episodes, pair_batch, sample_episodes, with_absent_classes
from hcl.errors import EpisodeError

SIZES = (11, 7, 13, 8, 9)  # clips of each class
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(len(SIZES)), SIZES))
NAMES = ["fold", "jump", "lift", "pour", "throw"]


def draw(shot: int = 2, *, episodes: int = 300, seed: int = 0, way: int = 3, queries: int = 2, **settings) -> Episodes:
    return sample_episodes(LABELS, way=way, shot=shot, queries=queries, episodes=episodes, seed=seed, **settings)


# --- episodes -------------------------------------------------------------------------------------------------------


def test_shapes_and_counts():
    drawn = draw()
    assert (len(drawn), drawn.way, drawn.shot) == (300, 3, 2)
    assert drawn.classes.shape == (300, 3)
    assert drawn.support.shape == (300, 3, 2) and drawn.query.shape == (300, 3, 2)


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("shot", [1, 5])
def test_every_clip_belongs_to_the_class_of_its_row(shot, overlapping):
    drawn = draw(shot, overlapping=overlapping)
    assert (LABELS[drawn.support] == drawn.classes[..., None]).all()
    assert (LABELS[drawn.query] == drawn.classes[..., None]).all()
    assert all(len(set(classes)) == 3 for classes in drawn.classes)


@pytest.mark.parametrize("shot", [1, 2, 5])
def test_support_and_query_never_meet_and_nothing_repeats(shot):
    for support, query in zip(draw(shot).support, draw(shot).query, strict=True):
        clips = np.concatenate([support.ravel(), query.ravel()])
        assert len(set(clips)) == len(clips)


def test_more_shots_ask_the_same_questions_with_more_support():
    drawn = [draw(shot) for shot in (1, 2, 3, 4, 5)]
    for fewer, more in pairwise(drawn):
        assert np.array_equal(fewer.classes, more.classes)
        assert np.array_equal(fewer.query, more.query)
        assert np.array_equal(fewer.support, more.support[..., :-1])


@pytest.mark.parametrize("overlapping", [False, True])
def test_an_episode_does_not_depend_on_how_many_are_drawn(overlapping, monkeypatch):
    monkeypatch.setattr("hcl.clips.episodes._BLOCK", 16)
    many = draw(episodes=50, overlapping=overlapping)
    for count in (1, 15, 16, 17, 40):
        few = draw(episodes=count, overlapping=overlapping)
        assert len(few) == count
        for name in ("classes", "support", "query"):
            assert np.array_equal(getattr(few, name), getattr(many, name)[:count])
    assert len({tuple(row.ravel()) for row in many.query}) == 50  # the blocks are not copies of each other


def test_the_first_episode_stays_what_it_was():
    first = sample_episodes(np.repeat(np.arange(4), 5), way=3, shot=2, queries=2, episodes=1, seed=7)
    assert first.classes.tolist() == [[3, 0, 2]]
    assert first.support.tolist() == [[[17, 16], [3, 0], [14, 10]]]
    assert first.query.tolist() == [[[19, 15], [4, 2], [13, 11]]]


def test_seeds_name_episodes():
    assert draw(seed=3).digest() == draw(seed=3).digest()
    assert len({draw(seed=seed).digest() for seed in range(5)}) == 5
    assert draw(1).digest() != draw(2).digest()
    assert draw(episodes=299).digest() != draw(episodes=300).digest()


def test_the_digest_tells_how_clips_are_divided():
    clips = np.arange(12).reshape(1, 2, 6)
    one = Episodes(np.zeros((1, 2), dtype=np.int64), clips[..., :2], clips[..., 2:])
    other = Episodes(np.zeros((1, 2), dtype=np.int64), clips[..., :4], clips[..., 4:])
    assert one.digest() != other.digest()


def test_classes_and_clips_are_drawn_uniformly():
    drawn = draw(1, episodes=4000)
    counts = np.bincount(drawn.classes.ravel(), minlength=5) / 4000
    np.testing.assert_allclose(counts, 3 / 5, atol=0.04)  # 5 deviations of sqrt(.24 / 4000)
    first = np.bincount(drawn.classes[:, 0], minlength=5) / 4000
    np.testing.assert_allclose(first, 1 / 5, atol=0.035)
    for index, size in enumerate(SIZES):
        queried = drawn.query[drawn.classes == index]
        shares = np.bincount(queried.ravel(), minlength=len(LABELS))[index == LABELS] / len(queried)
        np.testing.assert_allclose(shares, 2 / size, atol=0.06)


def test_a_class_with_exactly_enough_clips_is_used_up():
    labels = np.repeat([0, 1], 5)
    drawn = sample_episodes(labels, way=2, shot=3, queries=2, episodes=20, seed=0)
    for support, query in zip(drawn.support, drawn.query, strict=True):
        assert sorted(np.concatenate([support, query], axis=1).ravel().tolist()) == list(range(10))


def test_an_impossible_episode_names_the_class_and_the_counts():
    with pytest.raises(EpisodeError, match="class 'jump' has 7 clips, an episode needs 8 of each class") as caught:
        draw(6, class_names=NAMES)
    assert "evaluation.queries" in caught.value.remedy
    with pytest.raises(EpisodeError, match="class 'number 1' has 7 clips"):
        draw(6)
    with pytest.raises(EpisodeError, match="'jump' has 7 clips.*too few too: 'pour', 'throw'"):
        draw(8, class_names=NAMES)
    with pytest.raises(EpisodeError, match="6 classes cannot be drawn from 5 classes") as caught:
        draw(way=6)
    assert caught.value.where == "evaluation.way" and "at most 5" in caught.value.remedy


def test_a_class_without_any_clip_is_named():
    with pytest.raises(EpisodeError, match="class 'b' has 0 clips"):
        sample_episodes(np.repeat([0, 2], 5), way=2, shot=1, queries=1, episodes=1, seed=0, class_names=["a", "b", "c"])


def test_a_partition_without_clips_is_refused():
    with pytest.raises(EpisodeError, match="2 classes cannot be drawn from 0 classes"):
        sample_episodes(np.zeros(0, dtype=np.int64), way=2, shot=1, queries=1, episodes=1, seed=0)


# --- as released ----------------------------------------------------------------------------------------------------


def test_overlapping_episodes_never_draw_class_0_and_sometimes_overlap():
    drawn = draw(3, overlapping=True)
    assert set(drawn.classes.ravel()) == {1, 2, 3, 4}
    pairs = list(zip(drawn.support.reshape(-1, 3), drawn.query.reshape(-1, 2), strict=True))
    overlap = [bool(np.intersect1d(support, query).size) for support, query in pairs]
    assert 0.2 < np.mean(overlap) < 0.8  # a query is among 3 draws of 7 to 13 clips with probability 0.21 to 0.37
    assert any(len(set(query)) < 2 for _, query in pairs)  # queries repeat
    assert any(len(set(support)) < 3 for support, _ in pairs)  # and so do support clips


def test_overlapping_episodes_have_one_class_less_and_need_one_clip_of_each():
    assert draw(20, overlapping=True).shot == 20  # more than any class has
    with pytest.raises(EpisodeError, match="5 classes cannot be drawn from 4 classes"):
        draw(way=5, overlapping=True)
    with pytest.raises(EpisodeError, match="class 'number 2' has 0 clips, an episode needs 1"):
        sample_episodes(np.array([0, 1, 3]), way=2, shot=1, queries=1, episodes=1, seed=0, overlapping=True)


@pytest.mark.parametrize(("shot", "with_own_support", "with_repeated_support"), [(1, 0.9995, 0.0), (5, 1.0, 1.0)])
def test_overlapping_episodes_have_the_structure_of_the_recorded_ones(shot, with_own_support, with_repeated_support):
    """Compare with 2,000 episodes recorded from the released sampler on seven classes, some with too few clips."""
    labels = np.repeat(np.arange(7), (5, 7, 2, 9, 4, 6, 3))
    drawn = sample_episodes(labels, way=5, shot=shot, queries=5, episodes=2000, seed=0, overlapping=True)
    assert set(drawn.classes.ravel()) == {1, 2, 3, 4, 5, 6}
    support, query = drawn.support.reshape(2000, -1), drawn.query.reshape(2000, -1)
    shared = np.mean([bool(np.intersect1d(one, other).size) for one, other in zip(support, query, strict=True)])
    assert shared == pytest.approx(with_own_support, abs=0.005)
    assert np.mean([len(set(clips)) < len(clips) for clips in support]) == with_repeated_support
    assert np.mean([len(set(clips)) < len(clips) for clips in query]) == 1.0


def test_overlapping_support_and_queries_are_drawn_uniformly():
    drawn = draw(1, overlapping=True, episodes=4000)
    for part in (drawn.support, drawn.query):
        for index in range(1, len(SIZES)):
            clips = part[drawn.classes == index]
            shares = np.bincount(clips.ravel(), minlength=len(LABELS))[index == LABELS] / clips.size
            np.testing.assert_allclose(shares, 1 / SIZES[index], atol=0.03)


def test_overlapping_shots_are_nested_too():
    fewer, more = draw(2, overlapping=True), draw(3, overlapping=True)
    assert np.array_equal(fewer.classes, more.classes)
    assert np.array_equal(fewer.query, more.query)
    assert np.array_equal(fewer.support, more.support[..., :2])


# --- pair batches ---------------------------------------------------------------------------------------------------


def batch(classes_per_batch: int = 4, *, seed: int = 0, epoch: int = 0, step: int = 0, **settings) -> np.ndarray:
    return pair_batch(LABELS, classes_per_batch=classes_per_batch, seed=seed, epoch=epoch, step=step, **settings)


def test_a_pair_batch_is_two_clips_of_each_of_its_classes_side_by_side():
    for step in range(50):
        pairs = batch(step=step).reshape(4, 2)
        assert (pairs[:, 0] != pairs[:, 1]).all()
        assert (LABELS[pairs[:, 0]] == LABELS[pairs[:, 1]]).all()
        assert len(set(LABELS[pairs[:, 0]])) == 4


def test_a_pair_batch_is_a_function_of_seed_epoch_and_step():
    assert np.array_equal(batch(seed=1, epoch=2, step=3), batch(seed=1, epoch=2, step=3))
    names = [(seed, epoch, step) for seed in range(3) for epoch in range(3) for step in range(3)]
    drawn = {tuple(batch(seed=seed, epoch=epoch, step=step)) for seed, epoch, step in names}
    assert len(drawn) == len(names)


def test_every_class_and_every_clip_is_trained_on():
    drawn = np.concatenate([batch(2, step=step) for step in range(500)])
    assert set(drawn) == set(range(len(LABELS)))
    counts = np.bincount(LABELS[drawn], minlength=5) / (2 * 500)
    np.testing.assert_allclose(counts, 2 / 5, atol=0.11)


def test_an_impossible_pair_batch_names_what_is_missing():
    with pytest.raises(EpisodeError, match="6 classes cannot be drawn from 5 classes") as caught:
        batch(6)
    assert caught.value.where == "train.classes_per_batch"
    with pytest.raises(EpisodeError, match="class 'b' has 1 clips, a pair batch needs 2"):
        pair_batch(np.array([0, 0, 1]), classes_per_batch=1, seed=0, epoch=0, step=0, class_names=["a", "b"])


def test_queries_of_absent_classes_stand_in_the_places_of_queries() -> None:
    labels = np.repeat(np.arange(5), 6)
    drawn = sample_episodes(labels, way=5, shot=2, queries=3, episodes=7, seed=1)
    present, absent = with_absent_classes(drawn, 3)
    assert present.way == absent.way == 3 and absent.n_queries == 2  # six queries of two classes in three rows
    np.testing.assert_array_equal(present.support, absent.support)
    np.testing.assert_array_equal(present.query, drawn.query[:, :3])
    for episode in range(7):
        others = set(drawn.query[episode, 3:].ravel().tolist())
        assert set(absent.query[episode].ravel().tolist()) == others
        assert not set(labels[absent.query[episode]].ravel()) & set(drawn.classes[episode, :3])
    _, fewer = with_absent_classes(sample_episodes(labels, way=4, shot=1, queries=1, episodes=2, seed=0), 3)
    assert fewer.query.shape == (2, 3, 1) and (fewer.query == fewer.query[:, :1]).all()
    with pytest.raises(ValueError, match="leaves no class"):
        with_absent_classes(drawn, 5)
