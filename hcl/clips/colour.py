"""Colour jitter of whole clips: torchvision's, on OpenCV, for on tensors it costs more than all else about a clip."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn


class ColourJitter(nn.Module):
    """Brightness, contrast, saturation and hue of a clip, by one draw and in a random order.

    What `torchvision.transforms.v2.ColorJitter` does on 8-bit images, up to rounding, in a sixth of its time.

    Args:
        brightness, contrast, saturation: factors come from 1 - value to 1 + value.
        hue: shifts come from -hue to hue, as a share of the colour circle.
    """

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float):
        from torchvision.transforms import v2

        super().__init__()
        self.ranges = v2.ColorJitter(brightness, contrast, saturation, hue)  # its checks of what makes sense

    def forward(self, images: UInt8[Tensor, "*frame 3 height width"]) -> UInt8[Tensor, "*frame 3 height width"]:
        """Any number of images, changed alike. Draws from torch's global generator."""
        changes = (
            (change_brightness, self.ranges.brightness),
            (change_contrast, self.ranges.contrast),
            (change_saturation, self.ranges.saturation),
            (shift_hue, self.ranges.hue),
        )
        channels_last = images.movedim(-3, -1).contiguous()  # OpenCV's order, and that in which resizing leaves them
        frames = channels_last.numpy().reshape(-1, *channels_last.shape[-3:])
        for index in torch.randperm(len(changes)).tolist():
            change, limits = changes[index]
            if limits is not None:  # torchvision's word for a strength of 0
                frames = change(frames, float(torch.empty(()).uniform_(*limits)))
        return torch.from_numpy(frames).reshape(channels_last.shape).movedim(-1, -3)


def change_brightness(
    frames: UInt8[np.ndarray, "frame height width 3"], factor: float
) -> UInt8[np.ndarray, "frame height width 3"]:
    """Every value times the factor."""
    return _of_tall(lambda tall: cv2.LUT(tall, _table(factor, 0.0)), frames)


def change_contrast(
    frames: UInt8[np.ndarray, "frame height width 3"], factor: float
) -> UInt8[np.ndarray, "frame height width 3"]:
    """Every value's distance from the mean grey of its frame times the factor."""
    means = [cv2.mean(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))[0] for frame in frames]
    return np.stack([cv2.LUT(frame, _table(factor, mean)) for frame, mean in zip(frames, means, strict=True)])


def change_saturation(
    frames: UInt8[np.ndarray, "frame height width 3"], factor: float
) -> UInt8[np.ndarray, "frame height width 3"]:
    """Every pixel's distance from its own grey times the factor."""

    def change(tall: np.ndarray) -> np.ndarray:
        grey = cv2.cvtColor(cv2.cvtColor(tall, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        return cv2.addWeighted(tall, factor, grey, 1 - factor, 0)

    return _of_tall(change, frames)


def shift_hue(
    frames: UInt8[np.ndarray, "frame height width 3"], shift: float
) -> UInt8[np.ndarray, "frame height width 3"]:
    """Turn the colour circle by a share of it. Hues have 256 steps, as in PIL, on which the release augments."""

    def change(tall: np.ndarray) -> np.ndarray:
        hsv = cv2.cvtColor(tall, cv2.COLOR_RGB2HSV_FULL)
        hsv[..., 0] += np.uint8(round(shift * 256) % 256)  # wraps around, as the circle does
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)

    return _of_tall(change, frames)


def _of_tall(change: Callable[[np.ndarray], np.ndarray], frames: np.ndarray) -> np.ndarray:
    """What treats each pixel by itself, done to all frames at once, one above the other."""
    return change(frames.reshape(-1, *frames.shape[2:])).reshape(frames.shape)


def _table(factor: float, centre: float) -> np.ndarray:
    """What becomes of the 256 values whose distance from a centre is multiplied."""
    return np.clip(np.rint(centre + factor * (np.arange(256) - centre)), 0, 255).astype(np.uint8)
