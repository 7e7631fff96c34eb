"""Compare colour jitter with torchvision's."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from hcl.clips.colour import ColourJitter, change_brightness, change_contrast, change_saturation, shift_hue


def clip(n_frames: int = 3, height: int = 20, width: int = 28) -> torch.Tensor:
    """Return smooth noise, which is like videos, and which all colour conversions round alike."""
    small = np.random.default_rng(0).integers(0, 256, (n_frames, 5, 7, 3), dtype=np.uint8)
    frames = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR) for frame in small]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


CHANGES = [
    (change_brightness, functional.adjust_brightness, [0.0, 0.6, 1.4]),
    (change_contrast, functional.adjust_contrast, [0.0, 0.6, 1.4]),
    (change_saturation, functional.adjust_saturation, [0.0, 0.6, 1.4]),
    (shift_hue, functional.adjust_hue, [-0.5, -0.1, 0.03, 0.1]),
]


@pytest.mark.parametrize(("ours", "theirs", "strength"), [(o, t, x) for o, t, xs in CHANGES for x in xs])
def test_each_change_is_torchvisions_up_to_rounding(ours: Callable, theirs: Callable, strength: float) -> None:
    images = clip()
    changed = torch.from_numpy(ours(images.permute(0, 2, 3, 1).numpy(), strength)).permute(0, 3, 1, 2)
    difference = (changed.int() - theirs(images, strength).int()).abs()
    limit = 16 if ours is shift_hue else 2  # hues have 256 steps
    assert difference.max() <= limit and difference.float().mean() < 2
    assert (changed.int() - images.int()).abs().float().mean() > 3


def test_a_full_turn_and_none_leave_a_clip_as_it_was() -> None:
    frames = clip().permute(0, 2, 3, 1).numpy()
    for shift in (0.0, 1.0, 0.001):
        assert np.abs(shift_hue(frames, shift).astype(int) - frames).max() <= 8  # rounding of two conversions


@pytest.mark.parametrize("images", [clip(1)[0], clip(), clip().contiguous(memory_format=torch.channels_last)])
def test_shapes_types_and_inputs_are_kept(images: torch.Tensor) -> None:
    before = images.clone()
    changed = ColourJitter(0.4, 0.4, 0.4, 0.1)(images)
    assert changed.shape == images.shape and changed.dtype == torch.uint8
    assert torch.equal(images, before) and not torch.equal(changed, before)


def test_no_strength_changes_nothing() -> None:
    assert torch.equal(ColourJitter(0.0, 0.0, 0.0, 0.0)(clip()), clip())


def test_frames_are_changed_alike_and_clips_are_not() -> None:
    jitter, image = ColourJitter(0.4, 0.4, 0.4, 0.1), clip(1)
    changed = jitter(image.repeat(4, 1, 1, 1))
    assert all(torch.equal(frame, changed[0]) for frame in changed)
    assert len({jitter(image).numpy().tobytes() for _ in range(10)}) == 10


def test_without_hue_it_spreads_as_torchvisions() -> None:
    ours, theirs = ColourJitter(0.4, 0.4, 0.4, 0.0), v2.ColorJitter(0.4, 0.4, 0.4, 0.0)
    images = clip()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        means = [[jitter(images).float().mean() for _ in range(200)] for jitter in (ours, theirs)]
    for statistic in (np.mean, np.std):
        assert statistic(means[0]) == pytest.approx(statistic(means[1]), rel=0.15)
