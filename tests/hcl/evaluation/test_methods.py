"""Test the features that methods keep of a clip, for methods without another test."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hcl.clips.episodes import Episodes
from hcl.evaluation.methods import SCORE, OrderedPrototype

FRAMES, CHANNELS, ROWS, COLUMNS = 3, 5, 2, 7
MODEL: Any = SimpleNamespace(grids=lambda clips: clips)  # passes given features instead of a backbone's


def grids(clips: int = 4) -> Tensor:
    return torch.rand(clips, FRAMES, CHANNELS, ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))


def kept(clips: Tensor) -> Tensor:
    return OrderedPrototype().keep(MODEL, clips, None, precision="float32")["clip"]


def test_a_prototype_is_made_of_unit_vectors_of_frames_in_order() -> None:
    ours = kept(grids())
    for clip, vector in zip(grids(), ours, strict=True):
        means = torch.cat([torch.stack([channel.sum() / (ROWS * COLUMNS) for channel in frame]) for frame in clip])
        torch.testing.assert_close(vector, means / means.square().sum().sqrt())
    torch.testing.assert_close(ours.norm(dim=-1), torch.ones(4))
    assert not torch.isclose(kept(grids().flip(1)), ours).all()


@pytest.mark.parametrize("factor", [0.01, 7.0])
def test_how_strong_the_features_of_a_clip_are_changes_no_answer(factor: float) -> None:
    """Use a query with the direction of class 0 and the length of class 1; only the direction must count."""
    towards = torch.zeros(3, FRAMES, CHANNELS, ROWS, COLUMNS)
    towards[0, :, 0] = 1.0  # class 0
    towards[1, :, 1] = factor  # class 1
    towards[2, :, 0], towards[2, :, 1] = factor, 0.3 * factor  # the query
    method, clips = OrderedPrototype(), kept(towards)
    table = {name: values.numpy() for name, values in method.pairs({"clip": clips}, {"clip": clips}).items()}
    episodes = Episodes(np.array([[0, 1]]), np.array([[[0], [1]]]), np.array([[[2], [2]]]))
    scores = method.look_up(table, episodes)[SCORE]
    cosine = 1 / (1 + 0.3**2) ** 0.5
    expected = [-(2 - 2 * cosine), -(2 - 2 * 0.3 * cosine)]  # squared distances of unit vectors
    np.testing.assert_allclose(scores, [[expected, expected]], rtol=1e-5)
