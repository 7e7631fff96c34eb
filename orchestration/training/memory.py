"""Estimate a worker's memory for `hcl train --dry-run`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from hcl.assembly import models
from hcl.clips.batches import Batch
from hcl.config.resolve import override
from hcl.models.hcl import HCL
from hcl.training.memory import CopiesOfWorkers, dry_step, matching_bytes, state_bytes, without_content
from orchestration.training.run import Run


class Estimate(NamedTuple):
    """Hold the bytes of one worker: parts by arithmetic, and the peak by a dry run.

    The parts do not add up to the peak: it also includes what the encoder keeps, and not all parts exist at the same
    time.
    """

    parts: dict[str, int]
    peak: int


def estimate_memory(run: Run, n_classes: int) -> Estimate:
    """Estimate a training step in the run's precision and with its chunks; nothing is computed."""
    experiment = override(run.experiment, {"train.channels_last": False})  # the memory layout changes no sizes
    train, matching, optim = experiment.train, experiment.matching, experiment.optim
    batches = models.make_regime(experiment).sampler.batches_per_step(train.workers)
    n_clips = models.clips_per_step(experiment) // train.workers // batches  # only one batch of a step is in memory
    jobs = run.grid_jobs()
    clip_shape = jobs[0].clip_shape() if jobs else (experiment.clips.n_frames, 3, *[experiment.clips.size] * 2)
    with without_content() as peak:
        model = models.make_model(experiment, n_classes, random_weights=True)
        model.train()
        models.prepare_training(experiment, model, compile_parts=False)
        names = torch.zeros(n_classes, experiment.model.embedding_dim) if matching.semantic else None
        regime = models.make_regime(experiment, class_embeddings=names)
        gather = CopiesOfWorkers(train.workers)
        loss = regime.loss(model, gather=gather, device="cpu", precision=train.precision)
        dtype = torch.float16 if jobs else torch.uint8
        shapes: list[torch.Size] = []
        if model.encoder is not None:
            model.encoder.register_forward_hook(lambda module, inputs, tokens: shapes.append(tokens.shape))
        if isinstance(model, HCL):
            model.heads.register_forward_hook(lambda module, inputs, features: shapes.append(features.patches[0].shape))
        step = dry_step(
            peak,
            model,
            models.optimizer_of(experiment, model),
            loss,
            lambda: Batch(
                torch.zeros(n_clips, *clip_shape, dtype=dtype),
                torch.zeros(n_clips, dtype=torch.int64),
                np.arange(n_clips),
                torch.zeros(n_clips, dtype=torch.int64),
            ),
        )
        parts = state_bytes(model, optimizer=optim.optimizer, workers=train.workers)
    parts["backbone's activations (dry run)"] = step.backbone
    if shapes:
        parts["tokens, each time they are kept"] = 4 * shapes[0].numel()
    if isinstance(model, HCL):
        tokens, patches = shapes
        parts[f"matching of {matching.chunk_size} clips with all"] = matching_bytes(
            clips=n_clips * train.workers,
            chunk_size=matching.chunk_size,
            tuple_size=max(matching.tuple_sizes),
            patches=patches[2],
            d_model=tokens[-1],
        )
    buckets = sum(value for name, value in parts.items() if "buckets" in name)
    return Estimate(parts, step.peak + buckets)
