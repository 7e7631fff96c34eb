"""The estimate of a worker's memory that `hcl train --dry-run` shows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from hcl.assembly import models
from hcl.assembly.regimes import parts_of
from hcl.clips.batches import Batch
from hcl.config.resolve import override
from hcl.training.memory import CopiesOfWorkers, dry_step, state_bytes, without_content
from orchestration.training.run import Run


class Estimate(NamedTuple):
    """Bytes of one worker: the parts by arithmetic, and the whole by a dry run.

    The parts do not add up to the peak: what the encoder keeps is not among them, and not all are there at once.
    """

    parts: dict[str, int]
    peak: int


def estimate_memory(run: Run, n_classes: int) -> Estimate:
    """Estimate a step as the run would do it, in the precision and with the chunks that it names; compute nothing."""
    experiment = override(run.experiment, {"train.channels_last": False})  # the order of numbers takes no memory
    train = experiment.train
    batches = models.make_regime(experiment).sampler.batches_per_step(train.workers)
    n_clips = models.clips_per_step(experiment) // train.workers // batches  # only one batch of a step is in memory
    jobs = run.grid_jobs()
    clip_shape = jobs[0].clip_shape() if jobs else (experiment.clips.n_frames, 3, *[experiment.clips.size] * 2)
    with without_content() as peak:
        model = models.make_model(experiment, n_classes, random_weights=True)
        model.train()
        models.prepare_training(experiment, model, compile_parts=False)
        names = torch.zeros(n_classes, experiment.model.embedding_dim) if experiment.matching.semantic else None
        regime = models.make_regime(experiment, class_embeddings=names)
        group = CopiesOfWorkers(train.workers)
        loss = regime.loss(model, group=group, device="cpu", precision=train.precision)
        dtype = torch.float16 if jobs else torch.uint8
        n_numbers: list[int] = []
        if model.encoder is not None:
            model.encoder.register_forward_hook(lambda module, inputs, tokens: n_numbers.append(tokens.numel()))
        matching = parts_of(experiment).matching_memory(experiment, model, n_clips * train.workers)
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
        parts = state_bytes(model, optimizer=experiment.optim.optimizer, workers=train.workers)
    parts["backbone's activations (dry run)"] = step.backbone
    if n_numbers:
        parts["tokens, each time they are kept"] = 4 * n_numbers[0]
    parts |= matching()
    buckets = sum(value for name, value in parts.items() if "buckets" in name)
    return Estimate(parts, step.peak + buckets)
