"""Check that scores of other methods by a table of pairs equal those episode by episode, and many those of one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hcl.assembly import models
from hcl.assembly.regimes import parts_of
from hcl.clips.episodes import sample_episodes
from hcl.evaluation.head_methods import HeadByPairs
from tests.hcl.training.test_regimes import LABELS, Spots, experiment_of, make

ALWAYS = {"otam": (1, 2), "molo": (1,), "trx": (), "hyrsm": (), "hyrsm++": (), "probe": ()}


@pytest.mark.parametrize("name", ALWAYS)
def test_a_table_of_pairs_gives_the_scores_of_episodes(name: str) -> None:
    _, model = make(name, model__pooled_from="encoder")
    model.eval()
    method = parts_of(experiment_of(name)).method(experiment_of(name))
    clips = torch.stack([Spots()[clip] for clip in range(len(LABELS))])
    kept = method.keep(model, clips, None, precision="float32")
    for shot in (1, 2):
        episodes = sample_episodes(LABELS, way=3, shot=shot, queries=2, episodes=11, seed=4)
        direct = method.one_by_one(model, lambda index: {"pooled": kept["pooled"][index]}, episodes)
        if shot not in ALWAYS[name]:
            assert "at once" in str(method.reason(shot))
            continue
        assert isinstance(method, HeadByPairs) and method.reason(shot) is None
        table = {key: values.numpy() for key, values in method.pairs(kept, kept).items()}
        looked_up = method.fuse(method.look_up(table, episodes))
        np.testing.assert_allclose(looked_up, method.fuse(direct), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*ALWAYS, "protonet", "relation"])
def test_many_episodes_at_once_score_as_one_at_a_time(name: str) -> None:
    _, model = make(name, model__pooled_from="encoder")
    model.eval()
    with torch.no_grad():
        pooled, _ = model.tokens(torch.stack([Spots()[clip] for clip in range(10)]))
        episodes = torch.stack(
            [pooled[torch.randperm(10, generator=torch.Generator().manual_seed(n))] for n in range(3)]
        )
        many = model.scores_of_many(episodes, 3, 2)
        each = torch.stack([model.scores(episode, 3, 2) for episode in episodes])
    assert many.shape == (3, 4, 3)
    torch.testing.assert_close(many, each, rtol=1e-4, atol=1e-4)


def test_molo_with_cached_frames_cannot_reconstruct_them() -> None:
    from hcl.config.resolve import resolve
    from hcl.errors import ConfigError

    settings = {"train.regime": "molo", "model.backbone": "resnet18", "model.train_backbone": False}
    with pytest.raises(ConfigError, match=r"regime.reconstruction.*frozen stages are read from a cache"):
        models.make_regime(resolve(None, settings).experiment)
    assert models.make_regime(resolve(None, settings | {"regime.reconstruction": 0}).experiment)
