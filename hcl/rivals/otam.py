"""Classify by the temporal alignment of two clips (OTAM: Cao et al., CVPR 2020); nothing but the backbone learns.

The numbers of oddities are those of `hcl/rivals/README.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from hcl.matching.alignment import OTAM_TEMPERATURE, frame_cosines, otam_similarity
from hcl.rivals.heads import Draws, Keys, Output, Targets, divided, joined, matching_loss


@dataclass(frozen=True)
class OtamSettings:
    """Hold the settings of OTAM; the defaults are the released ones.

    Attributes:
        smoothing: temperature of the soft minimum (the paper's lambda).
        plain_exponentials: exponentials without a shift, which overflow in float32 (oddity 1).
        temperature: the mean cost of the two directions is divided by it; 1/2 gives the released sum (oddity 2).
        cosine_offset: added to the product of two lengths in the cosine (oddity 3).
    """

    smoothing: float = OTAM_TEMPERATURE
    plain_exponentials: bool = True
    temperature: float = 0.5
    cosine_offset: float = 0.01

    CORRECTED: ClassVar[Mapping[str, Any]] = {"plain_exponentials": False, "cosine_offset": 0.0}


class Otam(nn.Module):
    """Score a class by the mean alignment cost of the query and the class's shots."""

    takes_maps = False

    def __init__(self, settings: OtamSettings | None = None):
        super().__init__()
        self.settings = settings or OtamSettings()

    @property
    def weights(self) -> dict[str, float]:
        return {"match": 1.0}

    def scores_by_pairs(self, shot: int) -> bool:
        return True

    def encode(
        self, clips: Float[Tensor, "clip frame channel"], keys: Keys = None
    ) -> Float[Tensor, "clip frame channel"]:
        return clips

    def match(
        self,
        support: Float[Tensor, "episode way shot frame channel"],
        query: Float[Tensor, "episode query frame channel"],
        draws: Draws | None = None,
    ) -> Output:
        settings = self.settings
        cosines = frame_cosines(query, support.flatten(1, 2), offset=settings.cosine_offset)
        similarity = otam_similarity(
            cosines, temperature=settings.smoothing, plain_exponentials=settings.plain_exponentials
        )
        logits = reduce(similarity, "episode query (way shot) -> episode query way", "mean", shot=support.shape[2])
        return Output(logits / settings.temperature)

    def forward(
        self,
        support: Float[Tensor, "episode way shot frame channel"],
        query: Float[Tensor, "episode query frame channel"],
        draws: Draws | None = None,
    ) -> Output:
        return self.match(*divided(self.encode(joined(support, query)), support, query))

    def losses(self, output: Output, targets: Targets) -> dict[str, Float[Tensor, ""]]:
        return {"match": matching_loss(output.logits, targets.labels)}
