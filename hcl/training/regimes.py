"""Define the training regimes: the batches of a step, their loss, and the scoring of validation episodes.

HCL's pair batches, four baselines that learn from episodes, and a plain classifier share one protocol, so that the
training loop does not depend on the regime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from hcl.clips.batches import Batch, EpisodeSampler, PairSampler, Sampler
from hcl.clips.episodes import Episodes
from hcl.evaluation.matcher import Matcher
from hcl.models.hcl import HCL
from hcl.models.pooled import PooledModel
from hcl.models.precision import autocast
from hcl.training.epoch import BatchLoss, Loss, PairLoss
from hcl.training.losses import TERMS
from hcl.training.validation import Validation, validate, validate_pooled
from hcl.training.workers import Gather


@runtime_checkable
class Regime(Protocol):
    """Define the interface between a regime and the training loop."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Return the names of a batch's loss terms."""
        ...

    @property
    def sampler(self) -> Sampler:
        """Return the sampler of the training batches."""
        ...

    def loss(self, model: nn.Module, *, gather: Gather, device: torch.device | str, precision: str) -> Loss:
        """Return the loss function of a batch. `model` is the regime's model, or DDP around it."""
        ...

    def validate(
        self, model: Any, dataset: Dataset, episodes: Sequence[Episodes], *, gather: Gather, **encoding: Any
    ) -> Validation:
        """Return the accuracy of each episode, of one or several shots, by the regime's own matcher.

        Args:
            encoding: as in `hcl.models.encoding.encode`.
        """
        ...


@dataclass(frozen=True)
class Contrastive:
    """Train HCL with contrastive terms and classification on pair batches (METHOD "Training terms").

    Args:
        sigmas: weight of each term.
        matching: the keyword arguments of `hcl.training.losses.contrastive_terms`.
        matcher, fusion: the matcher of the validation episodes, and the weights of the levels.
        candidates: other weights of the levels, which validation compares.
        class_embeddings: embedding of each training class's name.
        clip_embeddings: embedding of the class name of each validation clip.
    """

    sampler: PairSampler
    sigmas: Mapping[str, float]
    matching: Mapping[str, Any]
    matcher: Matcher
    fusion: Mapping[str, float]
    candidates: Float[Tensor, "candidate 3"] | None = None
    class_embeddings: Tensor | None = None
    clip_embeddings: Tensor | None = None
    terms: tuple[str, ...] = TERMS

    def loss(self, model: nn.Module, *, gather: Gather, device: torch.device | str, precision: str) -> Loss:
        return PairLoss(
            model,
            sigmas=self.sigmas,
            matching=self.matching,
            embeddings=self.class_embeddings,
            gather=gather,
            device=device,
            precision=precision,
        )

    def validate(
        self, model: HCL, dataset: Dataset, episodes: Sequence[Episodes], *, gather: Gather, **encoding: Any
    ) -> Validation:
        return validate(
            model,
            dataset,
            episodes,
            self.matcher,
            sigmas=self.fusion,
            candidates=self.candidates,
            embeddings=self.clip_embeddings,
            gather=gather,
            **encoding,
        )


@dataclass(frozen=True)
class Classification:
    """Train by cross entropy of the training classes on pooled features; score episodes by the cosine to each class."""

    sampler: PairSampler
    terms: tuple[str, ...] = ("ce",)

    def loss(self, model: nn.Module, *, gather: Gather, device: torch.device | str, precision: str) -> Loss:
        def batch_loss(batch: Batch) -> BatchLoss:
            labels = batch.labels.to(device, non_blocking=True)
            with autocast(device, precision):
                logits = model(batch.clips.to(device, non_blocking=True), draws=batch.draws.to(device))
            return _outcome("ce", nn.functional.cross_entropy(logits, labels), logits, labels)

        return batch_loss

    def validate(
        self, model: PooledModel, dataset: Dataset, episodes: Sequence[Episodes], *, gather: Gather, **encoding: Any
    ) -> Validation:
        return validate_pooled(model, dataset, episodes, gather=gather, **encoding)


@dataclass(frozen=True)
class Episodic:
    """Train a baseline on episodes like those of the test; each episode is one batch."""

    sampler: EpisodeSampler
    terms: tuple[str, ...] = ("episode",)

    def loss(self, model: nn.Module, *, gather: Gather, device: torch.device | str, precision: str) -> Loss:
        sampler = self.sampler
        head: Any = getattr(model, "module", model).head  # type: ignore[union-attr]
        target = torch.arange(sampler.way, device=device).repeat_interleave(sampler.queries)

        def episode_loss(batch: Batch) -> BatchLoss:
            with autocast(device, precision):
                clips = batch.clips.to(device, non_blocking=True)
                scores = model(clips, sampler.way, sampler.shot, batch.draws.to(device))
            return _outcome("episode", head.loss(scores, target), scores, target)

        return episode_loss

    def validate(
        self, model: PooledModel, dataset: Dataset, episodes: Sequence[Episodes], *, gather: Gather, **encoding: Any
    ) -> Validation:
        return validate_pooled(model, dataset, episodes, gather=gather, **encoding)


def _outcome(term: str, value: Tensor, scores: Tensor, target: Tensor) -> BatchLoss:
    accuracy = (scores.detach().argmax(dim=-1) == target).float().mean()
    return BatchLoss({term: value}, value, accuracy)
