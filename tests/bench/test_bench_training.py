"""Speed and memory of a training step, as ratios measured in one run: `make bench` prints them."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from hcl.assembly import arguments, models
from hcl.clips.batches import Batch
from hcl.config import Experiment
from hcl.config.resolve import resolve
from hcl.models.hcl import MatchingHeads
from hcl.training.epoch import train_step
from hcl.training.losses import contrastive_terms, neighbouring_pairs
from hcl.training.memory import without_content
from hcl.training.process_group import DistributedGroup, ProcessGroup, SingleProcess
from hcl.training.regimes import PairLoss
from tests.bench.test_bench_matching import seconds, tell

WORKERS = {
    "model.backbone": "resnet18",
    "model.weights": "none",
    "model.d_model": 192,
    "clips.size": 112,
    "train.classes_per_batch": 4,
}


def batch_of(experiment: Experiment, group: ProcessGroup) -> Batch:
    """This worker's share of a batch, read already."""
    n_clips, clips = 2 * experiment.train.classes_per_batch, experiment.clips
    shape = (n_clips, clips.n_frames, 3, clips.size, clips.size)
    frames = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    rows = np.split(np.arange(n_clips), group.world_size)[group.rank]
    return Batch(frames[rows], torch.from_numpy(rows // 2), rows, torch.from_numpy(rows))


def step_of(experiment: Experiment, group: ProcessGroup) -> Any:
    """A model, and a function that does one step of training with it."""
    model = models.make_model(experiment, experiment.train.classes_per_batch, random_weights=True).train()
    optimizer = models.optimizer_of(experiment, model)
    wrapped = model if isinstance(group, SingleProcess) else DistributedDataParallel(model)
    loss = PairLoss(wrapped, arguments.sigmas_of_loss(experiment), arguments.training_matching(experiment), group)
    batch, norm = batch_of(experiment, group), experiment.optim.clip_norm
    return model, lambda: train_step(wrapped, optimizer, [batch], loss=loss, clip_norm=norm, group=group)


def test_a_step_against_its_backbone(capsys):
    """The published model, 4 classes x 2 clips of 8 frames at 224: what is left beside the backbone."""
    experiment = resolve("published", {"train.classes_per_batch": 4}).experiment
    model, step = step_of(experiment, SingleProcess())
    frames = batch_of(experiment, SingleProcess()).clips.flatten(0, 1)

    def backbone() -> None:
        model.zero_grad(set_to_none=True)
        model.backbone(frames).sum().backward()

    ours, alone = seconds(step, repeats=2), seconds(backbone, repeats=2)
    tell(capsys, f"a step: {ours:.2f} s, its backbone alone {alone:.2f} s, ratio {ours / alone:.2f} (bar 1.15)")


def worker(rank: int, world: int, folder: str, sender: Any) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    group: ProcessGroup = SingleProcess()
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world)
        group = DistributedGroup()
    _, step = step_of(resolve(None, WORKERS).experiment, group)
    step()
    began = time.perf_counter()
    for _ in range(5):
        step()
    sender.send(time.perf_counter() - began)


def test_two_workers_against_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same batches on one core and on two, one thread each, clips read before: what DDP and gathering cost."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    took = {}
    for world in (1, 2):
        receiver, sender = context.Pipe()
        processes = [context.Process(target=worker, args=(r, world, str(tmp_path), sender)) for r in range(world)]
        for process in processes:
            process.start()
        took[world] = max(receiver.recv() for _ in processes)
        for process in processes:
            process.join()
    clips = 5 * 2 * WORKERS["train.classes_per_batch"]
    speeds = ", ".join(f"{clips / one:.1f} clips/s by {world}" for world, one in took.items())
    tell(capsys, f"workers: {speeds}, ratio {took[1] / took[2]:.2f} (bar 1.6)")


@pytest.mark.parametrize("chunk_size", [4, 16])
def test_memory_of_matching(chunk_size, capsys):
    """48 clips of 8 x 49 patches at d 1152 from tokens to gradients, by a dry run: exact, whatever the machine does."""
    with without_content() as peak:
        heads, tokens = MatchingHeads(1152), torch.randn(48, 8, 49, 1152, requires_grad=True)
        features = heads(tokens, rows=7)
        before = peak.live
        terms = contrastive_terms(features, features, neighbouring_pairs(0, 48), chunk_size=chunk_size)
        kept = peak.live - before
        sum(terms.values()).backward()
    tell(capsys, f"matching in chunks of {chunk_size}: at most {peak.peak / 1e9:.2f} GB, kept {kept / 1e9:.2f} GB")
    assert peak.peak < 2e9
