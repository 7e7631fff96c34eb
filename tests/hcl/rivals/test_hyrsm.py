"""Check HyRSM's and HyRSM++'s settings, what the switches of their oddities change, and the initial weights."""

from __future__ import annotations

import math

import pytest
import torch

from hcl.rivals.attention import EpisodeAttention
from hcl.rivals.heads import in_mode
from hcl.rivals.hyrsm import Hyrsm, HyrsmSettings, temporal_costs
from tests.hcl.rivals.tiny import CHANNELS, FRAMES, episodes, make, noise, targets


def test_oddity_2_the_temperature_is_a_setting_and_one_over_the_frames_gives_the_released_sum():
    support, query = episodes(make("hyrsm"))
    logits = make("hyrsm")(support, query).logits
    torch.testing.assert_close(make("hyrsm", temperature=1 / FRAMES)(support, query).logits, logits)
    torch.testing.assert_close(make("hyrsm", temperature=1.0)(support, query).logits, logits / FRAMES)


def test_oddity_9_the_factor_of_the_features_can_be_fixed():
    def first_input(channels: int, settings: HyrsmSettings) -> torch.Tensor:
        head, seen = Hyrsm(channels, 3, settings).eval(), []
        head.temporal_atte_before.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        head.encode(torch.ones(1, 2, channels))
        head.encode(torch.zeros(1, 2, channels))
        return seen[0] - seen[1]

    corrected = in_mode(HyrsmSettings, "corrected")
    for channels in (16, 64):
        released = first_input(channels, HyrsmSettings())
        torch.testing.assert_close(released, torch.full_like(released, math.sqrt(channels / 10)))
        fixed = first_input(channels, corrected)
        torch.testing.assert_close(fixed, torch.full_like(fixed, math.sqrt(2048 / 10)))


def test_oddity_10_the_attention_drops_what_is_set():
    released, corrected = (Hyrsm(CHANNELS, 3, in_mode(HyrsmSettings, mode)) for mode in ("published", "corrected"))
    assert released.temporal_atte.attention_dropout == 0.1
    assert corrected.temporal_atte.attention_dropout == corrected.temporal_atte.dropout == 0.05


def test_oddity_23_the_settings_of_the_temporal_term_are_read():
    support, query = episodes(make("hyrsm++"))
    term = make("hyrsm++")(support, query).temporal
    for changes in ({"window": 2}, {"temporal_balance": 5.0}, {"balance": 1.0}):
        assert not torch.allclose(make("hyrsm++", **changes)(support, query).temporal, term)
    assert make("hyrsm++").weights["temporal"] == 0.3
    assert "temporal" not in make("hyrsm").losses(make("hyrsm")(support, query), targets())


def test_frames_near_in_time_should_agree_and_distant_ones_differ():
    direction = torch.tensor([1.0, 0.0, 0.0])
    equal = direction.expand(1, 1, 4, 3)
    costs = {"window": 1, "spread": 1.0, "balance": 10.0}
    margins = [1 - math.exp(-1), 1 - math.exp(-4)]  # of distances 2 and 3, of which there are 4 and 2
    expected = 10 * (4 * margins[0] + 2 * margins[1]) / 16
    assert float(temporal_costs(equal, **costs)) == pytest.approx(expected)
    turning = torch.eye(4)[None, None]
    assert float(temporal_costs(turning, **costs)) == pytest.approx(6 * 0.5 / 16)  # 6 neighbours, cost 1 / (1 + 1)


def test_the_heads_differ_for_several_shots_alone():
    for shot, is_same in ((1, True), (2, False)):
        support, query = episodes(make("hyrsm"), shot=shot)
        each, averaged = (make(name)(support, query).logits for name in ("hyrsm", "hyrsm averaged"))
        assert torch.allclose(each, averaged) == is_same


def test_the_initial_weights_of_the_episode_attention():
    torch.manual_seed(0)
    attention = EpisodeAttention(256, attention_dropout=0.1, dropout=0.05, place=0)
    for linear in (attention.w_qs, attention.w_ks, attention.w_vs):
        assert float(linear.weight.detach().std()) == pytest.approx(math.sqrt(2 / (256 + 32)), rel=0.02)
    assert float(attention.fc.weight.detach().std()) == pytest.approx(math.sqrt(1 / 256), rel=0.02)


def test_channels_are_divided_among_the_heads():
    with pytest.raises(ValueError, match="20 channels cannot be divided among 8 heads"):
        Hyrsm(20, 3)


def test_items_of_other_queries_are_other_items():
    head = make("hyrsm")
    support, query = episodes(head)
    items, frames = head.adapted(support, query)
    assert items.shape == (2, 5, 6, FRAMES, CHANNELS) and frames.shape == (2, 5, FRAMES, CHANNELS)
    assert not torch.allclose(items[:, 0], items[:, 1])
    same = head.adapted(support, noise(2, 1, FRAMES, CHANNELS).expand(-1, 5, -1, -1))[0]
    torch.testing.assert_close(same[:, 0], same[:, 1])
