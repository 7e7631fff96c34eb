from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from hcl.clips.dataset import ClipDataset, Draw, Frames, frame_indices, train_min_side, train_transform
from hcl.clips.dataset import test_transform as make_test_transform
from hcl.datasets.splits import Video

N_FRAMES, HEIGHT, WIDTH = 5, 24, 36
VIDEOS = [Video("a", "short"), Video("b", "long"), Video("c", "longer")]
LENGTHS = {"short": 3, "long": 17, "longer": 40}


class FakeFrames:
    """Return noise as a function of the video's name and the frame's number; `still` videos repeat one frame."""

    def __init__(self, *, still: bool = False):
        self.still = still
        self.asked: list[list[int]] = []
        self.min_sides: list[int] = []

    def n_frames(self, video: Video) -> int:
        return LENGTHS[video.name]

    def read(self, video: Video, indices: Sequence[int], *, min_side: int = 0) -> np.ndarray:
        self.asked.append(list(indices))
        self.min_sides.append(min_side)
        seeds = [[len(video.name), 0 if self.still else index] for index in indices]
        images = [np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for seed in seeds]
        return np.stack(images)


def dataset(*, augmented: bool = True, still: bool = False, **settings) -> ClipDataset:
    transform = train_transform(16, crop_scale=(0.2, 1.0), flip=True, jitter=0.8, grey=0.2)
    defaults = {
        "n_frames": N_FRAMES,
        "sampling": "segments",
        "random": augmented,
        "transform": transform if augmented else make_test_transform(16, "squash"),
    }
    return ClipDataset(FakeFrames(still=still), VIDEOS, **(defaults | settings))


# --- frame indices --------------------------------------------------------------------------------------------------


def test_the_centre_of_each_segment():
    assert frame_indices(8, 8, "segments").tolist() == list(range(8))
    assert frame_indices(80, 8, "segments").tolist() == [5, 15, 25, 35, 45, 55, 65, 75]
    assert frame_indices(7, 3, "segments").tolist() == [1, 3, 5]  # centres at 1.17, 3.5 and 5.83


@pytest.mark.parametrize("n_available", [1, 3, 7, 8, 9, 61])
def test_a_random_frame_of_each_segment(n_available):
    seen = [set() for _ in range(N_FRAMES)]
    for seed in range(200):
        indices = frame_indices(n_available, N_FRAMES, "segments", np.random.default_rng(seed))
        assert (np.diff(indices) >= 0).all()
        for segment, index in enumerate(indices.tolist()):
            low, high = segment * n_available / N_FRAMES, (segment + 1) * n_available / N_FRAMES
            assert np.floor(low) <= index < max(high, np.floor(low) + 1)
            seen[segment].add(index)
    assert set.union(*seen) == set(range(n_available))


def test_short_videos_repeat_frames_in_order():
    assert frame_indices(3, 8, "segments").tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert frame_indices(1, 8, "segments").tolist() == [0] * 8
    drawn = frame_indices(3, 8, "random", np.random.default_rng(0))
    assert drawn.shape == (8,) and (np.diff(drawn) >= 0).all() and set(drawn) <= {0, 1, 2}


@pytest.mark.parametrize("n_available", [8, 9, 50])
def test_a_random_subset_is_sorted_and_has_no_repeats(n_available):
    seen = set()
    for seed in range(100):
        indices = frame_indices(n_available, 8, "random", np.random.default_rng(seed))
        assert (np.diff(indices) > 0).all()
        seen |= set(indices.tolist())
    assert seen == set(range(n_available))


def test_a_random_subset_without_a_generator_is_always_the_same():
    assert np.array_equal(frame_indices(50, 8, "random"), frame_indices(50, 8, "random"))


# --- transforms -----------------------------------------------------------------------------------------------------


def test_squash_and_crop_make_squares_of_their_own():
    image = torch.zeros(2, 3, 20, 40, dtype=torch.uint8)
    image[..., :10] = 255  # the left quarter is outside the centre square
    squashed, cropped = (make_test_transform(10, resize)(image) for resize in ("squash", "crop"))
    assert squashed.shape == cropped.shape == (2, 3, 10, 10)
    assert squashed.float().mean() > 50
    assert cropped.max() < 60  # only antialiasing carries some of the quarter into the square
    assert cropped[..., 2:].max() == 0


@pytest.mark.parametrize("shape", [(20, 40), (40, 20), (7, 9)])
def test_test_transforms_make_their_size_of_any_frame(shape):
    for resize in ("squash", "crop"):
        assert make_test_transform(12, resize)(torch.zeros(3, *shape, dtype=torch.uint8)).shape == (3, 12, 12)


STRIPES = 8  # period in pixels, two of them bright, so that sampling without a filter hits or misses them


