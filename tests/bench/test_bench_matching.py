"""Speed of matching, as ratios measured in one run: `make bench` prints them."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from hcl.episodes import sample_episodes
from hcl.evaluation import episode_levels
from hcl.losses import contrastive_terms, neighbouring_pairs
from hcl.model import MatchingHeads
from hcl.scores import look_up, score_episode, score_pairs


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The fastest of some runs, after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def tell(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n  {line}")


def test_training_terms_against_the_matrix_products(capsys):
    """48 clips of 8 x 49 patches at d 1152, forward and backward; the products are what no program can leave out."""
    clips, dim = 48, 1152
    heads = MatchingHeads(dim)
    tokens = torch.randn(clips, 8, 49, dim, requires_grad=True)
    pairs = neighbouring_pairs(0, clips)

    def terms() -> None:
        features = heads(tokens, rows=7)
        sum(contrastive_terms(features, features, pairs, chunk_size=8).values()).backward()

    x = torch.randn(clips * 8 * 49, dim)
    weight = torch.randn(dim, dim)
    q, s = torch.randn(clips, 98, dim), torch.randn(clips, dim, 98)

    def products() -> None:
        for _ in range(3):  # spatial_linear: forward, and backward to its input and its weight
            x @ weight
        for _ in range(clips):  # one pair of tuples for each pair of clips
            torch.bmm(q, s)

    ours, floor = seconds(terms, repeats=1), seconds(products)
    tell(capsys, f"training terms: {ours:.2f} s, matrix products alone {floor:.2f} s, ratio {ours / floor:.1f}")


@pytest.mark.parametrize("shot", [1, 5])
def test_score_table_against_episode_by_episode(shot, capsys):
    """The same episodes and levels from one score table and one by one, both from cached tokens; d 192, 5 x 5."""
    heads, tokens = MatchingHeads(192), torch.randn(120, 8, 25, 192)
    labels = np.repeat(np.arange(10), 12)
    episodes = sample_episodes(labels, way=5, shot=shot, queries=5, episodes=1000, seed=0)
    few = sample_episodes(labels, way=5, shot=shot, queries=5, episodes=20, seed=0)
    matching = {"tuple_sizes": (2,), "top_patches": 20}

    def table() -> None:
        episode_levels(heads, tokens, 5, episodes, metric="auto", project=True, **matching)

    @torch.no_grad()
    def one_by_one() -> None:
        for support, query in zip(few.support, few.query, strict=True):
            clips = torch.from_numpy(np.concatenate([support.ravel(), query.ravel()]))
            score_episode(heads(tokens[clips], 5), way=5, shot=shot, metric="auto", **matching)

    ours, naive = seconds(table, repeats=1), seconds(one_by_one, repeats=1) * len(episodes) / len(few)
    tell(capsys, f"1,000 {shot}-shot episodes: {ours:.1f} s by table, {naive:.0f} s one by one, {naive / ours:.0f}x")


def test_looking_up(capsys):
    """10,000 episodes of each shot on a ready table of 240 clips."""
    heads, tokens = MatchingHeads(32), torch.randn(240, 4, 4, 32)
    with torch.no_grad():
        features = heads(tokens, rows=2)
        table = {name: x.numpy() for name, x in score_pairs(features, features, tuple_sizes=(2,)).items()}
    labels = np.repeat(np.arange(24), 10)
    lists = [
        sample_episodes(labels, way=5, shot=shot, queries=5, episodes=1000, seed=block)
        for shot in range(1, 6)
        for block in range(10)
    ]
    took = seconds(lambda: [look_up(table, one, metric="auto", tuple_sizes=(2,)) for one in lists], repeats=1)
    tell(capsys, f"10,000 episodes x 5 shots looked up in {took:.1f} s")
