"""Measure the speed of reading and augmenting clips as a ratio in one run; `make bench` prints it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from hcl.clips.dataset import ClipDataset, Draw, frame_indices, train_transform
from hcl.datasets.splits import Video
from hcl.frames.packing import pack_dataset
from hcl.frames.store import FrameStore

N_CLIPS, N_STORED, N_FRAMES, SIZE = 16, 40, 8, 224
VIDEOS = [Video("class", f"{index:03d}") for index in range(N_CLIPS)]


def tell(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n  {line}")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write frames of 341 x 256 at quality 90, the default of extraction."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for video in VIDEOS:
        scene = cv2.resize(rng.integers(0, 256, (40, 60, 3), np.uint8), (400, 300), interpolation=cv2.INTER_CUBIC)
        (root / video.key).mkdir(parents=True)
        for index in range(N_STORED):
            frame = scene[index : index + 256, index : index + 341]
            encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
            (root / video.key / f"{index}.jpg").write_bytes(encoded.tobytes())
    return root


class PillowClips(Dataset):
    """Read clips like published code: with PIL, and every transform applied to each frame separately."""

    def __init__(self, images: Path):
        self.images = images
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(SIZE, scale=(0.2, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
                transforms.RandomGrayscale(p=0.2),
                transforms.PILToTensor(),
            ]
        )

    def __len__(self) -> int:
        return N_CLIPS

    def __getitem__(self, draw: Draw) -> torch.Tensor:
        indices = frame_indices(N_STORED, N_FRAMES, "segments", np.random.default_rng(draw.seeds))
        paths = [self.images / VIDEOS[draw.clip].key / f"{index}.jpg" for index in indices]
        return torch.stack([self.transform(Image.open(path).convert("RGB")) for path in paths])


def ours(images: Path) -> ClipDataset:
    transform = train_transform(SIZE, crop_scale=(0.2, 1.0), flip=True, jitter=0.8, grey=0.2)
    return ClipDataset(
        FrameStore(images), VIDEOS, n_frames=N_FRAMES, sampling="segments", transform=transform, random=True
    )


def clips_a_second(make: Callable[[], Dataset], processes: int, epochs: int = 6) -> float:
    """Return the clips a second when 16 clips are read repeatedly, after one round to warm up."""
    draws = [Draw(clip, (epoch,)) for epoch in range(epochs + 1) for clip in range(N_CLIPS)]
    batches = iter(DataLoader(make(), sampler=draws, batch_size=N_CLIPS, num_workers=processes))
    next(batches)
    began = time.perf_counter()
    assert all(batch.shape == (N_CLIPS, N_FRAMES, 3, SIZE, SIZE) for batch in batches)
    return epochs * N_CLIPS / (time.perf_counter() - began)


@pytest.mark.parametrize("processes", [0, 2])
def test_clips_against_pillow_and_transforms_of_each_frame(
    images: Path, processes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    theirs = clips_a_second(lambda: PillowClips(images), processes)
    folders = clips_a_second(lambda: ours(images), processes)
    tell(
        capsys,
        f"{N_FRAMES} frames of {N_CLIPS} clips at {SIZE}, {processes or 'no'} loader processes: "
        f"PIL {theirs:.1f} clips/s, ours {folders:.1f}, ratio {folders / theirs:.2f}",
    )
    assert folders > 1.5 * theirs


def test_shards_against_folders(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    folders = clips_a_second(lambda: ours(images), 0)
    pack_dataset(images)
    shards = clips_a_second(lambda: ours(images), 0)
    tell(capsys, f"from folders {folders:.1f} clips/s, from shards {shards:.1f}, ratio {shards / folders:.2f}")
    assert shards > 0.7 * folders
