from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hcl.models.tuples import concatenated_frames, multi_scale_patches, tuple_frames


def noise(*shape: int) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)
    return values.requires_grad_()


def same_gradient(ours: Tensor, naive: Tensor, leaf: Tensor) -> None:
    """Assert equal values, and equal gradients of a random weighted sum."""
    torch.testing.assert_close(ours, naive)
    weights = noise(*ours.shape).detach()
    (first,) = torch.autograd.grad((ours * weights).sum(), leaf, retain_graph=True)
    (second,) = torch.autograd.grad((naive * weights).sum(), leaf)
    torch.testing.assert_close(first, second)


def test_tuples_stand_in_lexicographic_order():
    pairs = [[a, b] for a in range(5) for b in range(a + 1, 5)]
    triples = [[a, b, c] for a in range(5) for b in range(a + 1, 5) for c in range(b + 1, 5)]
    assert tuple_frames(5, 2).tolist() == pairs
    assert tuple_frames(5, 3).tolist() == triples


def test_eight_frames_make_28_pairs_and_56_triples():
    assert tuple_frames(8, 2).shape == (28, 2)
    assert tuple_frames(8, 3).shape == (56, 3)


def test_a_clip_as_long_as_a_tuple_has_one_and_a_shorter_one_is_refused():
    assert tuple_frames(3, 3).tolist() == [[0, 1, 2]]
    with pytest.raises(ValueError, match="a tuple of 3 frames needs clips of at least 3 frames, these have 2"):
        tuple_frames(2, 3)


@pytest.mark.parametrize("size", [2, 3])
def test_concatenated_frames_against_a_loop(size):
    frames = noise(2, 5, 7)
    rows = []
    for clip in frames:
        chosen = [torch.cat([clip[int(frame)] for frame in frames_of]) for frames_of in tuple_frames(5, size)]
        rows.append(torch.stack(chosen))
    same_gradient(concatenated_frames(frames, size), torch.stack(rows), frames)


def naive_scales(frame: Tensor, rows: int, columns: int) -> Tensor:
    """Return a frame's patches (row-major), then the averages of every 2x2 and of every second 4x4 window that fits."""
    cell = {(y, x): frame[y * columns + x] for y in range(rows) for x in range(columns)}
    scaled = list(frame)
    for window, stride in ((2, 1), (4, 2)):
        for y in range(0, rows - window + 1, stride):
            for x in range(0, columns - window + 1, stride):
                inside = [cell[y + dy, x + dx] for dy in range(window) for dx in range(window)]
                scaled.append(sum(inside) / window**2)
    return torch.stack(scaled)


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [(7, 7, 49 + 36 + 4), (4, 5, 20 + 12 + 1), (3, 5, 15 + 8), (5, 3, 15 + 8), (2, 2, 4 + 1), (1, 6, 6)],
)
def test_multi_scale_patches_against_a_loop(rows, columns, expected):
    patches = noise(2, 3, rows * columns, 5)
    ours = multi_scale_patches(patches, rows)
    assert ours.shape == (2, 3, expected, 5)
    naive = torch.stack([torch.stack([naive_scales(frame, rows, columns) for frame in clip]) for clip in patches])
    same_gradient(ours, naive, patches)


def test_multi_scale_patches_of_a_clip_do_not_depend_on_the_other_clips():
    patches = noise(3, 2, 12, 5)
    together = multi_scale_patches(patches, 3)
    for clip in range(3):
        assert torch.equal(multi_scale_patches(patches[clip : clip + 1], 3)[0], together[clip])


def test_mixed_clips_take_frame_t_times_clips_plus_v_of_the_flattened_batch():
    n_clips, n_frames = 3, 5
    patches = noise(n_clips, n_frames, 6, 2)
    straight = multi_scale_patches(patches, 2)
    mixed = multi_scale_patches(patches, 2, mix_clips=True)
    moved = 0
    for v in range(n_clips):
        for t in range(n_frames):
            clip, frame = divmod(t * n_clips + v, n_frames)
            assert torch.equal(mixed[v, t], straight[clip, frame])
            moved += clip != v
    assert moved > n_clips * n_frames / 2
