"""Fit a small classifier on an episode's support and classify its queries with it; nothing is trained before.

The linear classifier follows Tian et al., "Rethinking few-shot image classification", ECCV 2020 (logistic regression on
unit vectors), the cosine classifier Chen et al., "A closer look at few-shot classification", ICLR 2019. They are the
baselines on frozen features, or on features of a classifier of the training classes. All is deterministic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hcl.models.baselines import Classifier
from hcl.models.precision import in_full_precision
from hcl.rivals.heads import Draws, Keys, Output, Targets, divided, joined
from hcl.rivals.minimisation import minimise


@dataclass(frozen=True)
class ProbeSettings:
    """Hold the settings of the probe.

    Attributes:
        classifier: `linear` is logistic regression, `ridge` is least squares to one-hot vectors in closed form, both
            with a bias; `cosine` compares with one vector a class, which starts as the mean of the class's support.
        unit_length: divide the clips' features by their length; the cosine classifier always does.
        penalty: of the squared weights, halved, beside the sum of the support's losses (`linear`, `ridge`).
        temperature: divides the cosines.
        steps: largest number of L-BFGS steps.
    """

    classifier: Literal["linear", "ridge", "cosine"] = "linear"
    unit_length: bool = True
    penalty: float = 1.0
    temperature: float = 0.1
    steps: int = 100

    CORRECTED: ClassVar[Mapping[str, Any]] = {}


class Probe(nn.Module):
    """Classify by a classifier of the episode's own, which takes the mean of a clip's frames; it has no parameters."""

    takes_maps = False

    def __init__(self, settings: ProbeSettings | None = None):
        super().__init__()
        self.settings = settings or ProbeSettings()

    @property
    def weights(self) -> dict[str, float]:
        return {}

    def scores_by_pairs(self, shot: int) -> bool:
        return False

    def encode(self, clips: Float[Tensor, "clip frame channel"], keys: Keys = None) -> Float[Tensor, "clip channel"]:
        means = clips.mean(dim=1)
        unit = self.settings.unit_length or self.settings.classifier == "cosine"
        return functional.normalize(means, dim=-1) if unit else means

    @torch.no_grad()
    def match(
        self,
        support: Float[Tensor, "episode way shot channel"],
        query: Float[Tensor, "episode query channel"],
        draws: Draws | None = None,
    ) -> Output:
        """Return the classifier's logits, without gradients, computed in float64.

        The classifiers lie in the span of the support, so that they are fitted in coordinates of that span.
        """
        settings = self.settings
        with in_full_precision(support.device):
            points, queries = support.flatten(1, 2).double(), query.double()
            basis = torch.linalg.qr(points.transpose(1, 2)).Q
            points, queries = points @ basis, queries @ basis
            labels = repeat(torch.arange(support.shape[1], device=points.device), "way -> (way k)", k=support.shape[2])
            if settings.classifier == "linear":
                logits = logistic_logits(points, labels, queries, penalty=settings.penalty, steps=settings.steps)
            elif settings.classifier == "ridge":
                logits = ridge_logits(points, labels, queries, penalty=settings.penalty)
            else:
                logits = cosine_logits(points, labels, queries, temperature=settings.temperature, steps=settings.steps)
        return Output(logits.to(query.dtype))

    def forward(
        self,
        support: Float[Tensor, "episode way shot frame channel"],
        query: Float[Tensor, "episode query frame channel"],
        draws: Draws | None = None,
    ) -> Output:
        return self.match(*divided(self.encode(joined(support, query)), support, query))

    def losses(self, output: Output, targets: Targets) -> dict[str, Float[Tensor, ""]]:
        """Return no terms: the features are frozen, or trained in another way."""
        return {}


class ProbeHead(Classifier):
    """Learn a classifier of the training classes; classify new classes by a probe of its input features.

    Args:
        channels: width of the pooled features.
        n_classes: number of training classes.
    """

    takes_many = True

    def __init__(self, channels: int, n_classes: int, settings: ProbeSettings | None = None):
        super().__init__(channels, n_classes)
        self.probe = Probe(settings)

    def forward(
        self, query: Float[Tensor, "episode query dim"], support: Float[Tensor, "episode way shot dim"]
    ) -> Float[Tensor, "episode query way"]:
        frames = (support[..., None, :], query[..., None, :])  # `Probe` averages over time, which `pool` has done
        return self.probe(*frames).logits


def logistic_logits(
    points: Float[Tensor, "episode support dim"],
    labels: Int[Tensor, "support"],
    queries: Float[Tensor, "episode query dim"],
    *,
    penalty: float,
    steps: int,
) -> Float[Tensor, "episode query way"]:
    """Fit weights and biases to minimise the summed cross entropy plus penalty / 2 times the squared weights."""
    way = _n_ways(labels)

    def divide(flat: Tensor) -> tuple[Tensor, Tensor]:
        return rearrange(flat[:, way:], "b (w d) -> b w d", w=way), flat[:, None, :way]

    def objective(flat: Float[Tensor, "episode parameter"]) -> Float[Tensor, "episode"]:
        weights, biases = divide(flat)
        losses = _cross_entropies(points @ weights.transpose(1, 2) + biases, labels)
        return losses + penalty / 2 * weights.square().sum(dim=(1, 2))

    start = points.new_zeros(len(points), way * (1 + points.shape[-1]))
    weights, biases = divide(minimise(objective, start, steps=steps))
    return queries @ weights.transpose(1, 2) + biases


def ridge_logits(
    points: Float[Tensor, "episode support dim"],
    labels: Int[Tensor, "support"],
    queries: Float[Tensor, "episode query dim"],
    *,
    penalty: float,
) -> Float[Tensor, "episode query way"]:
    """Fit weights and biases to minimise the squared errors to one-hot vectors plus penalty times squared weights."""
    wanted = functional.one_hot(labels, _n_ways(labels)).to(points)
    mean, mean_wanted = points.mean(dim=1, keepdim=True), wanted.mean(dim=0)
    centred = points - mean
    gram = centred.transpose(1, 2) @ centred
    gram.diagonal(dim1=1, dim2=2).add_(penalty)
    weights = torch.linalg.solve(gram, centred.transpose(1, 2) @ (wanted - mean_wanted))
    return (queries - mean) @ weights + mean_wanted


def cosine_logits(
    points: Float[Tensor, "episode support dim"],
    labels: Int[Tensor, "support"],
    queries: Float[Tensor, "episode query dim"],
    *,
    temperature: float,
    steps: int,
) -> Float[Tensor, "episode query way"]:
    """Fit one direction a class to minimise the summed cross entropy of cosines over the temperature.

    Args:
        points, queries: coordinates of unit vectors; those of queries are shorter than 1 where they leave the span.
    """
    way = _n_ways(labels)
    divide = partial(rearrange, pattern="b (w d) -> b w d", w=way)

    def logits_of(flat: Tensor, clips: Tensor) -> Tensor:
        return clips @ functional.normalize(divide(flat), dim=-1).transpose(1, 2) / temperature

    def objective(flat: Float[Tensor, "episode parameter"]) -> Float[Tensor, "episode"]:
        return _cross_entropies(logits_of(flat, points), labels)

    shares = functional.one_hot(labels, way).to(points) / (labels == 0).sum()
    start = rearrange(shares.T @ points, "b w d -> b (w d)")
    return logits_of(minimise(objective, start, steps=steps), queries)


def _cross_entropies(
    logits: Float[Tensor, "episode support way"], labels: Int[Tensor, "support"]
) -> Float[Tensor, "episode"]:
    losses = -logits.log_softmax(dim=-1).gather(2, labels[None, :, None].expand(len(logits), -1, 1))
    return losses.sum(dim=(1, 2))


def _n_ways(labels: Int[Tensor, "support"]) -> int:
    return int(labels[-1]) + 1
