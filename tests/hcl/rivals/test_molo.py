"""Check MoLo's settings, its reconstruction of images and what the switches of its oddities change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from hcl.rivals.decoder import EpisodeBatchNorm, reconstruction_loss
from hcl.rivals.molo import CONTRASTIVE, Molo, MoloSettings
from tests.hcl.rivals.tiny import CHANNELS, FRAMES, episodes, make, noise, targets


def test_oddity_2_the_temperature_is_a_setting():
    """Check that the default gives sums over the frames, and in the motion stream over the fewer steps."""
    support, query = episodes(make("molo"))

    def logits(**changes: float) -> torch.Tensor:
        return make("molo", **changes).eval()(support, query).logits

    frames = logits(motion=0.0)
    torch.testing.assert_close(logits(motion=0.0, temperature=1.0), frames / FRAMES)
    steps = logits(motion=1.0) - frames
    means = logits(motion=1.0, temperature=1.0) - frames / FRAMES
    torch.testing.assert_close(means, steps / (FRAMES - 1))


def test_oddity_3_short_tokens_are_as_near_as_long_ones():
    support, query = noise(2, 3, 1, 9, CHANNELS), noise(2, 5, 9, CHANNELS, seed=1)
    for offset, is_same in ((0.01, False), (0.0, True)):
        head = make("molo", cosine_offset=offset).eval()
        logits = head.match(support, query).logits
        assert torch.allclose(head.match(support / 50, query / 50).logits, logits) == is_same


def test_oddity_20_five_shots_are_five_shots():
    head = make("molo").eval()
    support, query = episodes(head, shot=5)
    logits = head(support, query).logits
    assert not torch.allclose(head(support[:, :, :1], query).logits, logits)


def test_oddity_21_nothing_is_decoded_in_evaluation_or_without_weight():
    support, query = episodes(make("molo"))
    calls = []
    for head in (make("molo"), make("molo").eval(), make("molo", reconstruction=0.0)):
        before = len(calls)
        head.up1.register_forward_hook(lambda *given: calls.append(given))
        output = head(support, query)
        terms = head.losses(output, targets())
        assert (
            (len(calls) > before) == ("reconstruction" in terms) == (head.training and "reconstruction" in head.weights)
        )
    assert len(calls) == 1


def test_images_of_another_size_resize_the_prediction():
    head = make("molo")
    output = head(*episodes(head))
    goal = targets()
    assert output.differences.shape[-2:] == goal.images.shape[-2:] == (64, 32)
    smaller = replace(goal, images=goal.images[..., ::3, ::4])
    assert head.losses(output, smaller)["reconstruction"].isfinite()
    with pytest.raises(ValueError, match="needs the images"):
        head.losses(output, replace(goal, images=None))


def test_differences_that_are_predicted_exactly_cost_nothing():
    images = noise(1, 2, 3, 3, 5, 7)
    assert reconstruction_loss(images.diff(dim=2), images) == 0
    half = reconstruction_loss(images.diff(dim=2) / 2, images)
    torch.testing.assert_close(half, (images.diff(dim=2) / 2).square().mean())


def test_the_contrastive_terms_learn_the_tokens():
    head = make("molo")
    support, query = episodes(head)
    output = head(support, query)
    assert tuple(output.contrastive) == CONTRASTIVE
    for name, logits in output.contrastive.items():
        token = head.class_token_motion if name.endswith("motion") else head.class_token
        (gradient,) = torch.autograd.grad(logits[0, 0, 0], token, retain_graph=True)
        assert gradient.abs().sum() > 0
    distances = output.contrastive["s2q"].sum()
    torch.testing.assert_close(torch.autograd.grad(distances, head.scale)[0], distances / head.scale)


def test_batch_norm_takes_each_episode_alone():
    """Compare with torch's batch norm of one episode after another, in training and in evaluation."""
    ours, theirs = EpisodeBatchNorm(3).double(), nn.BatchNorm2d(3).double()
    batch = noise(4, 5, 3, 2, 7) * torch.arange(1, 5).view(4, 1, 1, 1, 1)
    torch.testing.assert_close(ours(batch), torch.stack([theirs(each) for each in batch]))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    assert ours.num_batches_tracked == 4
    torch.testing.assert_close(ours.eval()(batch), torch.stack([theirs.eval()(each) for each in batch]))


def test_released_names_at_the_released_width():
    with torch.device("meta"):
        shapes = {name: tuple(each.shape) for name, each in Molo(2048, 64, MoloSettings()).state_dict().items()}
    assert shapes["temporal_atte_before.layers.0.1.net.3.weight"] == (2048, 2048)
    assert shapes["motion_reduce.weight"] == (256, 2048, 3, 3, 3)
    assert shapes["up1.conv.double_conv.0.weight"] == (128, 256, 3, 3)
