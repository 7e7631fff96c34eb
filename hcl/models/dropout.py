"""Drop values as a pure function of a clip's key and the place of the dropout in the model.

torch's own dropout draws its numbers from a generator, so that they depend on the number of workers, on the device and
on all earlier draws. Here the bits are an integer hash of (key, place, index of the value): they are the same on every
device, in every order, and when activation checkpointing computes a part a second time.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_WORD, _BITS = 4, 16  # values in a word of 64 bits, and the bits of each
# SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"); signed constants.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_ROUNDS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64), (31, 1))
_WORDS_ON_CPU, _WORDS_ON_GPU = 2**15, 2**23  # hashed at a time: fits a CPU's cache; 64 MiB


def dropped(
    x: Float[Tensor, "clip *value"], keys: Int[Tensor, "clip"], place: int, rate: float
) -> Float[Tensor, "clip *value"]:
    """Set a share of each clip's values to 0 and scale the others to keep the expected value.

    Args:
        keys: the seed of each clip's draws; see `hcl.clips.batches.draw_key`.
        place: index of the dropout within the model.
        rate: the share of dropped values, rounded to steps of 1 / 65536.
    """
    if not (n_dropped := _in_steps(rate)):
        return x
    mask = kept(keys, place, x.shape[1:].numel(), rate).view(x.shape)
    return (x * mask).mul_(2**_BITS / (2**_BITS - n_dropped))


def kept(keys: Int[Tensor, "clip"], place: int, n: int, rate: float) -> Bool[Tensor, "clip n"]:
    """Return a mask of the values to keep among the first `n` values of each clip."""
    return torch.ops.hcl.kept(keys, place, n, _in_steps(rate))


def _in_steps(rate: float) -> int:
    return min(round(rate * 2**_BITS), 2**_BITS - 1)


# A custom operator, because torch.compile calls it unchanged (a compiler may treat the intended integer overflow as
# undefined behaviour) and because a dry run gets its shape without values.
@torch.library.custom_op(
    "hcl::kept", mutates_args=(), schema="(Tensor keys, int place, int n, int n_dropped) -> Tensor"
)
def _kept(keys: Tensor, place: int, n: int, n_dropped: int) -> Tensor:
    n_words = -(-n // _WORD)
    counter = torch.arange(1, n_words + 1, device=keys.device).mul_(_GOLDEN)
    begins = _mixed(keys + place)
    mask = torch.empty(len(keys), n, dtype=torch.bool, device=keys.device)
    together = max(1, (_WORDS_ON_CPU if keys.device.type == "cpu" else _WORDS_ON_GPU) // max(1, n_words))
    for rows, begin in zip(mask.split(together), begins.split(together), strict=True):
        words = _mixed(begin[:, None] + counter)
        # The 16-bit values are signed and uniform: the n_dropped lowest of the 65536 are dropped.
        torch.ge(words.view(torch.int16)[:, :n], n_dropped - 2 ** (_BITS - 1), out=rows)
    return mask


@_kept.register_fake
def _(keys: Tensor, place: int, n: int, n_dropped: int) -> Tensor:
    return keys.new_empty(len(keys), n, dtype=torch.bool)


def _mixed(words: Tensor) -> Tensor:
    """Apply SplitMix64's finaliser in place."""
    shifted = torch.empty_like(words)
    for bits, factor in _ROUNDS:
        torch.bitwise_right_shift(words, bits, out=shifted)
        words.bitwise_xor_(shifted.bitwise_and_(2 ** (64 - bits) - 1))  # masks the sign bits that the shift fills in
        if factor != 1:
            words.mul_(factor)
    return words
