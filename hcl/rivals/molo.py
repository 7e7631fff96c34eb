"""Classify by set matching of frames and of motion between frames (MoLo: Wang et al., CVPR 2023).

The numbers of oddities are those of `hcl/rivals/README.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from hcl.matching.alignment import bimhm_similarity, frame_cosines
from hcl.rivals.decoder import decoder_blocks, reconstruction_loss
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
)
from hcl.rivals.positions import feature_scale
from hcl.rivals.streams import DROPOUTS, Stream

CONTRASTIVE = ("s2q", "q2s", "s2q_motion", "q2s_motion")
"""The names of the contrastive terms: supports' frames with the query's token, and the reverse, in each stream."""


@dataclass(frozen=True)
class MoloSettings:
    """Hold the settings of MoLo; the defaults are those released for SSv2-Full.

    Attributes:
        hidden: width inside the feed-forward networks (fixed in the release, oddity 21).
        motion_share: the motion features have channels / motion_share channels.
        position_a, position_b, scale: as in `hcl.rivals.hyrsm.HyrsmSettings` (oddity 9).
        motion: weight of the motion stream's distance in the logits.
        temperature: the mean cost of a frame, both ways added, is divided by it in both streams; None is one over the
            number of a stream's frames or steps, which gives the released sums (oddity 2).
        cosine_offset: added to the product of two lengths in the cosine (oddity 3).
        position_dropout, frame_dropout, hidden_dropout: rates after the positions, after the attention, and at two
            places of the feed-forward network.
        classification, contrastive, reconstruction: weights of the classification of clips (alpha), of each
            contrastive term, and of the reconstruction of images (rho); 0 leaves out its computation.
    """

    n_heads: int = N_HEADS
    hidden: int = 2048
    motion_share: int = 8
    position_a: float = 10.0
    position_b: float = 1.0
    scale: float | None = None
    motion: float = 0.3
    temperature: float | None = None
    cosine_offset: float = 0.01
    position_dropout: float = 0.1
    frame_dropout: float = 0.2
    hidden_dropout: float = 0.05
    classification: float = 0.8
    contrastive: float = 0.05
    reconstruction: float = 0.1

    CORRECTED: ClassVar[Mapping[str, Any]] = {"scale": feature_scale(2048, 10.0), "cosine_offset": 0.0}


class Molo(nn.Module):
    """Compare the frames and the motion of clips, each with a token that learns to stand for the whole clip.

    Args:
        channels: of the feature maps.
        n_classes: number of training classes.
    """

    takes_maps = True

    def __init__(self, channels: int, n_classes: int, settings: MoloSettings | None = None):
        super().__init__()
        self.settings = settings = settings or MoloSettings()
        n_motion = channels // settings.motion_share
        self.scale, self.scale_motion = (nn.Parameter(torch.ones(1)) for _ in range(2))
        self.class_token, self.class_token_motion = (nn.Parameter(torch.randn(1, 1, channels)) for _ in range(2))
        self.temporal_atte_before, self.temporal_atte_before_motion = (
            Stream(
                channels,
                n_heads=settings.n_heads,
                hidden=settings.hidden,
                scale=settings.scale or feature_scale(channels, settings.position_a),
                position_factor=settings.position_b,
                dropouts=self._rates,
                place=place,
            )
            for place in (0, DROPOUTS)
        )
        self.motion_reduce = nn.Conv3d(channels, n_motion, kernel_size=3, padding=1)
        self.motion_conv = nn.Conv2d(n_motion, n_motion, kernel_size=3, padding=1)
        self.motion_up = nn.Conv2d(n_motion, channels, kernel_size=1)
        self.classification_layer = nn.Linear(channels, n_classes)
        (self.up1, self.up2, self.up3), self.outc = decoder_blocks(n_motion)

    @property
    def weights(self) -> dict[str, float]:
        settings = self.settings
        weights = {"match": 1.0, "classification": settings.classification}
        weights |= dict.fromkeys(CONTRASTIVE, settings.contrastive)
        return weights | ({"reconstruction": settings.reconstruction} if settings.reconstruction else {})

    def scores_by_pairs(self, shot: int) -> bool:
        return shot == 1  # a class's tokens are averaged over its shots before they are compared

    def encode(
        self, clips: Float[Tensor, "clip frame channel row column"], keys: Keys = None
    ) -> Float[Tensor, "clip token channel"]:
        """Return the frame stream's tokens and then the motion stream's, each with its global token first.

        A clip of T frames has T + 1 tokens of frames and T of motion.
        """
        return self._tokens(clips, self._motion(clips), keys)

    def match(
        self,
        support: Float[Tensor, "episode way shot token channel"],
        query: Float[Tensor, "episode query token channel"],
        draws: Draws | None = None,
    ) -> Output:
        supports = _streams(support.mean(dim=2))
        queries = _streams(query)
        frames, motion = (self._logits(*pair) for pair in zip(supports, queries, strict=True))
        logits = frames + self.settings.motion * motion
        if not self.training:
            return Output(logits)
        scales = (self.scale, self.scale_motion)
        contrastive = [
            logits_of_one_way
            for support_tokens, query_tokens, scale in zip(supports, queries, scales, strict=True)
            for logits_of_one_way in self._contrastive(support_tokens, query_tokens, scale)
        ]
        return Output(logits, contrastive=dict(zip(CONTRASTIVE, contrastive, strict=True)))

    def forward(
        self,
        support: Float[Tensor, "episode way shot frame channel row column"],
        query: Float[Tensor, "episode query frame channel row column"],
        draws: Draws | None = None,
    ) -> Output:
        draws = active(draws, training=self.training, rates=self._rates)
        clips = joined(support, query)
        motion = self._motion(clips)
        encoded = divided(self._tokens(clips, motion, clip_keys(draws)), support, query)
        means = sum(tokens.mean(dim=2) for tokens in _streams(by_episode(*encoded)))
        output = replace(self.match(*encoded, draws), class_logits=self.classification_layer(means))
        if self.training and self.settings.reconstruction:
            output = replace(output, differences=self._decoded(by_episode(*divided(motion, support, query))))
        return output

    def losses(self, output: Output, targets: Targets) -> dict[str, Float[Tensor, ""]]:
        """Return the terms, which in evaluation are only those of the logits and of the clips' classes.

        Raises ValueError if differences of images were predicted and there are no images.
        """
        named = {"match": output.logits, **output.contrastive}
        terms = {name: matching_loss(logits, targets.labels) for name, logits in named.items()}
        terms["classification"] = classification_loss(output, targets)
        if output.differences is not None:
            if targets.images is None:
                raise ValueError("the reconstruction loss needs the images of the clips")
            terms["reconstruction"] = reconstruction_loss(output.differences, targets.images)
        return terms

    @property
    def _rates(self) -> tuple[float, float, float]:
        settings = self.settings
        return settings.position_dropout, settings.frame_dropout, settings.hidden_dropout

    def _motion(
        self, clips: Float[Tensor, "clip frame channel row column"]
    ) -> Float[Tensor, "clip step motion row column"]:
        """Return the changes between consecutive frames in few channels."""
        reduced = rearrange(self.motion_reduce(rearrange(clips, "v t c y x -> v c t y x")), "v c t y x -> v t c y x")
        later = self.motion_conv(reduced[:, 1:].flatten(0, 1)).unflatten(0, (len(clips), -1))
        return later - reduced[:, :-1]

    def _tokens(
        self,
        clips: Float[Tensor, "clip frame channel row column"],
        motion: Float[Tensor, "clip step motion row column"],
        keys: Keys,
    ) -> Float[Tensor, "clip token channel"]:
        frames = self.temporal_atte_before(reduce(clips, "v t c y x -> v t c", "mean"), self.class_token, keys)
        raised = self.motion_up(motion.flatten(0, 1)).relu()
        steps = reduce(raised, "(v t) c y x -> v t c", "mean", v=len(clips))
        return torch.cat([frames, self.temporal_atte_before_motion(steps, self.class_token_motion, keys)], dim=1)

    def _logits(
        self,
        support: Float[Tensor, "episode way token channel"],
        query: Float[Tensor, "episode query token channel"],
    ) -> Float[Tensor, "episode query way"]:
        """Return minus the distance of the local tokens in one stream."""
        cosines = frame_cosines(query[:, :, 1:], support[:, :, 1:], offset=self.settings.cosine_offset)
        temperature = self.settings.temperature or 1 / cosines.shape[-1]
        return bimhm_similarity(cosines) / temperature

    def _contrastive(
        self,
        support: Float[Tensor, "episode way token channel"],
        query: Float[Tensor, "episode query token channel"],
        scale: Float[Tensor, "1"],
    ) -> list[Float[Tensor, "episode query way"]]:
        """Return minus the distance of the support's local tokens to the query's global one, and the reverse."""
        tokens = (query[:, :, :1], support[:, :, 1:]), (query[:, :, 1:], support[:, :, :1])
        cosines = (frame_cosines(*pair, offset=self.settings.cosine_offset) for pair in tokens)
        return [-scale * (1 - each).sum(dim=(-2, -1)) for each in cosines]

    def _decoded(
        self, motion: Float[Tensor, "episode clip step motion row column"]
    ) -> Float[Tensor, "episode clip step 3 height width"]:
        images = self.up3(self.up2(self.up1(motion.flatten(1, 2))))
        last = self.outc["conv"](images.flatten(0, 1))
        return last.unflatten(0, motion.shape[:3])


def _streams(
    tokens: Float[Tensor, "episode clip token channel"],
) -> tuple[Float[Tensor, "episode clip frame_token channel"], Float[Tensor, "episode clip motion_token channel"]]:
    """Divide encoded clips into the T + 1 tokens of frames and the T of motion."""
    n_motion = tokens.shape[2] // 2
    frames, motion = tokens.split([n_motion + 1, n_motion], dim=2)
    return frames, motion
