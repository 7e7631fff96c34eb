"""Predict differences of images from MoLo's motion features, with batch norms that take each episode alone."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

_BLOCKS = ((2, 128), (4, 32), (4, 16))
"""Factor and output channels of each block; together they undo the 32 pixels of a ResNet's grid cell."""


class EpisodeBatchNorm(nn.BatchNorm2d):
    """Normalise by the statistics of each episode, so that a batch of episodes gives what single ones give.

    The running statistics are those after the episodes one by one.
    """

    def forward(self, input: Float[Tensor, "episode image channel row column"]) -> Tensor:
        if not self.training:
            return super().forward(input.flatten(0, 1)).unflatten(0, input.shape[:2])
        x = input
        variance, mean = torch.var_mean(x, dim=(1, 3, 4), correction=0, keepdim=True)
        self._update(mean.flatten(1).detach(), variance.flatten(1).detach(), n=x[0, :, 0].numel())
        weight, bias = (rearrange(each, "channel -> channel 1 1") for each in (self.weight, self.bias))
        return (x - mean) * (variance + self.eps).rsqrt() * weight + bias

    @torch.no_grad()
    def _update(self, means: Float[Tensor, "episode channel"], variances: Tensor, n: int) -> None:
        momentum = self.momentum or 0.0
        ages = torch.arange(len(means) - 1, -1, -1, device=means.device, dtype=means.dtype)
        shares = momentum * (1 - momentum) ** ages
        for running, values in ((self.running_mean, means), (self.running_var, variances * n / max(n - 1, 1))):
            assert running is not None
            running.mul_((1 - momentum) ** len(means)).add_((shares @ values).to(running.dtype))
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(len(means))


class UpBlock(nn.Module):
    """Upsample bilinearly with aligned corners, then convolve, normalise and apply ReLU."""

    def __init__(self, channels: int, out_channels: int, factor: int):
        super().__init__()
        self.factor = factor
        convolution = nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False)
        # The names are those of the released checkpoints.
        self.conv = nn.ModuleDict({"double_conv": nn.ModuleList([convolution, EpisodeBatchNorm(out_channels)])})

    def forward(self, x: Float[Tensor, "episode image channel row column"]) -> Tensor:
        block: Any = self.conv["double_conv"]
        convolution, norm = block
        size = functional.interpolate(x.flatten(0, 1), scale_factor=self.factor, mode="bilinear", align_corners=True)
        return norm(convolution(size).unflatten(0, x.shape[:2])).relu()


def decoder_blocks(channels: int) -> tuple[list[UpBlock], nn.ModuleDict]:
    """Return the blocks `up1`, `up2`, `up3` and the last convolution `outc` of MoLo's decoder.

    Args:
        channels: of the motion features.
    """
    blocks = []
    for factor, out_channels in _BLOCKS:
        blocks.append(UpBlock(channels, out_channels, factor))
        channels = out_channels
    return blocks, nn.ModuleDict({"conv": nn.Conv2d(channels, 3, kernel_size=1)})


def reconstruction_loss(
    differences: Float[Tensor, "episode clip step 3 row column"],
    images: Float[Tensor, "episode clip frame 3 height width"],
) -> Float[Tensor, ""]:
    """Return the mean squared distance of the predicted differences to those of consecutive images.

    If the images have another size, as when a side is no multiple of 32, the prediction is resized.
    """
    wanted = images[:, :, 1:] - images[:, :, :-1]
    if differences.shape[-2:] != wanted.shape[-2:]:
        size = (wanted.shape[-2], wanted.shape[-1])
        flat = functional.interpolate(differences.flatten(0, 2), size=size, mode="bilinear", align_corners=True)
        differences = flat.unflatten(0, differences.shape[:3])
    return functional.mse_loss(differences, wanted)
