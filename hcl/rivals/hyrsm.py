"""Classify by set matching of features that an episode's clips adapt to each other (HyRSM: Wang et al., CVPR 2022).

HyRSM++ (Wang et al., 2023) adds a temporal term to the loss. The numbers of oddities are those of
`hcl/rivals/README.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hcl.matching.alignment import bimhm_similarity, frame_cosines
from hcl.rivals.attention import EpisodeAttention, NormedAttention
from hcl.rivals.heads import (
    N_HEADS,
    Draws,
    Keys,
    Output,
    Targets,
    active,
    by_episode,
    classification_loss,
    clip_keys,
    divided,
    joined,
    matching_loss,
    thinned,
)
from hcl.rivals.positions import feature_scale, hyrsm_positions


@dataclass(frozen=True)
class HyrsmSettings:
    """Hold the settings of HyRSM and HyRSM++; the defaults are those released for HyRSM on SSv2-Full.

    Attributes:
        average_shots: compare with the mean over a class's shots, frame by frame (the released 5-shot head), instead
            of every support clip (the 1-shot head).
        position_a: the features are multiplied by the root of channels / A (oddity 9).
        position_b: factor of the positions.
        scale: factor of the features instead of that root, so that it does not depend on the width; A is then unused.
        temperature: the mean cost of a frame, both ways added, is divided by it; None is one over the number of frames,
            which gives the released sum over frames (oddity 2).
        position_dropout, frame_dropout, attention_dropout, episode_dropout: rates after the positions, after the
            frames' attention, on the weights of the episode's attention, for which 0.05 is asked but 0.1 is used
            (oddity 10), and after it.
        classification: weight of the classification of frames (alpha).
        temporal: weight of the temporal term (gamma); above 0 the method is HyRSM++.
        window, temporal_balance, balance: omega, sigma and beta of the temporal term. Without a value of its own the
            release takes 1 for beta; its settings of SSv2 give 10 (oddity 23).
    """

    n_heads: int = N_HEADS
    average_shots: bool = False
    position_a: float = 10.0
    position_b: float = 1.0
    scale: float | None = None
    temperature: float | None = None
    position_dropout: float = 0.1
    frame_dropout: float = 0.2
    attention_dropout: float = 0.1
    episode_dropout: float = 0.05
    classification: float = 0.6
    temporal: float = 0.0
    window: int = 1
    temporal_balance: float = 51.0
    balance: float = 10.0

    CORRECTED: ClassVar[Mapping[str, Any]] = {"scale": feature_scale(2048, 10.0), "attention_dropout": 0.05}


class Hyrsm(nn.Module):
    """Relate the frames of each clip, then each query with the supports, and compare the sets of adapted frames.

    Args:
        channels: width of the frame features, a multiple of the number of heads.
        n_classes: number of training classes.
    """

    takes_maps = False

    def __init__(self, channels: int, n_classes: int, settings: HyrsmSettings | None = None):
        super().__init__()
        self.settings = settings = settings or HyrsmSettings()
        self.temporal_atte_before = NormedAttention(channels, settings.n_heads, dropout=settings.frame_dropout, place=1)
        self.temporal_atte = EpisodeAttention(
            channels,
            settings.n_heads,
            attention_dropout=settings.attention_dropout,
            dropout=settings.episode_dropout,
            place=2,
        )
        self.layer2 = nn.Sequential(nn.Conv1d(2 * channels, channels, kernel_size=1))
        self.classification_layer = nn.Linear(channels, n_classes)

    @property
    def weights(self) -> dict[str, float]:
        weights = {"match": 1.0, "classification": self.settings.classification}
        return weights | ({"temporal": self.settings.temporal} if self.settings.temporal else {})

    def scores_by_pairs(self, shot: int) -> bool:
        return False  # all supports of an episode adapt each other

    def encode(
        self, clips: Float[Tensor, "clip frame channel"], keys: Keys = None
    ) -> Float[Tensor, "clip frame channel"]:
        """Return the frames of each clip after the relation with each other."""
        settings = self.settings
        scale = settings.scale or feature_scale(clips.shape[-1], settings.position_a)
        placed = scale * clips + settings.position_b * hyrsm_positions(clips.shape[1], clips)
        return self.temporal_atte_before(thinned(placed, keys, 0, settings.position_dropout), keys).relu()

    def match(
        self,
        support: Float[Tensor, "episode way shot frame channel"],
        query: Float[Tensor, "episode query frame channel"],
        draws: Draws | None = None,
    ) -> Output:
        items, frames = self.adapted(support, query, draws)
        cosines = frame_cosines(frames[:, :, None], items)
        similarity = bimhm_similarity(cosines[:, :, 0]) * self._inverse_temperature(query.shape[2])
        logits = reduce(similarity, "b q (way item) -> b q way", "mean", way=support.shape[1])
        return Output(
            logits, temporal=self._temporal(items, frames) if self.training and self.settings.temporal else None
        )

    def adapted(
        self,
        support: Float[Tensor, "episode way shot frame channel"],
        query: Float[Tensor, "episode query frame channel"],
        draws: Draws | None = None,
    ) -> tuple[Float[Tensor, "episode query item frame channel"], Float[Tensor, "episode query frame channel"]]:
        """Return the frames of the items and of the queries after the relation within each query's episode.

        The map of [frame; relation] is a map of the frame, which all queries share, and one of the relation.
        """
        items = support.mean(dim=2) if self.settings.average_shots else support.flatten(1, 2)
        keys = None if draws is None else draws.query.flatten()
        relation = self.temporal_atte(items.mean(dim=2), query.mean(dim=2), keys).relu()
        convolution: Any = self.layer2[0]
        of_frame, of_relation = convolution.weight[..., 0].chunk(2, dim=1)
        added = functional.linear(relation, of_relation, convolution.bias)
        adapted_items = functional.linear(items, of_frame)[:, None] + added[:, :, :-1, None]
        return adapted_items, functional.linear(query, of_frame) + added[:, :, -1, None]

    def forward(
        self,
        support: Float[Tensor, "episode way shot frame channel"],
        query: Float[Tensor, "episode query frame channel"],
        draws: Draws | None = None,
    ) -> Output:
        settings = self.settings
        rates = (
            settings.position_dropout, settings.frame_dropout, settings.attention_dropout, settings.episode_dropout,
        )  # fmt: skip
        draws = active(draws, training=self.training, rates=rates)
        encoded = divided(self.encode(joined(support, query), clip_keys(draws)), support, query)
        classes = self.classification_layer(by_episode(*encoded))
        return replace(self.match(*encoded, draws), class_logits=classes)

    def losses(self, output: Output, targets: Targets) -> dict[str, Float[Tensor, ""]]:
        terms = {
            "match": matching_loss(output.logits, targets.labels),
            "classification": classification_loss(output, targets),
        }
        return terms | ({} if output.temporal is None else {"temporal": output.temporal.mean()})

    def _inverse_temperature(self, n_frames: int) -> float:
        return float(n_frames) if self.settings.temperature is None else 1 / self.settings.temperature

    def _temporal(
        self,
        items: Float[Tensor, "episode query item frame channel"],
        frames: Float[Tensor, "episode query frame channel"],
    ) -> Float[Tensor, "episode"]:
        settings = self.settings
        costs = partial(
            temporal_costs, window=settings.window, spread=settings.temporal_balance, balance=settings.balance
        )
        return costs(rearrange(items, "b q n t c -> b (q n) t c")) + costs(frames)


def temporal_costs(
    frames: Float[Tensor, "episode clip frame channel"], *, window: int, spread: float, balance: float
) -> Float[Tensor, "episode"]:
    """Return the mean over clips and pairs of frames of the cost that frames near in time differ, and distant ones not.

    Args:
        window: largest distance in time of near frames; their cost (1 - cosine) is divided by distance^2 + 1.
        spread: distant frames should differ by 1 - exp(-(distance - window)^2 / spread).
        balance: factor of what they differ too little.
    """
    unit = functional.normalize(frames, dim=-1)
    cost = 1 - unit @ unit.transpose(-1, -2)
    time = torch.arange(frames.shape[-2], device=frames.device, dtype=cost.dtype)
    distance = (time[:, None] - time).abs()
    near = cost / (distance.square() + 1)
    margin = 1 - torch.exp(-(distance - window).square() / spread)
    costs = torch.where(distance <= window, near, balance * (margin - cost).relu())
    return costs.mean(dim=(1, 2, 3))
