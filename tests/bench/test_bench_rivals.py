"""Measure how much faster the heads of other methods are for batched episodes than one query at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hcl.rivals.hyrsm import Hyrsm, HyrsmSettings
from hcl.rivals.molo import Molo, MoloSettings
from hcl.rivals.otam import Otam
from hcl.rivals.probe import Probe, ProbeSettings
from hcl.rivals.trx import Trx, TrxSettings
from tests.bench.test_bench_matching import seconds, tell
from tests.hcl.rivals.naive import loop
from tests.hcl.rivals.tiny import STILL_HYRSM, STILL_MOLO

EPISODES, WAY, SHOT, QUERIES, FRAMES, CHANNELS = 2, 5, 1, 5, 8, 256

HEADS = {
    "OTAM": Otam,
    "TRX": lambda: Trx(CHANNELS, TrxSettings(dropout=0.0)),
    "HyRSM": lambda: Hyrsm(CHANNELS, 64, HyrsmSettings(**STILL_HYRSM)),
    "HyRSM++": lambda: Hyrsm(CHANNELS, 64, HyrsmSettings(**STILL_HYRSM, temporal=0.3)),
    "MoLo without decoder": lambda: Molo(CHANNELS, 64, MoloSettings(**STILL_MOLO, reconstruction=0.0)),
}


@pytest.mark.parametrize("name", HEADS)
def test_batched_episodes_against_a_loop_over_queries(name, capsys):
    """Compare forward and backward; the losses' other terms are left out of both."""
    torch.manual_seed(0)
    head = HEADS[name]()
    grid = (7, 7) if head.takes_maps else ()
    support = torch.rand(EPISODES, WAY, SHOT, FRAMES, CHANNELS, *grid, requires_grad=True)
    query = torch.rand(EPISODES, QUERIES, FRAMES, CHANNELS, *grid, requires_grad=True)

    def batched() -> Tensor:
        logits = head(support, query).logits
        logits.sum().backward()
        return logits

    def one_by_one() -> Tensor:
        logits, _ = loop(head, support, query)
        logits.sum().backward()
        return logits

    torch.testing.assert_close(batched(), one_by_one(), rtol=1e-3, atol=1e-3)
    ours, naive = seconds(batched), seconds(one_by_one, repeats=1)
    tell(
        capsys, f"{name}: {EPISODES} episodes {ours * 1e3:.0f} ms, in a loop {naive * 1e3:.0f} ms: {naive / ours:.0f} x"
    )


@pytest.mark.parametrize("kind", ["linear", "ridge", "cosine"])
def test_batched_classifiers_against_one_episode_at_a_time(kind, capsys):
    """Compare 16 episodes of 5 ways and 5 shots of 2048 channels."""
    torch.manual_seed(0)
    head = Probe(ProbeSettings(classifier=kind))
    support, query = torch.rand(16, 5, 5, 2048), torch.rand(16, 25, 2048)

    def one_by_one() -> None:
        for each in range(len(support)):
            head.match(support[each : each + 1], query[each : each + 1])

    ours, naive = seconds(lambda: head.match(support, query), repeats=1), seconds(one_by_one, repeats=1)
    tell(
        capsys, f"probe {kind}: {len(support)} episodes {ours:.2f} s, one at a time {naive:.2f} s: {naive / ours:.1f} x"
    )
