"""Dropout that is a function of what names it: a clip's key and a place in the model say which values fall out.

torch's own dropout takes its numbers from a generator, so that they depend on the number of workers, on the processor
and on everything that was drawn before. Here the bits are a hash of (key, place, number of the value), in integers: the
same on every processor, in every order, and again where a part is computed a second time.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_WORD, _BITS = 4, 16  # values that share a word of 64 bits, and the bits of each
# SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"), its constants signed.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_ROUNDS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64), (31, 1))
_WORDS_ON_CPU, _WORDS_ON_GPU = 2**15, 2**23  # hashed at a time: what stays in a processor's cache, and 64 MiB


def dropped(
    x: Float[Tensor, "clip *value"], keys: Int[Tensor, "clip"], place: int, rate: float
) -> Float[Tensor, "clip *value"]:
    """Set a share of each clip's values to 0 and scale the others, so that the mean stays.

    Args:
        keys: name the draws of each clip; see `hcl.clips.batches.draw_key`.
        place: numbers the dropout within the model.
        rate: the share, in steps of 1 / 65536.
    """
    if not (n_dropped := _in_steps(rate)):
        return x
    mask = kept(keys, place, x.shape[1:].numel(), rate).view(x.shape)
    return (x * mask).mul_(2**_BITS / (2**_BITS - n_dropped))


def kept(keys: Int[Tensor, "clip"], place: int, n: int, rate: float) -> Bool[Tensor, "clip n"]:
    """Return which of the first `n` values of each clip stay."""
    return torch.ops.hcl.kept(keys, place, n, _in_steps(rate))


def _in_steps(rate: float) -> int:
    return min(round(rate * 2**_BITS), 2**_BITS - 1)


# An operator of its own: torch.compile calls it as it is (a compiler may take overflow, which is meant here, for
# undefined), and a dry run needs no values to know the shape.
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
        # The lowest signed number of 16 bits is 0 here: of 65536 equally likely ones the n_dropped lowest fall out.
        torch.ge(words.view(torch.int16)[:, :n], n_dropped - 2 ** (_BITS - 1), out=rows)
    return mask


@_kept.register_fake
def _(keys: Tensor, place: int, n: int, n_dropped: int) -> Tensor:
    return keys.new_empty(len(keys), n, dtype=torch.bool)


def _mixed(words: Tensor) -> Tensor:
    """SplitMix64's finaliser, in place."""
    shifted = torch.empty_like(words)
    for bits, factor in _ROUNDS:
        torch.bitwise_right_shift(words, bits, out=shifted)
        words.bitwise_xor_(shifted.bitwise_and_(2 ** (64 - bits) - 1))  # the shift fills with the sign
        if factor != 1:
            words.mul_(factor)
    return words
