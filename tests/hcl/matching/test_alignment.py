"""Compare each matcher with naive loops, and OTAM with its authors' recursion."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch

from hcl.matching.alignment import (
    SIMILARITIES,
    bimhm_similarity,
    chamfer_similarity,
    frame_cosines,
    otam_similarity,
    score_frames,
)


def frames(n: int, t: int, seed: int = 0, dim: int = 7) -> torch.Tensor:
    return torch.randn(n, t, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def otam_cost(cost: list[list[float]], temperature: float) -> float:
    """Compute the cost cell by cell, one pair at a time."""

    def soft_minimum(*ways: float) -> float:
        return -temperature * math.log(sum(math.exp(-way / temperature) for way in ways))

    rows = [[0.0, *row, 0.0] for row in cost]
    total = [[0.0] * len(rows[0]) for _ in rows]
    for m in range(1, len(rows[0])):
        total[0][m] = rows[0][m] + total[0][m - 1]
    last = len(rows[0]) - 1
    for l in range(1, len(rows)):  # noqa: E741
        for m in range(1, last + 1):
            ways = [total[l - 1][m - 1], total[l][m - 1]]
            if m in (1, last):
                ways.append(total[l - 1][m])
            total[l][m] = rows[l][m] + soft_minimum(*ways)
    return total[-1][-1]


@pytest.mark.parametrize(("t", "u"), [(5, 5), (3, 7), (1, 4), (2, 2)])
def test_otam_is_its_recursion_both_ways(t, u):
    query, support = frames(2, t), frames(3, u, seed=1)
    found = otam_similarity(frame_cosines(query, support), temperature=0.1)
    for q in range(2):
        for s in range(3):
            cost = [[1 - cosine(query[q, i], support[s, j]) for j in range(u)] for i in range(t)]
            turned = [list(column) for column in zip(*cost, strict=True)]
            expected = -(otam_cost(cost, 0.1) + otam_cost(turned, 0.1)) / 2
            assert float(found[q, s]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("t", "u"), [(5, 5), (3, 7)])
def test_sets_of_frames_against_loops(t, u):
    query, support = frames(2, t), frames(3, u, seed=1)
    cosines = frame_cosines(query, support)
    for q in range(2):
        for s in range(3):
            costs = [[1 - cosine(a, b) for b in support[s]] for a in query[q]]
            there = [min(row) for row in costs]
            back = [min(row[j] for row in costs) for j in range(u)]
            assert float(bimhm_similarity(cosines)[q, s]) == pytest.approx(-(sum(there) / t + sum(back) / u))
            assert float(chamfer_similarity(cosines)[q, s]) == pytest.approx(-2 * (sum(there) + sum(back)))


def test_order_matters_to_otam_alone():
    query = frames(1, 6)
    forward, backward = query, query.flip(1)
    for matcher in ("bimhm", "chamfer"):
        same, turned = (score_frames(query, one, matcher=matcher) for one in (forward, backward))
        torch.testing.assert_close(same, turned)
    assert score_frames(query, forward, matcher="otam") > score_frames(query, backward, matcher="otam") + 0.1


def test_otam_forgives_late_beginnings():
    """Check that the same frames after other frames cost less than frames in another order."""
    query = frames(1, 6)
    late = torch.cat([frames(1, 2, seed=5), query[:, :4]], dim=1)
    shuffled = torch.cat([frames(1, 2, seed=5), query[:, :4].flip(1)], dim=1)
    assert score_frames(query, late, matcher="otam") > score_frames(query, shuffled, matcher="otam")


@pytest.mark.parametrize("matcher", list(SIMILARITIES))
def test_pairs_are_symmetric_and_chunks_change_nothing(matcher):
    clips = frames(5, 4).float()
    whole = score_frames(clips, clips, matcher=matcher)
    torch.testing.assert_close(whole, whole.T)
    torch.testing.assert_close(score_frames(clips, clips, matcher=matcher, chunk_size=2), whole)
    assert (whole.argmax(dim=1) == torch.arange(5)).all()  # the clip itself is the nearest


def test_cosines_of_a_batch_with_an_offset():
    """Compare with the released form, in which 0.01 added to the lengths makes short features look distant."""
    query, support = (
        torch.stack([frames(2, 3), frames(2, 3, seed=1)]),
        torch.stack([frames(4, 5), frames(4, 5, seed=2)]),
    )
    found = frame_cosines(query, support, offset=0.01)
    assert found.shape == (2, 2, 4, 3, 5)
    for e, q, s, a, b in itertools.product(range(2), range(2), range(4), range(3), range(5)):
        x, y = query[e, q, a], support[e, s, b]
        assert float(found[e, q, s, a, b]) == pytest.approx(float(x @ y / (x.norm() * y.norm() + 0.01)))
    short = frame_cosines(1e-2 * query, 1e-2 * support, offset=0.01)
    assert short.abs().max() < 0.2 < found.abs().max()
    torch.testing.assert_close(frame_cosines(1e-2 * query, support), frame_cosines(query, support))


@pytest.mark.parametrize(("t", "u"), [(3, 3), (3, 4), (1, 3), (3, 1), (1, 1)])
@pytest.mark.parametrize("plain", [True, False])
def test_the_gradient_of_the_soft_minimum_recursion(t, u, plain):
    cosines = frames(2, t, dim=u).tanh().requires_grad_()
    recursion = partial(otam_similarity, temperature=0.1, plain_exponentials=plain)
    assert torch.autograd.gradcheck(recursion, (cosines,))
    torch.testing.assert_close(recursion(cosines), otam_similarity(cosines, temperature=0.1))


def test_plain_exponentials_overflow_in_single_precision_where_costs_are_high():
    opposed = -torch.ones(1, 8, 8)
    assert otam_similarity(opposed, plain_exponentials=True).isinf().all()
    torch.testing.assert_close(
        otam_similarity(opposed).double(), otam_similarity(opposed.double(), plain_exponentials=True)
    )
