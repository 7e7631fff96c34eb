"""Train the heads of other published methods on episodes: their own terms and weights, on one episode a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from hcl.clips.batches import Batch, EpisodeSampler
from hcl.clips.episodes import Episodes
from hcl.models.precision import autocast
from hcl.rivals.heads import Targets
from hcl.rivals.model import HeadModel
from hcl.training.epoch import BatchLoss, Loss
from hcl.training.process_group import ProcessGroup
from hcl.training.validation import Validation, validate_pooled


@dataclass(frozen=True)
class HeadEpisodes:
    """Minimise the weighted terms of a head's loss; each episode is one batch.

    Attributes:
        terms: the names of the terms.
        reconstructs: a term compares with the clips' images, which must then be frames.
    """

    sampler: EpisodeSampler
    terms: tuple[str, ...]
    reconstructs: bool = False

    def loss(self, model: nn.Module, *, group: ProcessGroup, device: torch.device | str, precision: str) -> Loss:
        sampler = self.sampler
        bare: Any = getattr(model, "module", model)
        labels = torch.arange(sampler.way, device=device).repeat_interleave(sampler.queries)

        def images(clips: Tensor) -> Tensor:
            return bare.backbone.below(clips.flatten(0, 1), 0).unflatten(0, clips.shape[:2])

        def episode_loss(batch: Batch) -> BatchLoss:
            clips = batch.clips.to(device, non_blocking=True)
            classes = batch.labels.to(device, non_blocking=True)
            with autocast(device, precision):
                output = model(clips, sampler.way, sampler.shot, batch.draws.to(device))
            targets = Targets(labels[None], classes[None], images(clips)[None] if self.reconstructs else None)
            terms, weights = bare.head.losses(output, targets), bare.head.weights
            total = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
            right = (output.logits[0].detach().argmax(dim=-1) == labels).float().mean()
            return BatchLoss(terms, total, right)

        return episode_loss

    def validate(
        self, model: HeadModel, dataset: Dataset, episodes: Sequence[Episodes], *, group: ProcessGroup, **encoding: Any
    ) -> Validation:
        return validate_pooled(model, dataset, episodes, group=group, **encoding)
