from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from hcl.clips.batches import draw_key
from hcl.models.dropout import dropped, kept

KEYS = torch.tensor([draw_key(0, clip) for clip in range(5)])
N = 20_000


def naive_word(key: int, number: int) -> int:
    """Return the `number`th word of SplitMix64 from a seed as published, in unsigned integers."""
    z = (key + (number + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def naive_begin(key: int, place: int) -> int:
    z = (key + place) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def naive_kept(key: int, place: int, n: int, rate: float) -> list[bool]:
    begin, stay = naive_begin(key, place), []
    for i in range(n):
        bits = naive_word(begin, i // 4) >> 16 * (i % 4) & 0xFFFF
        signed = bits - 2**16 if bits >= 2**15 else bits
        stay.append(signed + 2**15 >= round(rate * 2**16))
    return stay


@pytest.mark.parametrize(("place", "n", "rate"), [(0, 1, 0.5), (3, 4, 0.5), (2, 11, 0.1), (7, 98, 0.9)])
def test_what_stays_is_the_published_hash(place: int, n: int, rate: float) -> None:
    """Compare the integer hash, which is the same on every processor, with the published one."""
    ours = kept(KEYS, place, n, rate)
    assert ours.tolist() == [naive_kept(int(key), place, n, rate) for key in KEYS]


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_the_share_that_drops_out_is_the_rate(rate: float) -> None:
    shares = 1 - kept(KEYS, 0, N, rate).double().mean(dim=1)
    assert (shares - rate).abs().max() < 4 * (rate * (1 - rate) / N) ** 0.5


def test_clips_places_and_neighbours_are_independent() -> None:
    rows = torch.cat([kept(KEYS, place, N, 0.5) for place in range(4)]).double()
    shifted = [rows[:1].roll(by, dims=1) for by in (1, 2, 3, 4, 5)]
    correlations = torch.corrcoef(torch.cat([rows, *shifted])).fill_diagonal_(0)
    assert correlations.abs().max() < 5 / N**0.5


@pytest.mark.parametrize("n", [1, 7, 4 * 2**15 + 3])
def test_what_stays_of_a_clip_depends_neither_on_the_others_nor_on_what_follows(n: int) -> None:
    """Use few and many values, which are hashed for many clips at a time and for one."""
    together = kept(KEYS, 1, n, 0.3)
    assert together.shape == (5, n)
    for clip in range(5):
        assert torch.equal(kept(KEYS[clip : clip + 1], 1, n, 0.3)[0], together[clip])
    assert torch.equal(kept(KEYS, 1, n + 9, 0.3)[:, :n], together)


def test_values_that_stay_are_scaled_so_that_the_mean_stays_and_gradients_follow() -> None:
    x = torch.rand(5, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = dropped(x, KEYS, 2, 0.25)
    mask = kept(KEYS, 2, 21, 0.25).view(5, 3, 7)
    assert 0 < int(mask.sum()) < mask.numel()
    torch.testing.assert_close(y, x * mask / 0.75)
    y.backward(torch.full_like(y, 3.0))
    torch.testing.assert_close(x.grad, 4.0 * mask.double())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_kind_of_number_stays(dtype: torch.dtype) -> None:
    assert dropped(torch.ones(5, 3, dtype=dtype), KEYS, 0, 0.5).dtype == dtype


def test_the_ends_of_the_rate() -> None:
    x = torch.ones(5, N)
    assert dropped(x, KEYS, 0, 0.0) is x
    nearly_all = dropped(x, KEYS, 0, 0.999999)
    assert bool(nearly_all.isfinite().all()) and float((nearly_all == 0).double().mean()) > 0.999


def test_a_key_is_64_bits_of_all_that_it_names() -> None:
    names = [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0), (1, 0, 0, 0), (0, 0, 0), (2**31 - 1, 10**6, 9, 9)]
    keys = [draw_key(*one) for one in names]
    assert len(set(keys)) == len(keys) and all(-(2**63) <= key < 2**63 for key in keys)
    assert draw_key(1, 2, 3, 4) == draw_key(1, 2, 3, 4) == -3302535762206319437


def test_compilers_take_it_as_one_operator() -> None:
    torch.library.opcheck(torch.ops.hcl.kept.default, (KEYS, 1, 10, 655))


def test_tensors_without_content_have_the_shape() -> None:
    with FakeTensorMode():
        mask = kept(torch.zeros(3, dtype=torch.int64), 0, 10, 0.1)
        assert (mask.shape, mask.dtype) == ((3, 10), torch.bool)


@pytest.mark.gpu
def test_a_gpu_drops_out_what_a_cpu_does() -> None:
    for n in (5, N):
        assert torch.equal(kept(KEYS.cuda(), 3, n, 0.1).cpu(), kept(KEYS, 3, n, 0.1))


def test_nothing_is_drawn_from_torchs_generator() -> None:
    before: Tensor = torch.get_rng_state()
    dropped(torch.ones(5, 3), KEYS, 0, 0.5)
    assert torch.equal(torch.get_rng_state(), before)
