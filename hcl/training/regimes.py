"""How a run learns: what a step is made of, what is minimised, and how an episode of validation is scored.

HCL's pair batches, four baselines that learn from episodes, and a plain classifier stand behind one protocol; nothing
above it asks which of them it is.
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
    """Everything that training asks of a way to learn."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the loss terms of a batch."""
        ...

    @property
    def sampler(self) -> Sampler:
        """What a step is made of."""
        ...

    def loss(self, model: nn.Module, *, gather: Gather, device: torch.device | str, precision: str) -> Loss:
        """What a batch costs. `model` is the regime's own, or DDP around it."""
        ...

    def validate(
        self, model: Any, dataset: Dataset, episodes: Sequence[Episodes], *, gather: Gather, **encoding: Any
    ) -> Validation:
        """The accuracy of each episode, of one or several shots, by the regime's own matcher.

        Args:
            encoding: as in `hcl.models.encoding.encode`.
        """
        ...


@dataclass(frozen=True)
class Contrastive:
    """HCL: contrastive terms and classification of pair batches (METHOD "Training terms").

    Args:
        sigmas: weight of each term.
        matching: the keyword arguments of `hcl.training.losses.contrastive_terms`.
        matcher, fusion: how episodes of validation are compared, and the weights of the levels.
        candidates: further weights of the levels that validation tries.
        class_embeddings, clip_embeddings: of the training classes' names and of the validation clips' class names.
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
    """Cross entropy of the training classes on pooled features; episodes by the cosine to each class."""

    sampler: PairSampler
    terms: tuple[str, ...] = ("ce",)

    def loss(self, model: nn.Module, *, gather: Gather, device: torch.device | str, precision: str) -> Loss:
        def of_batch(batch: Batch) -> BatchLoss:
            labels = batch.labels.to(device, non_blocking=True)
            with autocast(device, precision):
                logits = model(batch.clips.to(device, non_blocking=True), draws=batch.draws.to(device))
            return _outcome("ce", nn.functional.cross_entropy(logits, labels), logits, labels)

        return of_batch

    def validate(
        self, model: PooledModel, dataset: Dataset, episodes: Sequence[Episodes], *, gather: Gather, **encoding: Any
    ) -> Validation:
        return validate_pooled(model, dataset, episodes, gather=gather, **encoding)


@dataclass(frozen=True)
class Episodic:
    """A baseline that learns from episodes as it is tested; each episode is one batch."""

    sampler: EpisodeSampler
    terms: tuple[str, ...] = ("episode",)

    def loss(self, model: nn.Module, *, gather: Gather, device: torch.device | str, precision: str) -> Loss:
        sampler = self.sampler
        head: Any = getattr(model, "module", model).head  # type: ignore[union-attr]
        target = torch.arange(sampler.way, device=device).repeat_interleave(sampler.queries)

        def of_episode(batch: Batch) -> BatchLoss:
            with autocast(device, precision):
                clips = batch.clips.to(device, non_blocking=True)
                scores = model(clips, sampler.way, sampler.shot, batch.draws.to(device))
            return _outcome("episode", head.loss(scores, target), scores, target)

        return of_episode

    def validate(
        self, model: PooledModel, dataset: Dataset, episodes: Sequence[Episodes], *, gather: Gather, **encoding: Any
    ) -> Validation:
        return validate_pooled(model, dataset, episodes, gather=gather, **encoding)


def _outcome(term: str, value: Tensor, scores: Tensor, target: Tensor) -> BatchLoss:
    accuracy = (scores.detach().argmax(dim=-1) == target).float().mean()
    return BatchLoss({term: value}, value, accuracy)
