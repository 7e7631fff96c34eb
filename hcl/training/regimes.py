"""The ways to learn: each says what a step is made of, what is minimised, and how an episode of validation is scored.

HCL's pair batches, baselines that learn from episodes, and a plain classifier stand behind one protocol; no caller asks
which of them it has. `hcl.assembly.regimes` makes them by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import Dataset

from hcl.clips.batches import Batch, EpisodeSampler, PairSampler, Sampler
from hcl.clips.episodes import Episodes
from hcl.evaluation.matcher import Matcher
from hcl.models.hcl import HCL
from hcl.models.pooled import PooledModel
from hcl.models.precision import autocast
from hcl.training.epoch import BatchLoss, Loss
from hcl.training.losses import TERMS, classification_loss, contrastive_terms, neighbouring_pairs, weighted_total
from hcl.training.process_group import ProcessGroup, SingleProcess
from hcl.training.validation import Validation, validate, validate_pooled


@runtime_checkable
class Regime(Protocol):
    """A way to learn, as training asks for it."""

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of the loss terms of a batch."""
        ...

    @property
    def sampler(self) -> Sampler:
        """The sampler of the clips of each step."""
        ...

    def loss(self, model: nn.Module, *, group: ProcessGroup, device: torch.device | str, precision: str) -> Loss:
        """Return the loss of batches. `model` is the regime's own, or DDP around it."""
        ...

    def validate(
        self, model: Any, dataset: Dataset, episodes: Sequence[Episodes], *, group: ProcessGroup, **encoding: Any
    ) -> Validation:
        """Return the accuracy of each episode, of one or several shots, by the regime's own matcher.

        Args:
            encoding: as in `hcl.models.encoding.encode`.
        """
        ...


@dataclass(frozen=True)
class PairLoss:
    """The loss of HCL on a pair batch: classification, and the contrastive terms of all workers' features.

    Args:
        model: `HCL`, or DDP around it.
        sigmas: the weight of each term of `hcl.training.losses.TERMS`, by name.
        matching: the keyword arguments of `hcl.training.losses.contrastive_terms`.
        precision: of the tokens; heads, matching and losses stay in float32.
        embeddings: of each class's name, for heads with semantics.
    """

    model: nn.Module
    sigmas: Mapping[str, float]
    matching: Mapping[str, Any]
    group: ProcessGroup = field(default_factory=SingleProcess)
    device: torch.device | str = "cpu"
    precision: str = "float32"
    embeddings: Tensor | None = None

    def __call__(self, batch: Batch) -> BatchLoss:
        clips = batch.clips.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True)
        embeddings = None if self.embeddings is None else self.embeddings[batch.labels].to(self.device)
        with autocast(self.device, self.precision):
            features, logits = self.model(clips, embeddings, batch.draws.to(self.device))
        pairs = neighbouring_pairs(self.group.rank * len(labels), len(labels), logits.device)
        terms = {"ce": classification_loss(logits, labels)}
        terms |= contrastive_terms(features, self.group.all_gather(features), pairs, **self.matching)
        return BatchLoss(terms, weighted_total(terms, self.sigmas), _accuracy(logits, labels))


@dataclass(frozen=True)
class Contrastive:
    """HCL: contrastive terms and classification of pair batches (METHOD "Training terms").

    Args:
        loss_sigmas: the weight of each term, by name.
        matching: the keyword arguments of `hcl.training.losses.contrastive_terms`.
        matcher: the comparison of the clips of validation episodes.
        fusion_sigmas: the weight of each level in it, by name.
        candidates: further weights of the levels that validation tries.
        class_embeddings, clip_embeddings: of the training classes' names and of the validation clips' class names.
    """

    sampler: PairSampler
    loss_sigmas: Mapping[str, float]
    matching: Mapping[str, Any]
    matcher: Matcher
    fusion_sigmas: Mapping[str, float]
    candidates: Sequence[Mapping[str, float]] = ()
    class_embeddings: Tensor | None = None
    clip_embeddings: Tensor | None = None
    terms: tuple[str, ...] = TERMS

    def loss(self, model: nn.Module, *, group: ProcessGroup, device: torch.device | str, precision: str) -> Loss:
        return PairLoss(
            model,
            sigmas=self.loss_sigmas,
            matching=self.matching,
            embeddings=self.class_embeddings,
            group=group,
            device=device,
            precision=precision,
        )

    def validate(
        self, model: HCL, dataset: Dataset, episodes: Sequence[Episodes], *, group: ProcessGroup, **encoding: Any
    ) -> Validation:
        return validate(
            model,
            dataset,
            episodes,
            self.matcher,
            sigmas=self.fusion_sigmas,
            candidates=self.candidates,
            embeddings=self.clip_embeddings,
            group=group,
            **encoding,
        )


@dataclass(frozen=True)
class Classification:
    """Cross entropy of the training classes on pooled features; episodes by the cosine to each class."""

    sampler: PairSampler
    terms: tuple[str, ...] = ("ce",)

    def loss(self, model: nn.Module, *, group: ProcessGroup, device: torch.device | str, precision: str) -> Loss:
        def of_batch(batch: Batch) -> BatchLoss:
            labels = batch.labels.to(device, non_blocking=True)
            with autocast(device, precision):
                logits = model(batch.clips.to(device, non_blocking=True), draws=batch.draws.to(device))
            return _outcome("ce", nn.functional.cross_entropy(logits, labels), logits, labels)

        return of_batch

    def validate(
        self,
        model: PooledModel,
        dataset: Dataset,
        episodes: Sequence[Episodes],
        *,
        group: ProcessGroup,
        **encoding: Any,
    ) -> Validation:
        return validate_pooled(model, dataset, episodes, group=group, **encoding)


@dataclass(frozen=True)
class Episodic:
    """A baseline that learns from episodes as it is tested; each episode is one batch."""

    sampler: EpisodeSampler
    terms: tuple[str, ...] = ("episode",)

    def loss(self, model: nn.Module, *, group: ProcessGroup, device: torch.device | str, precision: str) -> Loss:
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
        self,
        model: PooledModel,
        dataset: Dataset,
        episodes: Sequence[Episodes],
        *,
        group: ProcessGroup,
        **encoding: Any,
    ) -> Validation:
        return validate_pooled(model, dataset, episodes, group=group, **encoding)


def _outcome(term: str, value: Tensor, scores: Tensor, target: Tensor) -> BatchLoss:
    """Return the loss of a regime that has a single term."""
    return BatchLoss({term: value}, value, _accuracy(scores, target))


def _accuracy(scores: Float[Tensor, "clip class"], target: Int[Tensor, "clip"]) -> Float[Tensor, ""]:
    return (scores.detach().argmax(dim=-1) == target).float().mean()
