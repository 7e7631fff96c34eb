"""Turn stored frames into clips: choose frames and apply transforms.

All random choices of a clip follow from a `Draw`, so that they do not depend on the process that reads it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn
from torch.utils.data import Dataset

from hcl.clips.colour import ColourJitter
from hcl.datasets.splits import Video


@runtime_checkable
class Frames(Protocol):
    """Define the interface for reading a video's frames, which `hcl.frames.store.FrameStore` implements."""

    def n_frames(self, video: Video) -> int: ...

    def read(self, video: Video, indices: Sequence[int], *, min_side: int = 0) -> np.ndarray: ...


class Draw(NamedTuple):
    """Request one reading of a clip: the clip's index, and the numbers that seed its random choices."""

    clip: int
    seeds: tuple[int, ...] = ()


def frame_indices(
    n_available: int, n_frames: int, sampling: str, generator: np.random.Generator | None = None
) -> Int[np.ndarray, "frame"]:
    """Return the indices of a clip's frames in its video, in order; frames repeat if the video is too short.

    Args:
        sampling: `segments` takes one frame of each of n_frames equal segments: the centre without a generator, a
            random one with it. `random` takes a sorted random subset, as released.
    """
    if sampling == "random":
        generator = generator or np.random.default_rng(0)
        if n_available >= n_frames:
            return np.sort(generator.permutation(n_available)[:n_frames])
        return np.sort(generator.integers(0, n_available, n_frames))
    offset = np.full(n_frames, 0.5) if generator is None else generator.random(n_frames)
    return ((np.arange(n_frames) + offset) * n_available / n_frames).astype(np.int64)


def test_transform(size: int, resize: str) -> nn.Module:
    """Return the transform that `squash`es to a square, or `crop`s the centre square of a short side of `size`."""
    from torchvision.transforms import v2  # takes as long to load as torch, and a driver reads no clips

    if resize == "squash":
        return v2.Resize((size, size), antialias=True)
    return v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size)])


def train_transform(size: int, *, crop_scale: tuple[float, float], flip: bool, jitter: float, grey: float) -> nn.Module:
    """Return a random resized crop, mirror, colour jitter and grey, as in the published run's `type1`."""
    from torchvision.transforms import v2

    steps: list[nn.Module] = [v2.RandomResizedCrop(size, scale=crop_scale, antialias=True)]
    if flip:
        steps.append(v2.RandomHorizontalFlip())
    if jitter:
        steps.append(v2.RandomApply([ColourJitter(0.4, 0.4, 0.4, 0.1)], p=jitter))
    if grey:
        steps.append(v2.RandomGrayscale(p=grey))
    return v2.Compose(steps)


def train_min_side(size: int, crop_scale: tuple[float, float]) -> int:
    """Return the short side in pixels at which even the smallest random crop has `size` pixels a side."""
    return math.ceil(size / math.sqrt(crop_scale[0] * _LEAST_RATIO))


_LEAST_RATIO = 3 / 4  # smallest ratio of a random crop's sides, torchvision's default


class ClipDataset(Dataset):
    """Read the clips of a list of videos as uint8 tensors (frame, 3, size, size).

    Args:
        sampling: see `frame_indices`.
        transform: a transform of (frame, 3, height, width) uint8.
        per_frame: draw the transform for each frame separately.
        random: use a draw's seeds; false gives the single test view.
        min_side: pixels that a side must keep when frames are decoded at a reduced size; 0 decodes at full size.
    """

    def __init__(
        self,
        frames: Frames,
        videos: Sequence[Video],
        *,
        n_frames: int,
        sampling: str,
        transform: nn.Module,
        per_frame: bool = False,
        random: bool = False,
        min_side: int = 0,
    ):
        self.frames, self.videos = frames, tuple(videos)
        self._read = partial(frames.read, min_side=min_side) if min_side else frames.read
        self.clip_length, self.sampling, self.transform = n_frames, sampling, transform
        self.per_frame, self.random = per_frame, random

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, draw: Draw | int) -> UInt8[Tensor, "frame 3 size size"]:
        draw = Draw(draw) if isinstance(draw, int) else draw
        video = self.videos[draw.clip]
        generator = np.random.default_rng([*draw.seeds, draw.clip])
        picked = frame_indices(
            self.frames.n_frames(video),
            self.clip_length,
            self.sampling,
            generator if self.random or self.sampling == "random" else None,
        )
        images = torch.from_numpy(self._read(video, picked.tolist())).permute(0, 3, 1, 2)  # to channels first
        with torch.random.fork_rng(devices=[]):
            # Seed only the CPU's generator: torch.manual_seed would seed those of the GPUs too.
            torch.default_generator.manual_seed(int(generator.integers(2**62)))
            clip = (
                torch.stack([self.transform(image) for image in images]) if self.per_frame else self.transform(images)
            )
        return clip.contiguous()  # the memory layout must not depend on the draw: rounding of convolutions does
