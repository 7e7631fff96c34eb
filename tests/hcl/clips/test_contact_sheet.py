"""Test the content of contact sheets, and their requests to the store."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torchvision.transforms import v2

from hcl.clips.contact_sheet import (
    CELL,
    COLUMNS,
    GAP,
    MARK,
    MAX_FRAMES,
    RecordingFrames,
    class_sheet,
    video_sheet,
    write_png,
)
from hcl.clips.dataset import ClipDataset
from hcl.datasets.splits import Video

VIDEO = Video("größer [a]", "v (1)")
SQUARE = v2.Resize((20, 20))


class Stripes:
    """Store videos whose frame i is uniformly grey 3 * i, 20 by 40."""

    def __init__(self, n: int):
        self.n = n
        self.asked: list[int] = []

    def n_frames(self, video: Video) -> int:
        return self.n

    def read(self, video: Video, indices, **options) -> np.ndarray:
        self.asked += list(indices)
        return np.stack([np.full((20, 40, 3), 3 * index % 256, np.uint8) for index in indices])


def dataset(frames: RecordingFrames, *, random: bool, videos=(VIDEO,), transform=SQUARE) -> ClipDataset:
    return ClipDataset(frames, videos, n_frames=4, sampling="segments", transform=transform, random=random)


def sheet(n: int, **options) -> tuple[np.ndarray, Stripes]:
    store = Stripes(n)
    frames = RecordingFrames(store)
    test = dataset(frames, random=False)
    training = dataset(frames, random=True, transform=v2.Compose([SQUARE, v2.Lambda(lambda images: 255 - images)]))
    return video_sheet(frames, test, training, **({"n_views": 2, "seed": 0} | options)), store


def test_every_frame_of_a_short_video_stands_in_its_place() -> None:
    image, store = sheet(8)
    assert image.shape[1] == GAP + COLUMNS * (CELL + GAP)
    assert store.asked[:12] == [1, 3, 5, 7, *range(8)]  # the test view, then all frames
    top = 34 + 24 + 3  # two headings
    for index in range(8):
        left = GAP + index * (CELL + GAP)
        assert (image[top + 5 : top + CELL // 2 - 5, left + 5 : left + CELL - 5] == 3 * index).all()
        is_marked = (image[top + 10, left - 2] == MARK).all()
        assert is_marked == (index in (1, 3, 5, 7))
    views = store.asked[12:]
    assert len(views) == 8 and views[:4] != views[4:]


def test_long_videos_are_thinned_and_keep_what_is_sampled() -> None:
    _, store = sheet(1000, n_views=0)
    sampled, shown = store.asked[:4], store.asked[4:]
    assert set(sampled) <= set(shown)
    assert MAX_FRAMES <= len(shown) <= MAX_FRAMES + 4
    assert shown == sorted(set(shown))


def test_a_video_of_one_frame_repeats_it() -> None:
    image, store = sheet(1)
    assert store.asked[:5] == [0, 0, 0, 0, 0]
    assert image.shape[0] > 3 * CELL // 2


def test_views_follow_from_the_seed() -> None:
    assert torch.equal(*(torch.from_numpy(sheet(50, seed=5)[0]) for _ in range(2)))
    assert sheet(50, seed=5)[1].asked != sheet(50, seed=6)[1].asked


def test_a_class_has_a_row_a_video(tmp_path: Path) -> None:
    frames = RecordingFrames(Stripes(9))
    videos = [Video("a", f"v{index}") for index in range(3)]
    image = class_sheet("toy, test: a", frames, dataset(frames, random=False, videos=videos))
    path = write_png(tmp_path / "größer.png", image)
    read = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(read, image)
    assert image.shape[0] == 34 + 3 * (24 + CELL + 24) + GAP
