"""Measure the speed of matching as ratios in one run; `make bench` prints them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from hcl.models.hcl import MatchingHeads
from hcl.training.losses import contrastive_terms, neighbouring_pairs


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the time of the fastest of some runs, after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def tell(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n  {line}")


def test_training_terms_against_the_matrix_products(capsys):
    """Compare the terms of 48 clips (8 x 49 patches, d 1152), forward and backward, with the necessary products."""
    clips, dim = 48, 1152
    heads = MatchingHeads(dim)
    tokens = torch.randn(clips, 8, 49, dim, requires_grad=True)
    pairs = neighbouring_pairs(0, clips)

    def terms() -> None:
        features = heads(tokens, rows=7)
        sum(contrastive_terms(features, features, pairs, chunk_size=8).values()).backward()

    x = torch.randn(clips * 8 * 49, dim)
    weight = torch.randn(dim, dim)
    q, s = torch.randn(clips, 98, dim), torch.randn(clips, dim, 98)

    def products() -> None:
        for _ in range(3):  # spatial_linear: forward, and backward to its input and its weight
            x @ weight
        for _ in range(clips):  # one pair of tuples for each pair of clips
            torch.bmm(q, s)

    ours, floor = seconds(terms, repeats=1), seconds(products)
    tell(capsys, f"training terms: {ours:.2f} s, matrix products alone {floor:.2f} s, ratio {ours / floor:.1f}")
