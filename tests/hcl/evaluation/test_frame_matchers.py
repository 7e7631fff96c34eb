"""Compare looked-up scores with the same episodes scored one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hcl.clips.episodes import sample_episodes
from hcl.evaluation.frame_matchers import FrameMatching, score_pairs_of_frames
from hcl.evaluation.matcher_names import FRAME_MATCHERS
from hcl.evaluation.methods import SCORE
from hcl.models.baselines import MatchingNet, cosine_scores, prototype_scores
from tests.hcl.models.test_hcl import pixels, tiny_model

FRAMES = torch.randn(21, 4, 8, generator=torch.Generator().manual_seed(0))
LABELS = np.repeat(np.arange(3), 7)


@pytest.mark.parametrize("shot", [1, 3])
@pytest.mark.parametrize("matcher", [name for name in FRAME_MATCHERS if FrameMatching(name, 0).reason(1) is None])
def test_a_table_answers_as_the_episode_would(matcher, shot):
    episodes = sample_episodes(LABELS, way=2, shot=shot, queries=3, episodes=11, seed=1)
    method = FrameMatching(matcher, seed=0)
    table = method.pairs({"frames": FRAMES}, {"frames": FRAMES})
    found = method.look_up({name: values.numpy() for name, values in table.items()}, episodes)[SCORE]
    clips = FRAMES.mean(dim=1)
    for scores, support, query in zip(found, episodes.support, episodes.query, strict=True):
        q, s = torch.from_numpy(query.ravel()), torch.from_numpy(support)
        if matcher == "frames-protonet":
            expected = prototype_scores(clips[q], clips[s])
        elif matcher == "frames-cosine":
            expected = cosine_scores(clips[q], clips[s])
        else:
            pairs = [[score_pairs_of_frames(FRAMES[q], FRAMES[one], matcher).mean(dim=1)] for one in s]
            expected = torch.stack([column[0] for column in pairs], dim=1)
        np.testing.assert_allclose(scores, expected.numpy(), atol=1e-5)


def test_matching_net_reads_each_episode():
    episodes = sample_episodes(LABELS, way=2, shot=2, queries=3, episodes=4, seed=1)
    method = FrameMatching("frames-matching", seed=5)
    assert "in order" in method.reason(1)
    found = method.one_by_one(None, lambda clips: {"frames": FRAMES[clips]}, episodes)[SCORE]
    torch.manual_seed(5)
    network, clips = MatchingNet(8).eval(), FRAMES.mean(dim=1)
    with torch.no_grad():
        expected = network(clips[episodes.query[2].ravel()], clips[episodes.support[2]])
    np.testing.assert_allclose(found[2], expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


def test_a_frame_is_the_mean_of_its_tokens():
    model, clips = tiny_model().eval(), pixels(3)
    with torch.no_grad():
        kept = FrameMatching("otam", seed=0).keep(model, clips, None, precision="float32")
        tokens, _ = model.tokens(clips)
    torch.testing.assert_close(kept["frames"], tokens.mean(dim=2))
