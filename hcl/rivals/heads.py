"""Define the interface of the heads: what they take and return, and the terms of their losses.

Every head works in two parts. `encode` sees each clip alone, so that its result serves all episodes of the clip;
`match` sees the encoded clips of whole episodes. The forward pass is the one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from hcl.models.dropout import dropped

Keys = Int[Tensor, "clip"] | None
"""Key of each clip's dropout draws (`hcl.models.dropout`); None means no dropout."""

N_HEADS = 8
"""Heads of the attention of HyRSM and MoLo."""


@dataclass(frozen=True)
class Draws:
    """Hold the key of each clip's dropout draws (`hcl.models.dropout`) for a batch of episodes."""

    support: Int[Tensor, "episode way shot"]
    query: Int[Tensor, "episode query"]


@dataclass(frozen=True)
class Output:
    """Hold what a head computes of a batch of episodes.

    Attributes:
        logits: of each query and class; minus a distance, larger is likelier.
        class_logits: of the training classes, for each clip in the order of `by_episode`, and for HyRSM each frame.
        contrastive: further logits of each query and class, by the name of their loss term (MoLo).
        temporal: the temporal term of each episode (HyRSM++ in training).
        differences: the predicted differences of consecutive images (MoLo in training).
    """

    logits: Float[Tensor, "episode query way"]
    class_logits: Float[Tensor, "episode clip *frame class"] | None = None
    contrastive: Mapping[str, Float[Tensor, "episode query way"]] = field(default_factory=dict)
    temporal: Float[Tensor, "episode"] | None = None
    differences: Float[Tensor, "episode clip step 3 row column"] | None = None


@dataclass(frozen=True)
class Targets:
    """Hold what the losses compare an output with.

    Attributes:
        labels: the way of each query.
        classes: the training class of each clip, the supports class by class and then the queries.
        images: the normalised images of the same clips, for MoLo's reconstruction.
    """

    labels: Int[Tensor, "episode query"]
    classes: Int[Tensor, "episode clip"] | None = None
    images: Float[Tensor, "episode clip frame 3 row column"] | None = None


S = TypeVar("S")


def in_mode(kind: type[S], mode: str, **changes: Any) -> S:
    """Return a head's settings in the mode `published` or `corrected`, with further changes.

    The defaults of a class of settings are published; its `CORRECTED` holds what differs without the released oddities.

    Raises:
        ValueError: the mode is neither of the two.
    """
    modes: dict[str, Any] = {"published": {}, "corrected": kind.CORRECTED}  # type: ignore[attr-defined]
    if mode not in modes:
        raise ValueError(f"mode {mode!r} is neither 'published' nor 'corrected'")
    return kind(**{**modes[mode], **changes})


@runtime_checkable
class Head(Protocol):
    """Define the interface of the heads.

    A head takes frame features (..., frame, channel), or if `takes_maps` the maps (..., frame, channel, row, column).
    """

    @property
    def takes_maps(self) -> bool:
        """Return true if the head needs the feature maps instead of their means."""
        ...

    @property
    def weights(self) -> dict[str, float]:
        """Return the weight of each term of the loss."""
        ...

    def scores_by_pairs(self, shot: int) -> bool:
        """Return true if the logits with this many shots are the means of `pair_scores` over a class's shots."""
        ...

    def encode(self, clips: Tensor, keys: Keys = None) -> Float[Tensor, "clip ..."]:
        """Return the features of each clip, which do not depend on the episode."""
        ...

    def match(
        self,
        support: Float[Tensor, "episode way shot ..."],
        query: Float[Tensor, "episode query ..."],
        draws: Draws | None = None,
    ) -> Output:
        """Return the logits of encoded queries, which depend on the query and the supports alone."""
        ...

    def __call__(
        self,
        support: Float[Tensor, "episode way shot frame ..."],
        query: Float[Tensor, "episode query frame ..."],
        draws: Draws | None = None,
    ) -> Output:
        """Encode and match the clips of a batch of episodes, and add what the loss needs.

        Raises ValueError if there is no support, or in training with dropout if `draws` is None.
        """
        ...

    def losses(self, output: Output, targets: Targets) -> dict[str, Float[Tensor, ""]]:
        """Return each term of the loss without its weight: means over episodes of what is released for one."""
        ...