def striped() -> torch.Tensor:
    image = torch.zeros(3, 8 * STRIPES, 12 * STRIPES, dtype=torch.uint8)
    image[..., torch.arange(image.shape[-1]) % STRIPES // 2 == 1] = 200  # at a small pixel's centre
    return image


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_what_is_finer_than_a_pixel_is_averaged(resize):
    """Check that stripes with the period of the remaining pixels become uniformly grey."""
    small = make_test_transform(8, resize)(striped()).float()
    assert small.shape == (3, 8, 8)
    assert (small[..., 1:-1] - 50).abs().max() <= 8


def test_what_is_finer_than_a_pixel_is_averaged_in_training():
    draw = train_transform(8, crop_scale=(0.9, 1.0), flip=False, jitter=0.0, grey=0.0)
    torch.manual_seed(0)
    smallest = torch.stack([draw(striped()) for _ in range(5)]).float()[..., 1:-1]
    assert (smallest - 50).abs().max() <= 15


def test_train_transforms_hold_what_is_asked_for():
    def steps(**settings):
        defaults = {"crop_scale": (0.2, 1.0), "flip": False, "jitter": 0.0, "grey": 0.0}
        return [type(step).__name__ for step in train_transform(8, **(defaults | settings)).transforms]

    assert steps() == ["RandomResizedCrop"]
    assert steps(flip=True) == ["RandomResizedCrop", "RandomHorizontalFlip"]
    assert steps(jitter=0.5, grey=0.1) == ["RandomResizedCrop", "RandomApply", "RandomGrayscale"]
    crop, jitter, grey = train_transform(8, crop_scale=(0.3, 0.9), flip=False, jitter=0.5, grey=0.1).transforms
    assert crop.scale == (0.3, 0.9) and jitter.p == 0.5 and grey.p == 0.1
    (colours,) = jitter.transforms
    ranges = colours.ranges
    assert (ranges.brightness, ranges.contrast, ranges.saturation) == ((0.6, 1.4),) * 3
    assert ranges.hue == (-0.1, 0.1)


# --- the data set ---------------------------------------------------------------------------------------------------


def test_a_clip_is_its_frames_in_channels_first():
    clips = dataset(augmented=False, transform=v2.CenterCrop(HEIGHT))
    clip, margin = clips[1], (WIDTH - HEIGHT) // 2
    assert clip.shape == (N_FRAMES, 3, HEIGHT, HEIGHT) and clip.dtype == torch.uint8
    picked = frame_indices(17, N_FRAMES, "segments").tolist()
    assert clips.frames.asked == [picked]
    whole = FakeFrames().read(VIDEOS[1], picked)
    assert np.array_equal(clip.permute(0, 2, 3, 1).numpy(), whole[:, :, margin:-margin])


@pytest.mark.parametrize("settings", [{}, {"per_frame": True}, {"sampling": "random"}], ids=str)
def test_a_clip_is_a_function_of_its_draw_alone(settings):
    draws = [Draw(index, (7, epoch, step)) for epoch in range(2) for step in range(3) for index in range(3)]
    forwards, backwards = dataset(**settings), dataset(**settings)
    first = {draw: forwards[draw] for draw in draws}
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 the global state must have no effect
    second = {draw: backwards[draw] for draw in reversed(draws)}
    assert all(torch.equal(first[draw], second[draw]) for draw in draws)
    assert len({clip.numpy().tobytes() for clip in first.values()}) == len(draws)  # every draw gives another clip


@pytest.mark.parametrize("sampling", ["segments", "random"])
def test_draws_choose_the_frames_in_training(sampling):
    clips = dataset(sampling=sampling)
    for step in range(20):
        clips[Draw(2, (0, step))]
    assert len({tuple(asked) for asked in clips.frames.asked}) == 20


def test_the_test_view_has_the_centres_of_the_segments():
    clips = dataset(augmented=False)
    for draw in (2, Draw(2), Draw(2, (0, 1))):
        clips[draw]
    assert clips.frames.asked == [frame_indices(40, N_FRAMES, "segments").tolist()] * 3


def test_loader_processes_change_nothing():
    draws = [Draw(index, (1, step)) for step in range(3) for index in range(3)]

    def batches(processes: int) -> torch.Tensor:
        loader = DataLoader(dataset(), sampler=draws, batch_size=2, num_workers=processes)
        return torch.cat(list(loader))

    assert torch.equal(batches(0), batches(2))


def test_the_test_view_is_one_and_needs_no_seeds():
    clips = dataset(augmented=False)
    assert torch.equal(clips[2], clips[Draw(2)])
    assert torch.equal(clips[2], clips[Draw(2, (5, 6))])


def test_random_sampling_at_test_has_one_view_a_clip_and_others_by_seed():
    clips = dataset(augmented=False, sampling="random")
    assert torch.equal(clips[2], clips[2])
    assert not torch.equal(clips[Draw(2, (1,))], clips[Draw(2, (2,))])


def test_augmentation_is_one_draw_a_clip_or_one_a_frame():
    together, apart = dataset(still=True), dataset(still=True, per_frame=True)
    for seed in range(5):
        clip = together[Draw(1, (seed,))]
        assert all(torch.equal(frame, clip[0]) for frame in clip)
        assert len({frame.numpy().tobytes() for frame in apart[Draw(1, (seed,))]}) == N_FRAMES


def test_reading_leaves_the_global_random_state_alone():
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for settings in ({}, {"per_frame": True}, {"sampling": "random"}):
        dataset(**settings)[Draw(1, (3,))]
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


@pytest.mark.gpu
def test_reading_leaves_the_random_state_of_the_gpu_alone():
    before = torch.cuda.get_rng_state()
    dataset()[Draw(1, (3,))]
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_the_dataset_has_one_clip_a_video():
    assert len(dataset()) == len(VIDEOS)
    assert isinstance(FakeFrames(), Frames)


def test_frames_are_decoded_whole_unless_a_least_side_is_given():
    for min_side in (0, 7):
        clips = dataset(min_side=min_side)
        clips[Draw(1, (3,))]
        assert clips.frames.min_sides == [min_side]


def test_the_smallest_crop_still_has_its_pixels():
    assert train_min_side(224, (1.0, 1.0)) == 259  # the largest crop of 3 : 4 from a square
    side = train_min_side(224, (0.2, 1.0))
    assert np.sqrt(0.2 * side**2 * 3 / 4) >= 224 > np.sqrt(0.2 * (side - 1) ** 2 * 3 / 4)
