"""Colour jitter of whole clips: torchvision's, with a change of hue that does not cost more than all the rest."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional


class ColourJitter(nn.Module):
    """Brightness, contrast, saturation and hue of a clip, by one draw and in a random order.

    The factors are drawn from the same ranges as those of `torchvision.transforms.v2.ColorJitter`, which spends
    three quarters of its time on the hue, in floating point.

    Args:
        brightness, contrast, saturation: factors come from 1 - value to 1 + value.
        hue: shifts come from -hue to hue, as a share of the colour circle.
    """

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float):
        super().__init__()
        self.factors = v2.ColorJitter(brightness, contrast, saturation)  # its checks, its ranges
        self.hue = hue

    def forward(self, images: UInt8[Tensor, "*frame 3 height width"]) -> UInt8[Tensor, "*frame 3 height width"]:
        """Any number of images, changed alike. Draws from torch's global generator."""
        changes = (
            (functional.adjust_brightness, self.factors.brightness),
            (functional.adjust_contrast, self.factors.contrast),
            (functional.adjust_saturation, self.factors.saturation),
            (shift_hue, (-self.hue, self.hue)),
        )
        for index in torch.randperm(len(changes)).tolist():
            change, (low, high) = changes[index]
            images = change(images, float(torch.empty(()).uniform_(low, high)))
        return images


def shift_hue(images: UInt8[Tensor, "*frame 3 height width"], shift: float) -> UInt8[Tensor, "*frame 3 height width"]:
    """Turn the colour circle by a share of it. Hues have 256 steps, as in PIL, on which the release augments."""
    frames = images.movedim(-3, -1).contiguous()  # channels last: OpenCV's order, and resizing leaves it so
    tall = cv2.cvtColor(frames.reshape(-1, frames.shape[-2], 3).numpy(), cv2.COLOR_RGB2HSV_FULL)
    tall[..., 0] += np.uint8(round(shift * 256) % 256)  # wraps around, as the circle does
    turned = torch.from_numpy(cv2.cvtColor(tall, cv2.COLOR_HSV2RGB_FULL))
    return turned.reshape(frames.shape).movedim(-1, -3)
