"""The dry run against tensors that are real, and against what the process takes."""

from __future__ import annotations

import ctypes
import multiprocessing
import platform
import resource
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hcl.clips.batches import Batch
from hcl.matching.similarity import match_patches, match_tuples
from hcl.models.backbone import make_backbone
from hcl.models.encoder import Encoder
from hcl.models.hcl import HCL, MatchingHeads
from hcl.training.memory import (
    CopiesOfWorkers,
    Peak,
    StepMemory,
    dry_step,
    matching_bytes,
    state_bytes,
    without_content,
)
from hcl.training.optimisation import make_optimizer, parameter_groups
from hcl.training.process_group import SingleProcess
from hcl.training.regimes import PairLoss
from tests.hcl.matching.test_similarity import unit

CLIPS, FRAMES, SIDE, DIM = 8, 8, 112, 192
SIGMAS = {"ce": 1.0, "global": 1.0, "temporal": 0.5, "temporal_cycle": 0.25, "spatial": 0.5}
FACTOR = 1.25
"""Between the estimate and what a process took on top of what it had: libraries keep workspaces."""


def step(peak: Peak, *, side: int = SIDE, precision: str = "float32", world: int = 1) -> StepMemory:
    backbone = make_backbone("resnet18", "none")
    model = HCL(backbone, Encoder(backbone.channels, d_model=DIM, n_heads=4), MatchingHeads(DIM), n_classes=4).train()
    groups = parameter_groups(model, lr=1e-4, backbone_lr_factor=0.1, weight_decay=0.0)
    group = SingleProcess() if world == 1 else CopiesOfWorkers(world)
    loss = PairLoss(model, SIGMAS, {"chunk_size": 4}, group, precision=precision)
    return dry_step(peak, model, make_optimizer(groups, name="adamw"), loss, lambda: batch(side))


def batch(side: int) -> Batch:
    clips = torch.randint(0, 256, (CLIPS, FRAMES, 3, side, side), dtype=torch.uint8)
    return Batch(clips, torch.arange(CLIPS) // 2, np.arange(CLIPS), torch.arange(CLIPS))


def pretended(**settings: Any) -> StepMemory:
    with without_content() as peak:
        return step(peak, **settings)


def test_a_dry_run_counts_what_real_tensors_take():
    with Peak() as peak:
        real = step(peak, side=64)
    for ours, theirs in zip(pretended(side=64), real, strict=True):
        assert ours == pytest.approx(theirs, rel=0.02)
    assert 0 < real.backbone < real.forward <= real.peak


def taken(sender: Any) -> None:
    """In a process of its own: what it takes at most, beyond what it had before the step."""
    torch.set_num_threads(1)
    ctypes.CDLL(None).mallopt(-3, 65536)  # M_MMAP_THRESHOLD: what is freed goes back, as a GPU's allocator reuses it
    with torch.no_grad():  # what the libraries load once
        make_backbone("resnet18", "none")(batch(32).clips[0])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step(Peak())
    sender.send(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the process's peak is read as Linux with glibc tells it")
def test_the_estimate_is_near_what_a_process_takes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    receiver, sender = context.Pipe()
    process = context.Process(target=taken, args=(sender,), daemon=True)
    process.start()
    assert receiver.poll(120)
    measured = receiver.recv()
    process.join(30)
    estimate = pretended().peak
    assert measured / FACTOR < estimate < measured * FACTOR, (measured / 1e6, estimate / 1e6)


def test_half_precision_and_more_workers_show():
    plain = pretended()
    assert pretended(precision="bfloat16").backbone < 0.65 * plain.backbone
    assert pretended(world=4).forward > plain.forward


def test_what_is_there_in_every_step_by_arithmetic():
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    model[0].requires_grad_(False)
    learnt = 4 * (5 + 5 + 10 + 2)
    weights = learnt + 4 * (15 + 5) + 4 * (5 + 5) + 8  # frozen layer, statistics, their count
    assert state_bytes(model, optimizer="adamw", workers=1) == {
        "weights": weights,
        "gradients": learnt,
        "adamw's averages": 2 * learnt,
    }
    more = state_bytes(model, optimizer="sgd", workers=2)
    assert (more["sgd's averages"], more["gradient buckets of the workers"]) == (learnt, learnt)


def test_matching_by_arithmetic_is_what_a_chunk_takes():
    patches, tuples = unit(6, 4, 7, 16).float(), unit(6, 6, 16).float()
    match = match_tuples(tuples[:3], tuples, 3)
    with Peak() as peak:
        match_patches(patches[:3], patches, match, size=2, ranks=1, top=5)
    expected = matching_bytes(clips=6, chunk_size=3, tuple_size=2, patches=7, d_model=16)
    assert expected < peak.peak < 2 * expected  # small here; at width 1152 the copies are nearly all
