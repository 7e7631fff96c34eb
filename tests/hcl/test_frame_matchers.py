"""Looked-up scores against the same episodes scored one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hcl.baselines import MatchingNet, cosine_scores, prototype_scores
from hcl.episodes import sample_episodes
from hcl.frame_matchers import FRAME_MATCHERS, is_pairwise, look_up_matcher, matching_scores, score_pairs_of_frames

FRAMES = torch.randn(21, 4, 8, generator=torch.Generator().manual_seed(0))
LABELS = np.repeat(np.arange(3), 7)


@pytest.mark.parametrize("shot", [1, 3])
@pytest.mark.parametrize("matcher", [name for name in FRAME_MATCHERS if is_pairwise(name)])
def test_a_table_answers_as_the_episode_would(matcher, shot):
    episodes = sample_episodes(LABELS, way=2, shot=shot, queries=3, episodes=11, seed=1)
    found = look_up_matcher(score_pairs_of_frames(FRAMES, FRAMES, matcher).numpy(), episodes, matcher)
    clips = FRAMES.mean(dim=1)
    for scores, support, query in zip(found, episodes.support, episodes.query, strict=True):
        q, s = torch.from_numpy(query.ravel()), torch.from_numpy(support)
        if matcher == "protonet":
            expected = prototype_scores(clips[q], clips[s])
        elif matcher == "cosine":
            expected = cosine_scores(clips[q], clips[s])
        else:
            pairs = [[score_pairs_of_frames(FRAMES[q], FRAMES[one], matcher).mean(dim=1)] for one in s]
            expected = torch.stack([column[0] for column in pairs], dim=1)
        np.testing.assert_allclose(scores, expected.numpy(), atol=1e-5)


def test_matching_net_reads_each_episode():
    episodes = sample_episodes(LABELS, way=2, shot=2, queries=3, episodes=4, seed=1)
    found = matching_scores(FRAMES, episodes, seed=5)
    torch.manual_seed(5)
    network, clips = MatchingNet(8).eval(), FRAMES.mean(dim=1)
    with torch.no_grad():
        expected = network(clips[episodes.query[2].ravel()], clips[episodes.support[2]])
    np.testing.assert_allclose(found[2], expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