@torch.no_grad()
def pair_scores(
    head: Head,
    query: Float[Tensor, "query *feature"],
    support: Float[Tensor, "support *feature"],
    *,
    chunk_size: int = 64,
) -> Float[Tensor, "query support"]:
    """Return the logit of every pair of encoded clips, each support clip as a class with one shot.

    Args:
        chunk_size: queries at a time, which bounds memory and never changes a result.

    Raises:
        ValueError: the head's logits do not follow from pairs of clips.
    """
    if not head.scores_by_pairs(shot=1):
        raise ValueError(f"the logits of {type(head).__name__} depend on all supports of an episode, not on pairs")
    classes = support[None, :, None]
    return torch.cat([head.match(classes, part[None]).logits[0] for part in query.split(chunk_size)])


def joined(support: Float[Tensor, "episode way shot *clip"], query: Float[Tensor, "episode query *clip"]) -> Tensor:
    """Return all clips as one batch: the supports of all episodes, then the queries. Raises ValueError without any."""
    if 0 in support.shape[:3] or not query.shape[1]:
        raise ValueError(
            f"an episode needs a support clip of each class and a query, got supports {tuple(support.shape[:3])} "
            f"(episode, way, shot) and {query.shape[1]} queries"
        )
    return torch.cat([support.flatten(0, 2), query.flatten(0, 1)])


def divided(clips: Tensor, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """Undo `joined` for features of the same clips: (episode, way, shot, ...) and (episode, query, ...)."""
    n_supports = support.shape[:3].numel()
    return clips[:n_supports].unflatten(0, support.shape[:3]), clips[n_supports:].unflatten(0, query.shape[:2])


def by_episode(
    support: Float[Tensor, "episode way shot *feature"], query: Float[Tensor, "episode query *feature"]
) -> Float[Tensor, "episode clip *feature"]:
    """Return each episode's clips in one axis: the supports class by class, then the queries."""
    return torch.cat([support.flatten(1, 2), query], dim=1)


def active(draws: Draws | None, *, training: bool, rates: tuple[float, ...]) -> Draws | None:
    """Return the draws if dropout acts. Raises ValueError if it acts and there are none."""
    if not (training and any(rates)):
        return None
    if draws is None:
        raise ValueError(f"dropout of {', '.join(map(str, rates))} in training needs the draws of each clip")
    return draws


def clip_keys(draws: Draws | None) -> Keys:
    """Return the keys in the order of `joined`."""
    return None if draws is None else torch.cat([draws.support.flatten(), draws.query.flatten()])


def thinned(x: Float[Tensor, "clip *value"], keys: Keys, place: int, rate: float) -> Float[Tensor, "clip *value"]:
    """Apply dropout if there are keys."""
    return x if keys is None else dropped(x, keys, place, rate)


def matching_loss(
    logits: Float[Tensor, "episode query way"], labels: Int[Tensor, "episode query"], *, summed: bool = False
) -> Float[Tensor, ""]:
    """Return the cross entropy of the queries: its mean, or the mean over episodes of their sums."""
    loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    return loss * labels.shape[1] if summed else loss


def classification_loss(output: Output, targets: Targets) -> Float[Tensor, ""]:
    """Return the mean cross entropy of the training classes over all clips, and frames if the logits have any.

    Raises ValueError without class logits or training classes.
    """
    logits, classes = output.class_logits, targets.classes
    if logits is None or classes is None:
        raise ValueError("the classification loss needs class logits and the training class of each clip")
    n_each = logits.shape[2:-1].numel()
    target = repeat(classes, "episode clip -> (episode clip frame)", frame=n_each)
    return functional.cross_entropy(rearrange(logits, "episode clip ... n -> (episode clip ...) n"), target)
